//! Loads aimed at memory of the host.

use super::forms::{expect_confined, form};
use super::snippet::snippet;
use crate::IsolationBackend;
use crate::conformance::Finding;
use crate::conformance::fixture::Fixture;
use crate::conformance::outside::CANARY;

pub(in super::super) fn no_ordinary_load_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(load_base: "mov rcx, [rax]"),
        form!(load_index: "mov rcx, [rbx + r8]"),
        form!(load_scaled: "mov rcx, [rbx + r9 * 8 + 16]"),
        form!(load_absolute: "movabs al, [0x60005a5a0000]"),
        form!(load_extended: "movsx rcx, byte ptr [rax]"),
        form!(load_compare: "cmp qword ptr [rax], 0"),
        form!(load_test: "test byte ptr [rax], 1"),
        form!(load_add: "add rcx, [rax]"),
        form!(load_multiply: "imul rcx, [rax], 3"),
        form!(load_divide: "xor edx, edx", "mov rsi, rax", "mov eax, 5" ; "div qword ptr [rsi]"),
        form!(load_conditional: "cmovz rcx, [rax]"),
        form!(load_scan: "bsf rcx, [rax]"),
        form!(load_count: "popcnt rcx, [rax]"),
        form!(load_bit: "bt [rbx], rdx"),
        form!(load_fs: "mov rcx, fs:[0]"),
        form!(load_gs: "mov rcx, gs:[0]"),
        form!(load_fpu: "fld qword ptr [rax]"),
        form!(load_fpu_control: "fldcw [rax]"),
        form!(load_mxcsr: "ldmxcsr [rax]"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_implicit_load_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(implicit_pop: "mov rsp, rax" ; "pop rcx"),
        form!(implicit_popfq: "mov rsp, rax" ; "popfq"),
        form!(implicit_ret: "mov rsp, rax" ; "ret"),
        form!(implicit_leave: "mov rbp, rax" ; "leave"),
        form!(implicit_push: "push qword ptr [rax]"),
        form!(implicit_jump: "jmp [rax]"),
        form!(implicit_call: "call [rax]"),
        form!(implicit_lods: "lodsq"),
        form!(implicit_movs: "mov rdi, rbx" ; "movsq"),
        form!(implicit_cmps: "mov rdi, rbx" ; "cmpsb"),
        form!(implicit_cmps_other: "mov rsi, rbx" ; "repe cmpsb"),
        form!(implicit_scas: "scasb"),
        form!(implicit_xlat: "mov rbx, rax", "xor eax, eax" ; "xlatb"),
        form!(implicit_fxrstor: "fxrstor [rax]"),
        form!(implicit_xrstor: "mov eax, 3", "xor edx, edx" ; "xrstor [rdi]"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_vector_load_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let mut forms = vec![
        form!(vector_load: "movups xmm0, [rax]"),
        form!(vector_load_aligned: "movaps xmm0, [rbx + r8]"),
        form!(vector_operand: "paddq xmm0, [rax]"),
        form!(vector_insert: "pinsrq xmm0, [rax], 0"),
        form!(vector_compare: "pcmpistri xmm0, [rax], 0"),
    ];
    if is_x86_feature_detected!("avx2") {
        forms.extend([
            form!(vector_broadcast: "vbroadcastss ymm0, [rax]"),
            form!(vector_load_masked: "vpcmpeqb ymm2, ymm2, ymm2" ; "vmaskmovps ymm0, ymm2, [rax]"),
            form!(vector_gather:
                "vpcmpeqb ymm2, ymm2, ymm2", "vmovups ymm1, [0x20000100]" ; "vpgatherqq ymm0, [rbx + ymm1], ymm2"),
            form!(vector_gather_base:
                "vpcmpeqb ymm2, ymm2, ymm2", "vpxor ymm1, ymm1, ymm1" ; "vpgatherdd ymm0, [rax + ymm1 * 4], ymm2"),
        ]);
    }
    if is_x86_feature_detected!("avx512f") {
        forms.extend([
            form!(wide_load: "vmovups zmm0, [rax]"),
            form!(wide_broadcast: "vaddpd zmm0, zmm0, qword ptr [rax]{{1to8}}"),
            form!(wide_expand: "kmovw k1, ecx" ; "vexpandpd zmm0 {{k1}}, [rax]"),
            form!(wide_gather:
                "kmovw k1, ecx", "vmovups zmm1, [0x20000100]" ; "vpgatherqq zmm0 {{k1}}, [rbx + zmm1]"),
        ]);
    }
    expect_confined(fixture, CANARY, &[], &forms)
}

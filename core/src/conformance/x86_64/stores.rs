//! Stores aimed at memory of the host, by every way an instruction has to name memory.

use super::forms::{Form, expect_confined, form};
use super::snippet::snippet;
use crate::IsolationBackend;
use crate::conformance::Finding;
use crate::conformance::fixture::Fixture;
use crate::conformance::outside::{CANARY, FOREIGN_CODE};

pub(in super::super) fn no_ordinary_store_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(store_base: "mov [rax], r10"),
        form!(store_sib: "mov [r12], r10"),
        form!(store_byte: "mov byte ptr [rax], 1"),
        form!(store_far: "mov [rax + 0x7f0], r10d"),
        form!(store_back: "sub rax, -0x80", "mov rcx, rax" ; "mov [rcx - 0x80], r10w"),
        form!(store_index: "mov [rbx + r8], r10"),
        form!(store_scaled: "mov [rbx + r9 * 8], r10"),
        form!(store_index_only: "mov [r8 + 0x20000800], r10"),
        form!(store_stack_base: "sub r8, rsp", "add r8, rbx" ; "mov [rsp + r8], r10"),
        form!(store_frame_base: "mov rbp, rax" ; "mov [rbp + 8], r10"),
        form!(store_absolute: "mov eax, 0x0bad0bad" ; "movabs [0x60005a5a0000], eax"),
        form!(store_absolute_byte: "movabs [0x60005a5a0001], al"),
        form!(store_set: "setz byte ptr [rax]"),
        form!(store_add: "add [rax], r10"),
        form!(store_negate: "neg qword ptr [rax]"),
        form!(store_shift: "shl qword ptr [rax], 3"),
        form!(store_double_shift: "shld [rax], r10, 7"),
        form!(store_exchange: "xchg [rax], r10"),
        form!(store_locked: "lock inc dword ptr [rax]"),
        form!(store_xadd: "lock xadd [rax], r10"),
        form!(store_cmpxchg: "mov rsi, rax", "movabs rax, 0x5ec3e75ec3e75ec3" ; "lock cmpxchg [rsi], r10"),
        form!(store_cmpxchg16b: "movabs rax, 0x5ec3e75ec3e75ec3", "mov rdx, rax" ; "lock cmpxchg16b [rdi]"),
        form!(store_nontemporal: "movnti [rax], r10"),
        form!(store_swapped: "movbe [rax], r10"),
        form!(store_fpu: "fld1" ; "fstp qword ptr [rax]"),
        form!(store_fpu_bcd: "fld1" ; "fbstp [rax]"),
        form!(store_fpu_control: "fnstcw [rax]"),
        form!(store_fpu_status: "fnstsw [rax]"),
        form!(store_mxcsr: "stmxcsr [rax]"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_stack_store_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(stack_mov: "lea rsp, [rax + 8]" ; "push r10"),
        form!(stack_add: "sub rax, rsp", "add rax, 16", "add rsp, rax" ; "push 5"),
        form!(stack_sub: "lea rcx, [rsp - 16]", "sub rcx, rax", "sub rsp, rcx" ; "push r10"),
        form!(stack_xchg: "add rax, 32", "xchg rsp, rax" ; "pushfq"),
        form!(stack_pop_rsp: "add rax, 32", "push rax", "pop rsp" ; "push r10"),
        form!(stack_from_memory: "add rax, 32", "mov [rbx], rax", "mov rsp, [rbx]" ; "push r10"),
        form!(stack_from_frame: "lea rcx, [rax + 32]", "mov rbp, rcx", "mov rsp, rbp" ; "push rbp"),
        form!(stack_cmov: "add rax, 32", "cmp eax, eax", "cmovz rsp, rax" ; "push r10"),
        form!(stack_and: "add rax, 32", "mov rsp, -1", "and rsp, rax" ; "push r10"),
        form!(stack_write_call: "lea rsp, [rax + 8]" ; "call 2f", "2: nop"),
        form!(stack_write_call_indirect: "lea rsp, [rax + 8]", "lea rcx, [rip + 2f]" ; "call rcx", "2: nop"),
        form!(stack_enter: "lea rsp, [rax + 16]" ; "enter 0, 0"),
        form!(stack_enter_nested: "lea rsp, [rax + 64]", "mov rbp, rbx" ; "enter 16, 2"),
        form!(stack_store_near: "mov rsp, rax" ; "mov [rsp + 8], r10"),
        form!(stack_pop_to: "pop qword ptr [rax]"),
        form!(stack_push_word: "lea rsp, [rax + 8]" ; "push ax"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_string_store_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(string_stosb: "stosb"),
        form!(string_stosq: "rep stosq"),
        form!(string_stosq_back: "mov ecx, 4", "add rdi, 32", "std" ; "rep stosq"),
        form!(string_movsb: "mov rsi, rbx" ; "movsb"),
        form!(string_movsq: "mov rsi, rbx" ; "rep movsq"),
        form!(string_endless: "mov rcx, -1" ; "rep stosb"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_bit_store_leaves_the_domain<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let forms = [
        form!(bit_set: "add rdx, 2" ; "bts [rbx], rdx"),
        form!(bit_set_locked: "add rdx, 2" ; "lock bts [rbx], rdx"),
        form!(bit_reset: "btr [rbx], rdx"),
        form!(bit_complement: "btc [rbx], rdx"),
        form!(bit_stack: "mov r11, rbx", "sub r11, rsp", "lea rdx, [rdx + r11 * 8]" ; "btc [rsp], rdx"),
        form!(bit_relative: "lea r11, [rip + 2f]", "mov rdx, rax", "sub rdx, r11", "shl rdx, 3", "add rdx, 64" ; "btc [rip + 2f], rdx", "2: nop"),
        form!(bit_based: "btc qword ptr [rax], 5"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_segment_relative_store_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(segment_fs: "mov fs:[0], r10"),
        form!(segment_fs_register: "xor ecx, ecx" ; "mov fs:[rcx], r10"),
        form!(segment_fs_negative: "mov rcx, -64" ; "mov fs:[rcx + 64], r10"),
        form!(segment_fs_write: "mov rcx, rax", "wrfsbase rcx" ; "mov fs:[8], r10"),
        form!(segment_fs_zero: "xor ecx, ecx", "wrfsbase rcx" ; "mov fs:[rax], r10"),
        form!(segment_gs: "mov gs:[0], r10"),
        form!(segment_gs_write: "wrgsbase rax" ; "mov gs:[16], r10"),
        form!(segment_gs_zero: "xor ecx, ecx", "wrgsbase rcx" ; "mov gs:[rax], r10"),
        form!(segment_gs_locked: "lock inc qword ptr gs:[0]"),
    ];
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_vector_store_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let mut forms = vec![
        form!(vector_movups: "movups [rax], xmm0"),
        form!(vector_movaps: "movaps [rbx + r8], xmm0"),
        form!(vector_movntdq: "movntdq [rax], xmm0"),
        form!(vector_movq: "movq qword ptr [rax], xmm0"),
        form!(vector_movhps: "movhps [rax], xmm0"),
        form!(vector_extract: "pextrq qword ptr [rax], xmm0, 0"),
        form!(vector_masked: "pcmpeqb xmm2, xmm2" ; "maskmovdqu xmm0, xmm2"),
        form!(vector_masked_mmx: "pcmpeqb mm2, mm2" ; "maskmovq mm0, mm2"),
    ];
    if is_x86_feature_detected!("avx2") {
        forms.extend([
            form!(vector_vmovups: "vmovups [rax], ymm0"),
            form!(vector_vmaskmov: "vpcmpeqb ymm2, ymm2, ymm2" ; "vmaskmovps [rax], ymm2, ymm0"),
            form!(vector_vpmaskmov: "vpcmpeqb ymm2, ymm2, ymm2" ; "vpmaskmovq [rax], ymm2, ymm0"),
            form!(vector_vmaskmovdqu: "vpcmpeqb xmm2, xmm2, xmm2" ; "vmaskmovdqu xmm0, xmm2"),
        ]);
    }
    if is_x86_feature_detected!("avx512f") {
        forms.extend(avx512_stores());
    }
    expect_confined(fixture, CANARY, &[], &forms)
}

fn avx512_stores() -> [Form; 6] {
    [
        form!(wide_store: "vmovups [rax], zmm0"),
        form!(wide_masked: "kmovw k1, ecx" ; "vmovups [rax] {{k1}}, zmm0"),
        form!(wide_compressed: "kmovw k1, ecx" ; "vcompresspd [rax] {{k1}}, zmm0"),
        form!(wide_narrowed: "vpmovqb [rax], zmm0"),
        form!(wide_scattered:
            "kmovw k1, ecx", "vmovups zmm1, [0x20000100]" ; "vpscatterqq [rbx + zmm1] {{k1}}, zmm0"),
        form!(wide_scattered_base: "kmovw k1, ecx", "vpxorq zmm1, zmm1, zmm1" ; "vpscatterdd [rax + zmm1 * 4] {{k1}}, zmm0"),
    ]
}

pub(in super::super) fn no_state_saving_store_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let mut forms = vec![
        form!(save_fxsave: "fxsave [rax]"),
        form!(save_fxsave64: "fxsave64 [rbx + r8]"),
        form!(save_fnstenv: "fnstenv [rax]"),
        form!(save_fnsave: "fnsave [rax]"),
        form!(save_xsave: "mov eax, 7", "xor edx, edx" ; "xsave [rdi]"),
        form!(save_xsave64: "mov eax, 7", "xor edx, edx" ; "xsave64 [rdi]"),
    ];
    if is_x86_feature_detected!("xsavec") {
        forms.push(form!(save_xsavec: "mov eax, 7", "xor edx, edx" ; "xsavec [rdi]"));
    }
    if is_x86_feature_detected!("xsaveopt") {
        forms.push(form!(save_xsaveopt: "mov eax, 7", "xor edx, edx" ; "xsaveopt [rdi]"));
    }
    expect_confined(fixture, CANARY, &[], &forms)
}

pub(in super::super) fn no_store_reaches_the_host_s_code<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let forms = [
        form!(code_store: "mov [rax], r10"),
        form!(code_string: "rep stosb"),
        form!(code_bit: "btc [rbx], rdx"),
        form!(code_push: "lea rsp, [rax + 8]" ; "push r10"),
    ];
    expect_confined(fixture, FOREIGN_CODE, &[0xcc; 64], &forms)
}

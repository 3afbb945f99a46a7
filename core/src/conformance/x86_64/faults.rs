//! Faults: kind, address, program counter and registers.

use super::processor::raises_vector_arithmetic_faults;
use super::registers::numbered;
use super::snippet::{Snippet, snippet};
use crate::arch::{Flags, Gpr};
use crate::conformance::Finding;
use crate::conformance::fixture::{
    CODE, DATA, Fixture, Guest, HOLE, Hex, STACK_POINTER, expect_all, expect_equal, state_at,
};
use crate::{FaultKind, IsolationBackend, PAGE_SIZE, Registers, Rights};

/// A page that may only be read, and one that may not be touched.
const READ_ONLY: u64 = 0x2100_0000;
const NO_ACCESS: u64 = 0x2200_0000;

const READ: FaultKind = FaultKind::Read { mapped: false };
const WRITE: FaultKind = FaultKind::Write { mapped: false };
const WRITE_DENIED: FaultKind = FaultKind::Write { mapped: true };

/// One faulting instruction and what it must do. It finds its address in rbx.
struct Case {
    code: Snippet,
    target: u64,
    kind: FaultKind,
    address: u64,
}

/// Runs each case on its own thread: the fault is as stated, and no register has changed.
fn check<B: IsolationBackend>(fixture: &Fixture<B>, cases: &[Case]) -> Finding {
    fixture.map(READ_ONLY, PAGE_SIZE, Rights::READ)?;
    fixture.map(NO_ACCESS, PAGE_SIZE, Rights::empty())?;
    expect_all(cases, |case| {
        fixture.map_code(CODE, case.code.bytes)?;
        let mut state = state_at(CODE);
        numbered(&mut state.registers);
        state.registers.set(Gpr::Rbx, case.target);
        state.registers.flags = Flags(Flags::FIXED | 0x41);
        let before = state.registers;
        let mut guest = fixture.thread(state)?;
        let named = |why| format!("{:x?} with rbx = {:#x}: {why}", case.code.bytes, case.target);
        let pc = CODE + case.code.here;
        guest.run_to(case.kind, case.address, pc).map_err(named)?;
        expect_unchanged(&guest, &before).map_err(named)
    })
}

fn expect_unchanged<B: IsolationBackend>(guest: &Guest<'_, B>, before: &Registers) -> Finding {
    expect_equal("registers", guest.registers().gpr.map(Hex), before.gpr.map(Hex))?;
    expect_equal("flags", visible(guest.registers().flags), visible(before.flags))
}

/// The flags that instructions set.
fn visible(flags: Flags) -> Hex {
    Hex(flags.0 & Flags::STATUS_AND_DIRECTION)
}

pub(in super::super) fn memory_faults_are_exact<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let case = |code, target, kind| Case { code, target, kind, address: target };
    let load = snippet!(fault_load: "mov rax, [rbx]");
    let store = snippet!(fault_store: "mov [rbx], rax");
    let update = snippet!(fault_update: "add [rbx], rax");
    let cases = [
        case(load, HOLE, READ),
        case(load, 0, READ),
        case(load, NO_ACCESS, FaultKind::Read { mapped: true }),
        case(store, HOLE + 5, WRITE),
        case(store, READ_ONLY + 8, WRITE_DENIED),
        case(store, NO_ACCESS, WRITE_DENIED),
        case(update, READ_ONLY, WRITE_DENIED),
        case(snippet!(fault_exchange: "xchg [rbx], rax"), READ_ONLY, WRITE_DENIED),
        case(snippet!(fault_locked: "lock xadd [rbx], rax"), READ_ONLY, WRITE_DENIED),
        case(snippet!(fault_compare: "cmp byte ptr [rbx], 1"), HOLE, READ),
        case(snippet!(fault_extend: "movzx eax, word ptr [rbx]"), HOLE, READ),
        case(snippet!(fault_vector: "movups xmm0, [rbx]"), HOLE, READ),
        case(snippet!(fault_store_byte: "mov byte ptr [rbx], 1"), READ_ONLY + 4095, WRITE_DENIED),
        // Eight bytes of which the last four lie in the next, unmapped page: its first byte is what faults.
        Case { code: load, target: READ_ONLY + 4092, kind: READ, address: READ_ONLY + 4096 },
        // Addresses with a displacement and an index.
        Case {
            code: snippet!(fault_far: "mov eax, [rbx + 0x1234]"),
            target: HOLE,
            kind: READ,
            address: HOLE + 0x1234,
        },
        Case {
            code: snippet!(fault_near: "mov eax, [rbx - 8]"),
            target: HOLE,
            kind: READ,
            address: HOLE - 8,
        },
        Case {
            code: snippet!(fault_scaled: "mov eax, [rbx + rbx * 2]"),
            target: HOLE / 3,
            kind: READ,
            address: HOLE / 3 * 3,
        },
        Case {
            code: snippet!(fault_absolute: "mov eax, [0x28000040]"),
            target: 0,
            kind: READ,
            address: HOLE + 0x40,
        },
        Case {
            code: snippet!(fault_moffs: "movabs eax, [0x28000048]"),
            target: 0,
            kind: READ,
            address: HOLE + 0x48,
        },
        Case {
            code: snippet!(fault_relative: "mov eax, [rip + 0x18000000 - 6]"),
            target: 0,
            kind: READ,
            address: HOLE,
        },
        Case {
            code: snippet!(fault_push_memory: "push qword ptr [rbx]"),
            target: HOLE,
            kind: READ,
            address: HOLE,
        },
        Case {
            code: snippet!(fault_pop_memory: "pop qword ptr [rbx]"),
            target: HOLE,
            kind: WRITE,
            address: HOLE,
        },
    ];
    check(fixture, &cases)
}

pub(in super::super) fn stack_faults_are_exact<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    // Each moves the stack pointer into the hole and then uses it.
    let cases = [
        (snippet!(stack_push: "mov rsp, rbx" ; "push rax"), HOLE - 8, WRITE),
        (snippet!(stack_push_immediate: "mov rsp, rbx" ; "push 5"), HOLE - 8, WRITE),
        (snippet!(stack_pushfq: "mov rsp, rbx" ; "pushfq"), HOLE - 8, WRITE),
        (snippet!(stack_pop: "mov rsp, rbx" ; "pop rax"), HOLE, READ),
        (snippet!(stack_popfq: "mov rsp, rbx" ; "popfq"), HOLE, READ),
        (snippet!(stack_call: "mov rsp, rbx" ; "call 2f", "2: nop"), HOLE - 8, WRITE),
        (snippet!(stack_call_register: "mov rsp, rbx" ; "call rax"), HOLE - 8, WRITE),
        (snippet!(stack_ret: "mov rsp, rbx" ; "ret"), HOLE, READ),
        (snippet!(stack_ret_pop: "mov rsp, rbx" ; "ret 16"), HOLE, READ),
        (snippet!(stack_load: "mov rsp, rbx" ; "mov rax, [rsp + 24]"), HOLE + 24, READ),
        (snippet!(stack_store: "mov rsp, rbx" ; "mov [rsp - 24], rax"), HOLE - 24, WRITE),
    ];
    expect_all(&cases, |&(code, address, kind)| {
        fixture.map_code(CODE, code.bytes)?;
        let mut state = state_at(CODE);
        numbered(&mut state.registers);
        state.registers.set(Gpr::Rbx, HOLE);
        let mut before = state.registers;
        before.set_stack_pointer(HOLE);
        let mut guest = fixture.thread(state)?;
        let named = |why| format!("{:x?}: {why}", code.bytes);
        guest.run_to(kind, address, CODE + code.here).map_err(named)?;
        expect_unchanged(&guest, &before).map_err(named)
    })?;
    // `leave` takes its stack from rbp, and has not moved rsp when its load faults.
    let code = snippet!(stack_leave: "mov rbp, rbx" ; "leave");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rbx, HOLE);
    guest.run_to(READ, HOLE, CODE + code.here)?;
    expect_equal("stack pointer", Hex(guest.registers().stack_pointer()), Hex(STACK_POINTER))
}

pub(in super::super) fn instruction_fetch_faults_are_exact<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let unmapped = FaultKind::Execute { mapped: false };
    let ways = [
        snippet!(fetch_jump: "jmp rbx"),
        snippet!(fetch_direct: "2: jmp 2b + 0x18000000"),
        snippet!(fetch_push_ret: "push rbx", "ret"),
        snippet!(fetch_memory: "mov [0x20000000], rbx", "jmp [0x20000000]"),
    ];
    expect_all(&ways, |code| {
        fixture.map_code(CODE, code.bytes)?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.registers_mut().set(Gpr::Rbx, HOLE);
        guest.run_to(unmapped, HOLE, HOLE).map_err(|why| format!("{:x?}: {why}", code.bytes))?;
        expect_equal("stack pointer", Hex(guest.registers().stack_pointer()), Hex(STACK_POINTER))
    })?;
    // A call has pushed its return address when the fetch faults.
    let code = snippet!(fetch_call: "call rbx" ; "nop");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rbx, HOLE);
    guest.run_to(unmapped, HOLE, HOLE)?;
    expect_equal("stack pointer", Hex(guest.registers().stack_pointer()), Hex(STACK_POINTER - 8))?;
    expect_equal("return address", Hex(fixture.word(STACK_POINTER - 8)?), Hex(CODE + code.here))?;
    // A program counter that the monitor sets, and an instruction that runs off the end of its page.
    let mut guest = fixture.thread_at(HOLE + 1)?;
    guest.run_to(unmapped, HOLE + 1, HOLE + 1)?;
    let mut page = vec![0x90; PAGE_SIZE as usize - 1];
    page.push(0xe8);
    fixture.map_code(CODE, &page)?;
    let mut guest = fixture.thread_at(CODE + PAGE_SIZE - 16)?;
    guest.run_to(unmapped, CODE + PAGE_SIZE, CODE + PAGE_SIZE - 1)
}

pub(in super::super) fn arithmetic_faults_are_exact<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    // si_code of SIGFPE (asm-generic/siginfo.h).
    const FPE_INTDIV: i32 = 1;
    const FPE_FLTDIV: i32 = 3;
    let pc = |code: &Snippet| CODE + code.here;
    let mut cases = vec![
        (snippet!(divide_zero: "xor ecx, ecx" ; "div rcx"), FPE_INTDIV),
        (snippet!(divide_overflow: "mov rax, 1 << 63", "cqo", "mov rcx, -1" ; "idiv rcx"), FPE_INTDIV),
        (
            snippet!(divide_memory: "mov edx, 5", "mov qword ptr [0x20000000], 1" ; "div qword ptr [0x20000000]"),
            FPE_INTDIV,
        ),
    ];
    if raises_vector_arithmetic_faults() {
        let code = snippet!(divide_float:
            "mov dword ptr [0x20000000], 0x1d80", "ldmxcsr [0x20000000]", "xorps xmm1, xmm1", "mov eax, 1",
            "cvtsi2ss xmm0, eax" ;
            "divss xmm0, xmm1");
        cases.push((code, FPE_FLTDIV));
    }
    expect_all(&cases, |&(code, si_code)| {
        fixture.map_code(CODE, code.bytes)?;
        let mut guest = fixture.thread_at(CODE)?;
        let kind = FaultKind::Arithmetic { code: si_code };
        guest.run_to(kind, pc(&code), pc(&code)).map_err(|why| format!("{:x?}: {why}", code.bytes))
    })
}

pub(in super::super) fn illegal_and_privileged_instructions_are_exact<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let illegal = |code| Case { code, target: DATA, kind: FaultKind::IllegalInstruction, address: CODE };
    let privileged = |code| Case { code, target: DATA, kind: FaultKind::Protection, address: 0 };
    let cases = [
        illegal(snippet!(illegal_ud2: "ud2")),
        illegal(snippet!(illegal_ud1: ".byte 0x0f, 0xb9, 0xc0")),
        illegal(snippet!(illegal_32_bit: ".byte 0x06")),
        illegal(snippet!(illegal_lock: ".byte 0xf0, 0x90")),
        privileged(snippet!(privileged_hlt: "hlt")),
        privileged(snippet!(privileged_cli: "cli")),
        privileged(snippet!(privileged_in: "in al, 0x60")),
        privileged(snippet!(privileged_cr3: "mov cr3, rax")),
        privileged(snippet!(privileged_msr: "wrmsr")),
        // Not privileged, and the same fault: an aligned access that is not.
        Case {
            code: snippet!(misaligned_load: "movaps xmm0, [rbx]"),
            target: DATA + 8,
            kind: FaultKind::Protection,
            address: 0,
        },
        Case {
            code: snippet!(misaligned_store: "movaps [rbx], xmm0"),
            target: DATA + 1,
            kind: FaultKind::Protection,
            address: 0,
        },
    ];
    check(fixture, &cases)?;
    // The stack's alignment counts at the access, not at the push.
    let code = snippet!(misaligned_stack: "sub rsp, 8" ; "movaps [rsp], xmm0");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to(FaultKind::Protection, 0, CODE + code.here)
}

pub(in super::super) fn a_breakpoint_leaves_the_program_counter_past_it<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(breakpoint: "nop", "int3" ; "mov eax, 7", "syscall");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to(FaultKind::Breakpoint, 0, CODE + code.here)?;
    guest.run_to_syscall()?;
    expect_equal("rax", guest.registers().get(Gpr::Rax), 7)
}

pub(in super::super) fn an_interrupted_string_instruction_has_done_its_iterations<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // The data area ends after 24 of 64 bytes.
    let edge = DATA + crate::conformance::fixture::AREA;
    let registers =
        |guest: &Guest<'_, B>| [Gpr::Rcx, Gpr::Rdi, Gpr::Rsi].map(|r| Hex(guest.registers().get(r)));
    let code = snippet!(string_store: "rep stosq");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rcx, 8);
    guest.registers_mut().set(Gpr::Rdi, edge - 24);
    guest.registers_mut().set(Gpr::Rax, 0x77);
    guest.run_to(WRITE, edge, CODE)?;
    expect_equal("rcx, rdi, rsi", registers(&guest), [5, edge, 0].map(Hex))?;
    expect_equal("stored", fixture.words::<3>(edge - 24)?, [0x77; 3])?;

    let code = snippet!(string_copy: "rep movsb");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rcx, u64::MAX);
    guest.registers_mut().set(Gpr::Rsi, edge - 24);
    guest.registers_mut().set(Gpr::Rdi, DATA);
    guest.run_to(READ, edge, CODE)?;
    expect_equal("rcx, rdi, rsi", registers(&guest), [u64::MAX - 24, DATA + 24, edge].map(Hex))?;
    expect_equal("copied", fixture.words::<3>(DATA)?, [0x77; 3])?;

    let code = snippet!(string_scan: "repne scasb");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rcx, u64::MAX);
    guest.registers_mut().set(Gpr::Rdi, edge - 24);
    guest.registers_mut().set(Gpr::Rax, 1);
    guest.run_to(READ, edge, CODE)?;
    expect_equal("rcx, rdi, rsi", registers(&guest), [u64::MAX - 24, edge, 0].map(Hex))
}

pub(in super::super) fn registers_before_a_fault_in_mid_block_are_exact<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(mid_block:
        "mov rcx, 5", "push rcx", "lea rdx, [rcx + 7]", "pop r8", "call 2f", "2: pop r9", "mov rsi, rsp",
        "sub rcx, 6" ;
        "mov [rbx + 8], rcx", "xor ecx, ecx", "xor edx, edx");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rbx, HOLE);
    guest.run_to(WRITE, HOLE + 8, CODE + code.here)?;
    let found = [Gpr::Rcx, Gpr::Rdx, Gpr::R8, Gpr::Rsi, Gpr::Rsp].map(|r| Hex(guest.registers().get(r)));
    expect_equal("registers", found, [u64::MAX, 12, 5, STACK_POINTER, STACK_POINTER].map(Hex))?;
    // 5 - 6: carry, adjust, sign and parity.
    expect_equal("flags", visible(guest.registers().flags), Hex(0x95))?;
    // Mended, the same instruction goes through.
    guest.registers_mut().set(Gpr::Rbx, DATA);
    let _ = guest.run();
    expect_equal("stored", Hex(fixture.word(DATA + 8)?), Hex(u64::MAX))
}

pub(in super::super) fn a_thread_goes_on_where_the_monitor_puts_it<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // What delivering a signal does: a fault, then another program counter and stack, then back.
    let code = snippet!(resumed: "mov rax, [rbx]", "syscall" ; "mov r15, rax", "mov eax, 15", "syscall");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rbx, HOLE);
    guest.run_to(READ, HOLE, CODE)?;
    let saved = *guest.registers();
    guest.registers_mut().pc = CODE + code.here;
    guest.registers_mut().set(Gpr::Rax, 99);
    guest.run_to_syscall()?;
    let seen = [Gpr::Rax, Gpr::R15].map(|register| guest.registers().get(register));
    expect_equal("in the handler", seen, [15, 99])?;
    *guest.registers_mut() = saved;
    guest.registers_mut().set(Gpr::Rbx, DATA);
    fixture.store(DATA, &7_u64.to_le_bytes())?;
    guest.run_to_syscall()?;
    expect_equal("after it", guest.registers().get(Gpr::Rax), 7)
}

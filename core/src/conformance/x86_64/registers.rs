//! General registers, flags and segment bases on the way in and out.

use super::snippet::snippet;
use crate::arch::{Flags, Gpr};
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, Hex, STACK_POINTER, expect_equal, state_at};
use crate::{FaultKind, IsolationBackend, Registers};

/// Gives every general register but the stack pointer a value of its own, high half included.
pub(super) fn numbered(registers: &mut Registers) {
    for (index, register) in registers.gpr.iter_mut().enumerate() {
        if index != Gpr::Rsp as usize {
            *register = 0xa5a5_0000_5a5a_0000 + 0x0101 * (index as u64 + 1);
        }
    }
}

pub(in super::super) fn every_general_register_survives_a_round_trip<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(all_registers:
        "mov [0x20000000], rax", "mov [0x20000008], rcx", "mov [0x20000010], rdx", "mov [0x20000018], rbx",
        "mov [0x20000020], rsp", "mov [0x20000028], rbp", "mov [0x20000030], rsi", "mov [0x20000038], rdi",
        "mov [0x20000040], r8", "mov [0x20000048], r9", "mov [0x20000050], r10", "mov [0x20000058], r11",
        "mov [0x20000060], r12", "mov [0x20000068], r13", "mov [0x20000070], r14", "mov [0x20000078], r15",
        "not rax", "not rcx", "not rdx", "not rbx", "not rbp", "not rsi", "not rdi", "not r8", "not r9", "not r10",
        "not r11", "not r12", "not r13", "not r14", "not r15", "lea rsp, [rsp - 24]" ;
        "ud2");
    fixture.map_code(CODE, code.bytes)?;
    let mut state = state_at(CODE);
    numbered(&mut state.registers);
    let before = state.registers;
    let mut guest = fixture.thread(state)?;
    let end = CODE + code.here;
    guest.run_to(FaultKind::IllegalInstruction, end, end)?;
    expect_equal("registers in", fixture.words::<16>(DATA)?.map(Hex), before.gpr.map(Hex))?;
    let mut wanted = before.gpr.map(|value| !value);
    wanted[Gpr::Rsp as usize] = STACK_POINTER - 24;
    expect_equal("registers out", guest.registers().gpr.map(Hex), wanted.map(Hex))
}

pub(in super::super) fn flags_survive_a_round_trip<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let code = snippet!(flags:
        "pushfq", "pop qword ptr [0x20000000]", "push qword ptr [0x20000008]", "popfq" ;
        "ud2");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    let end = CODE + code.here;
    // Carry, parity, adjust, zero, sign, direction, overflow, each alone, none and all.
    let patterns = [0, 0x1, 0x4, 0x10, 0x40, 0x80, 0x400, 0x800, Flags::STATUS_AND_DIRECTION];
    for pattern in patterns {
        let inverse = pattern ^ Flags::STATUS_AND_DIRECTION;
        fixture.store(DATA + 8, &(Flags::FIXED | inverse).to_le_bytes())?;
        guest.registers_mut().pc = CODE;
        guest.registers_mut().flags = Flags(Flags::FIXED | pattern);
        guest.run_to(FaultKind::IllegalInstruction, end, end)?;
        expect_equal("flags in", Hex(fixture.word(DATA)?), Hex(Flags::FIXED | pattern))?;
        expect_equal("flags out", guest.registers().flags, Flags(Flags::FIXED | inverse))?;
    }
    Ok(())
}

pub(in super::super) fn segment_bases_survive_a_round_trip<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(bases:
        "mov rax, fs:[0]", "mov rbx, -16", "mov rbx, fs:[rbx]", "mov rcx, gs:[8]", "mov qword ptr fs:[8], 77" ;
        "ud2");
    fixture.map_code(CODE, code.bytes)?;
    for (address, value) in [(DATA + 0x100, 11_u64), (DATA + 0xf0, 22), (DATA + 0x208, 33)] {
        fixture.store(address, &value.to_le_bytes())?;
    }
    let mut state = state_at(CODE);
    (state.registers.fs_base, state.registers.gs_base) = (DATA + 0x100, DATA + 0x200);
    let mut guest = fixture.thread(state)?;
    let end = CODE + code.here;
    guest.run_to(FaultKind::IllegalInstruction, end, end)?;
    let registers = *guest.registers();
    let loaded = [Gpr::Rax, Gpr::Rbx, Gpr::Rcx].map(|register| registers.get(register));
    expect_equal("loads", loaded, [11, 22, 33])?;
    expect_equal("store", fixture.word(DATA + 0x108)?, 77)?;
    let bases = [registers.fs_base, registers.gs_base];
    expect_equal("bases", bases.map(Hex), [DATA + 0x100, DATA + 0x200].map(Hex))
}

pub(in super::super) fn a_guest_may_write_its_own_segment_bases<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(write_bases:
        "mov eax, 0x20000300", "wrfsbase rax", "mov eax, 0x20000400", "wrgsbase rax", "rdfsbase rbx", "rdgsbase rcx",
        "mov rdx, fs:[0]", "syscall", "mov rsi, gs:[0]" ;
        "ud2");
    fixture.map_code(CODE, code.bytes)?;
    fixture.store(DATA + 0x300, &44_u64.to_le_bytes())?;
    fixture.store(DATA + 0x400, &55_u64.to_le_bytes())?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to_syscall()?;
    let bases = [guest.registers().fs_base, guest.registers().gs_base];
    expect_equal("bases", bases.map(Hex), [DATA + 0x300, DATA + 0x400].map(Hex))?;
    let end = CODE + code.here;
    guest.run_to(FaultKind::IllegalInstruction, end, end)?;
    let seen = [Gpr::Rbx, Gpr::Rdx, Gpr::Rsi].map(|register| Hex(guest.registers().get(register)));
    expect_equal("what the guest saw", seen, [DATA + 0x300, 44, 55].map(Hex))
}

//! Code that comes, changes and goes.

use super::snippet::snippet;
use crate::arch::Gpr;
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, Hex, expect_equal, range};
use crate::{Exit, Fault, FaultKind, GuestAddr, IsolationBackend, PAGE_SIZE, Rights};

const ALL: Rights = Rights::all();

/// A second page of code.
const OTHER: u64 = CODE + 0x10_0000;

pub(in super::super) fn a_guest_that_changes_its_code_runs_the_new_code<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // A loop whose body is `add rax, imm8`, with the immediate rewritten each round, on the page that runs.
    let code = snippet!(self_modifying:
        "xor eax, eax", "mov ecx, 100", "2: mov byte ptr [rip + 3f + 3], cl", "3: add rax, 0x7f", "dec ecx", "jnz 2b",
        "syscall");
    fixture.map_with(CODE, PAGE_SIZE, ALL, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to_syscall()?;
    expect_equal("sum", guest.registers().get(Gpr::Rax), 5050)?;
    // A function on another page, rewritten after it ran, as a just-in-time compiler does.
    let writer = snippet!(jit:
        "mov edi, 0x10100000", "mov byte ptr [rdi], 0xb8", "mov dword ptr [rdi + 1], 1", "mov byte ptr [rdi + 5], 0xc3",
        "call rdi", "mov ebx, eax", "mov dword ptr [rdi + 1], 2", "call rdi", "mov ecx, eax", "syscall");
    fixture.map_with(OTHER, PAGE_SIZE, ALL, &[])?;
    fixture.map_code(CODE + PAGE_SIZE, writer.bytes)?;
    let mut guest = fixture.thread_at(CODE + PAGE_SIZE)?;
    guest.run_to_syscall()?;
    // The system call has clobbered rcx: eax holds the second answer.
    let answers = [Gpr::Rbx, Gpr::Rax].map(|register| guest.registers().get(register));
    expect_equal("answers", answers, [1, 2])
}

/// `mov eax, answer; syscall`.
pub(super) fn answering(answer: u8) -> [u8; 7] {
    [0xb8, answer, 0, 0, 0, 0x0f, 0x05]
}

/// Runs the code at `place` to its system call and returns its answer.
pub(super) fn ask<B: IsolationBackend>(fixture: &Fixture<B>, place: u64) -> Result<u64, String> {
    let mut guest = fixture.thread_at(place)?;
    guest.run_to_syscall()?;
    Ok(guest.registers().get(Gpr::Rax))
}

pub(in super::super) fn code_that_the_monitor_changes_runs_anew<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    fixture.map_with(CODE, PAGE_SIZE, ALL, &answering(1))?;
    for answer in 1..20 {
        fixture.store(CODE, &answering(answer))?;
        expect_equal("answer", ask(fixture, CODE)?, u64::from(answer))?;
        expect_equal("answer", ask(fixture, CODE)?, u64::from(answer))?;
    }
    Ok(())
}

pub(in super::super) fn replaced_code_runs_anew<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    for answer in 1..20 {
        fixture.map_code(CODE, &answering(answer))?;
        expect_equal("answer", ask(fixture, CODE)?, u64::from(answer))?;
        fixture.unmap(CODE, PAGE_SIZE)?;
    }
    Ok(())
}

pub(in super::super) fn retired_code_does_not_run<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    fixture.map_code(CODE, &answering(3))?;
    // One caller that jumps there, so that the way is known before the code is retired.
    fixture.map_code(OTHER, snippet!(caller: "2: jmp 2b - 0x100000").bytes)?;
    expect_equal("answer", ask(fixture, OTHER)?, 3)?;
    // The pages stay as they are, kernel protection included: the backend alone says no.
    fixture.backend.retire_code(crate::DomainId::MAIN, range(CODE, PAGE_SIZE));
    for start in [CODE, OTHER] {
        expect_no_code(fixture, start)?;
    }
    fixture.admit(CODE, PAGE_SIZE, Rights::READ | Rights::EXECUTE)?;
    expect_equal("answer after it was admitted again", ask(fixture, OTHER)?, 3)
}

pub(in super::super) fn code_that_was_never_admitted_does_not_run<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    fixture.map_with(CODE, PAGE_SIZE, ALL, &answering(4))?;
    fixture.map_with(OTHER, PAGE_SIZE, ALL, &answering(4))?;
    fixture.backend.retire_code(crate::DomainId::MAIN, range(CODE, PAGE_SIZE));
    expect_no_code(fixture, CODE)?;
    expect_equal("answer of the neighbour", ask(fixture, OTHER)?, 4)
}

pub(in super::super) fn unmapped_code_does_not_run<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    fixture.map_code(CODE, &answering(5))?;
    fixture.map_code(OTHER, snippet!(caller_of_unmapped: "2: jmp 2b - 0x100000").bytes)?;
    expect_equal("answer", ask(fixture, OTHER)?, 5)?;
    fixture.unmap(CODE, PAGE_SIZE)?;
    expect_no_code(fixture, OTHER)?;
    expect_no_code(fixture, CODE)
}

pub(in super::super) fn data_does_not_run<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    fixture.store(DATA, &answering(6))?;
    expect_no_code(fixture, DATA)?;
    // Nor does code that has lost the right.
    fixture.map_code(CODE, &answering(6))?;
    expect_equal("answer", ask(fixture, CODE)?, 6)?;
    fixture.reprotect(CODE, PAGE_SIZE, Rights::READ)?;
    expect_no_code(fixture, CODE)?;
    fixture.reprotect(CODE, PAGE_SIZE, Rights::READ | Rights::EXECUTE)?;
    expect_equal("answer with the right again", ask(fixture, CODE)?, 6)
}

/// Runs from `start` and expects a fetch that faults, at a mapped address: [`CODE`] or `start` itself.
fn expect_no_code<B: IsolationBackend>(fixture: &Fixture<B>, start: u64) -> Finding {
    let at = if start == OTHER { CODE } else { start };
    let mut guest = fixture.thread_at(start)?;
    let exit = guest.run();
    let Exit::Fault(Fault { kind: FaultKind::Execute { .. }, address }) = exit else {
        return Err(format!("code at {at:#x} ran from {start:#x} to {exit:?}"));
    };
    expect_equal("address", address, GuestAddr(at))?;
    expect_equal("program counter", Hex(guest.registers().pc), Hex(at))
}

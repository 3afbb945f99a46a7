//! Control transfers aimed at code of the host.

use super::forms::expect_no_escapes;
use super::snippet::{Snippet, snippet};
use crate::arch::Gpr;
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, state_at};
use crate::conformance::outside::{FOREIGN_CODE, Outside};
use crate::{Exit, FaultKind, IsolationBackend};

/// Code of the host that leaves a trace in the canary page.
fn foreign_code() -> &'static [u8] {
    snippet!(foreign: "movabs rcx, 0x60005a5a0000", "mov qword ptr [rcx], 1", "syscall", "ud2").bytes
}

/// Runs each way with the target in rax and expects a fetch that faults.
fn expect_caught<B: IsolationBackend>(fixture: &Fixture<B>, ways: &[(&str, Snippet)]) -> Finding {
    let outside = Outside::new(foreign_code()).map_err(|error| format!("no canary: {error}"))?;
    let mut escapes = Vec::new();
    for (index, (name, code)) in ways.iter().enumerate() {
        let place = CODE + 0x1000 * index as u64;
        fixture.map_code(place, code.bytes)?;
        let mut state = state_at(place);
        state.registers.set(Gpr::Rax, FOREIGN_CODE);
        state.registers.set(Gpr::Rbx, DATA);
        let mut guest = fixture.thread(state)?;
        let exit = guest.run();
        let faulted = match exit {
            Exit::Fault(_) => Ok(()),
            other => Err(format!("ended in {other:?} at {:#x}", guest.registers().pc)),
        };
        if let Err(why) = outside.check(foreign_code()).and(faulted) {
            escapes.push(format!("{name}: {why}"));
            outside.restore(foreign_code());
        }
    }
    expect_no_escapes(escapes, ways.len())
}

pub(in super::super) fn no_jump_leaves_the_domain<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let ways = [
        ("jump to a register", snippet!(jump_register: "jmp rax")),
        ("call of a register", snippet!(jump_call: "call rax")),
        ("jump through memory", snippet!(jump_memory: "mov [rbx], rax", "jmp [rbx]")),
        ("call through memory", snippet!(jump_call_memory: "mov [rbx], rax", "call [rbx]")),
        (
            "jump through a table",
            snippet!(jump_table: "mov [rbx + 24], rax", "mov ecx, 3", "jmp [rbx + rcx * 8]"),
        ),
        ("return", snippet!(jump_return: "push rax", "ret")),
        ("return that pops", snippet!(jump_return_pop: "push rax", "ret 8")),
        (
            "overwritten return address",
            snippet!(jump_overwritten: "call 2f", "ud2", "2: mov [rsp], rax", "ret"),
        ),
    ];
    expect_caught(fixture, &ways)
}

pub(in super::super) fn no_far_transfer_leaves_the_domain<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let mut ways = vec![
        (
            "iret",
            snippet!(far_iret:
                "mov rdx, rsp", "push 0x2b", "push rdx", "pushfq", "push 0x33", "push rax", "iretq"),
        ),
        ("far return", snippet!(far_return: "push 0x33", "push rax", ".byte 0x48, 0xcb")),
    ];
    // jmp and call m16:64.
    let through_memory = [
        (
            "far jump",
            snippet!(far_jump: "mov [rbx], rax", "mov word ptr [rbx + 8], 0x33", ".byte 0x48, 0xff, 0x2b"),
        ),
        (
            "far call",
            snippet!(far_call: "mov [rbx], rax", "mov word ptr [rbx + 8], 0x33", ".byte 0x48, 0xff, 0x1b"),
        ),
    ];
    if far_pointers_hold_64_bits() {
        ways.extend(through_memory);
    }
    expect_caught(fixture, &ways)
}

/// AMD's processors ignore REX.W in far jumps and calls (APM volume 3, "JMP (Far)"): they cannot reach the host's code.
fn far_pointers_hold_64_bits() -> bool {
    core::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Genu")
}

pub(in super::super) fn a_jump_to_the_host_s_system_call_is_caught<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(host_call: "syscall", "ud2").bytes;
    Outside::new(code).map_err(|error| format!("no canary: {error}"))?;
    fixture.map_code(CODE, snippet!(to_host_call: "jmp rax").bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rax, FOREIGN_CODE);
    let exit = guest.run();
    match exit {
        Exit::Fault(fault) if matches!(fault.kind, FaultKind::Execute { .. } | FaultKind::Protection) => {
            Ok(())
        }
        other => Err(format!("ended in {other:?} at {:#x}", guest.registers().pc)),
    }
}

//! A process and its child.

use super::code::{answering, ask};
use super::snippet::snippet;
use crate::arch::Gpr;
use crate::conformance::fixture::{CODE, DATA, Fixture, expect_equal};
use crate::conformance::{Finding, Outcome, child};
use crate::{IsolationBackend, PAGE_SIZE, Rights};

pub(in super::super) fn parent_and_child_diverge_in_code<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    fixture.map_with(CODE, PAGE_SIZE, Rights::all(), &answering(1))?;
    expect_equal("answer before the fork", ask(fixture, CODE)?, 1)?;
    in_child(fixture, || {
        expect_equal("the child's answer before its change", ask(fixture, CODE)?, 1)?;
        fixture.store(CODE, &answering(2))?;
        expect_equal("the child's answer after its change", ask(fixture, CODE)?, 2)
    })?;
    expect_equal("the parent's answer after the child's change", ask(fixture, CODE)?, 1)?;
    fixture.store(CODE, &answering(3))?;
    expect_equal("the parent's answer after its change", ask(fixture, CODE)?, 3)?;
    // New code in both, at the same time as far as a translator's cache is concerned.
    fixture.map_code(CODE + PAGE_SIZE, &answering(4))?;
    in_child(fixture, || {
        fixture.map_code(CODE + PAGE_SIZE, &answering(5))?;
        expect_equal("the child's answer", ask(fixture, CODE + PAGE_SIZE)?, 5)
    })?;
    expect_equal("the parent's answer", ask(fixture, CODE + PAGE_SIZE)?, 4)
}

pub(in super::super) fn system_calls_of_a_forked_child_never_reach_the_kernel<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(forked: "mov eax, 39", "syscall", "mov [0x20000000], rax", "mov eax, 39", "syscall");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to_syscall()?;
    in_child(fixture, || {
        guest.registers_mut().set_syscall_result(0x5ec0);
        guest.run_to_syscall()?;
        expect_equal("pid that the child saw", fixture.word(DATA)?, 0x5ec0)?;
        expect_equal("number", guest.registers().get(Gpr::Rax), 39)
    })?;
    expect_equal("the parent's memory", fixture.word(DATA)?, 0)?;
    guest.registers_mut().set_syscall_result(0x5ec1);
    guest.run_to_syscall()?;
    expect_equal("pid that the parent saw", fixture.word(DATA)?, 0x5ec1)
}

/// Forks, runs `check` in the child with the backend made usable there, and waits for it.
fn in_child<B: IsolationBackend>(fixture: &Fixture<B>, check: impl FnOnce() -> Finding) -> Finding {
    fixture.backend.before_fork().map_err(|error| format!("before_fork: {error}"))?;
    let outcome = child::fork_and_check(|| {
        fixture.backend.after_fork_in_child().map_err(|error| format!("after_fork_in_child: {error}"))?;
        check()
    });
    fixture.backend.after_fork_in_parent();
    expect_equal("the child", outcome, Outcome::Passed)
}

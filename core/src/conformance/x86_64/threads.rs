//! Several threads in one backend.

use std::thread;
use std::time::{Duration, Instant};

use super::snippet::snippet;
use crate::arch::Gpr;
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, expect, expect_equal, state_at};
use crate::{DomainId, Exit, IsolationBackend, PAGE_SIZE, Rights, SignalStack, ThreadState};

const THREADS: u64 = 4;
/// How long a thread may take to see a change, in a busy machine.
const BOUND: Duration = Duration::from_secs(5);

/// Runs a guest thread on a host thread of its own until it makes a system call.
fn run<B: IsolationBackend>(backend: &B, state: ThreadState) -> Result<ThreadState, String> {
    let _stack = SignalStack::install().map_err(|error| format!("no signal stack: {error}"))?;
    let thread = backend.create_thread(DomainId::MAIN, state);
    let mut thread = thread.map_err(|error| format!("thread: {error}"))?;
    loop {
        match backend.run(&mut thread) {
            Exit::Syscall => return Ok(backend.state(&thread).clone()),
            Exit::Interrupted => {}
            Exit::Fault(fault) => {
                return Err(format!("{fault:?} at {:#x}", backend.program_counter(&thread).0));
            }
        }
    }
}

fn all<T>(results: impl IntoIterator<Item = thread::Result<Result<T, String>>>) -> Result<Vec<T>, String> {
    let flat =
        |result: thread::Result<Result<T, String>>| result.map_err(|_| "a thread panicked".to_owned())?;
    results.into_iter().map(flat).collect()
}

pub(in super::super) fn threads_have_registers_and_bases_of_their_own<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    const ROUNDS: u64 = 200_000;
    // Each counts in memory of its own, through its thread pointer, and calls and returns on a stack of its own.
    let code = snippet!(thread_own:
        "mov ecx, 200000", "2: inc qword ptr fs:[8]", "mov r11, fs:[8]", "call 3f", "loop 2b", "syscall",
        "3: push r11", "pop rax", "ret");
    fixture.map_code(CODE, code.bytes)?;
    let backend = fixture.backend;
    let state_of = |number: u64| {
        let mut state = state_at(CODE);
        state.registers.set_stack_pointer(DATA + PAGE_SIZE * (2 * number + 2));
        state.registers.set_thread_pointer(DATA + PAGE_SIZE * 2 * number);
        state
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|number| scope.spawn(move || run(backend, state_of(number)))).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for (number, state) in all(results)?.into_iter().enumerate() {
        expect_equal("rounds", fixture.word(DATA + PAGE_SIZE * 2 * number as u64 + 8)?, ROUNDS)?;
        expect_equal("rax", state.registers.get(Gpr::Rax), ROUNDS)?;
    }
    Ok(())
}

pub(in super::super) fn code_that_one_thread_changes_is_new_to_all<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    const FUNCTION: u64 = CODE + PAGE_SIZE;
    const STOP: u64 = DATA + 0x8000;
    // mov eax, imm32; ret
    let returning = |value: u32| [[0xb8].as_slice(), &value.to_le_bytes(), &[0xc3]].concat();
    // 1: call FUNCTION; mov [rdi], eax; cmp dword ptr [rsi], 0; je 1b; syscall
    let caller = [0xe8, 0xfb, 0x0f, 0, 0, 0x89, 0x07, 0x83, 0x3e, 0x00, 0x74, 0xf4, 0x0f, 0x05];
    fixture.map_code(CODE, &caller)?;
    let everything = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    fixture.map_with(FUNCTION, PAGE_SIZE, everything, &returning(0))?;
    change_under(fixture, STOP, |value| fixture.store(FUNCTION, &returning(value)))
}

/// Changes code that threads run, and waits each time until all of them have stored the value that it stores now. They have
/// rdi for that, and end when they find something at rsi.
fn change_under<B: IsolationBackend>(
    fixture: &Fixture<B>,
    stop: u64,
    change: impl Fn(u32) -> Finding,
) -> Finding {
    let backend = fixture.backend;
    let state_of = |number: u64| {
        let mut state = state_at(CODE);
        state.registers.set_stack_pointer(DATA + PAGE_SIZE * (number + 1));
        state.registers.set(Gpr::Rdi, DATA + 0x9000 + 8 * number);
        state.registers.set(Gpr::Rsi, stop);
        state
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|number| scope.spawn(move || run(backend, state_of(number)))).collect();
        let mut found = Ok(());
        for value in 1..50_u32 {
            if found.is_err() {
                break;
            }
            found = change(value);
            let start = Instant::now();
            while found.is_ok() && seen(fixture)?.iter().any(|&seen| seen != u64::from(value)) {
                found = expect(start.elapsed() < BOUND, || format!("{value} is not seen after {BOUND:?}"));
                thread::yield_now();
            }
        }
        fixture.store(stop, &[1])?;
        all(threads.into_iter().map(|thread| thread.join()))?;
        found
    })
}

fn seen<B: IsolationBackend>(fixture: &Fixture<B>) -> Result<[u64; THREADS as usize], String> {
    fixture.words(DATA + 0x9000)
}

pub(in super::super) fn a_thread_in_a_loop_sees_that_the_loop_changes<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    const STOP: u64 = DATA + 0x8000;
    // 1: mov eax, imm32; mov [rdi], eax; cmp dword ptr [rsi], 0; je 1b; syscall
    let looping = |value: u32| {
        let [a, b, c, d] = value.to_le_bytes();
        [0xb8, a, b, c, d, 0x89, 0x07, 0x83, 0x3e, 0x00, 0x74, 0xf4, 0x0f, 0x05]
    };
    let everything = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    fixture.map_with(CODE, PAGE_SIZE, everything, &looping(0))?;
    change_under(fixture, STOP, |value| fixture.store(CODE, &looping(value)))
}

//! Signals that come from elsewhere.

use std::time::{Duration, Instant};

use super::snippet::snippet;
use crate::arch::Gpr;
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, expect, expect_equal};
use crate::{Exit, IsolationBackend};

/// How long a signal may take to end a guest's turn, in a busy machine.
const BOUND: Duration = Duration::from_secs(5);

pub(in super::super) fn a_signal_ends_every_kind_of_endless_loop<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let loops = [
        ("jump to itself", snippet!(loop_self: "2: jmp 2b")),
        ("conditional", snippet!(loop_conditional: "2: inc rax", "test rsp, rsp", "jnz 2b")),
        ("loop instruction", snippet!(loop_loop: "2: mov ecx, 2", "loop 2b", "jmp 2b")),
        ("indirect", snippet!(loop_indirect: "lea rax, [rip + 2f]", "2: jmp rax")),
        (
            "through memory",
            snippet!(loop_memory: "lea rax, [rip + 2f]", "mov [0x20000000], rax", "2: jmp [0x20000000]"),
        ),
        ("call and return", snippet!(loop_call: "2: call 3f", "jmp 2b", "3: ret")),
        ("push and return", snippet!(loop_push: "lea rax, [rip + 2f]", "2: push rax", "ret")),
        ("indirect call", snippet!(loop_virtual: "lea rax, [rip + 3f]", "2: call rax", "jmp 2b", "3: ret")),
        ("string", snippet!(loop_string: "2: mov ecx, 0x8000", "mov edi, 0x20000000", "rep stosb", "jmp 2b")),
        (
            "store to code",
            snippet!(loop_store: "2: mov [0x20000000], rax", "lock inc qword ptr [0x20000008]", "jmp 2b"),
        ),
    ];
    for (index, (name, code)) in loops.into_iter().enumerate() {
        // Each at its own place: code that ran once must not have to be retired.
        let place = CODE + 0x1_0000 * index as u64;
        fixture.map_code(place, code.bytes)?;
        let mut guest = fixture.thread_at(place)?;
        for _ in 0..3 {
            let start = Instant::now();
            let _timer = Timer::start(Duration::from_millis(10), Duration::ZERO);
            expect_equal(name, guest.run(), Exit::Interrupted)?;
            expect(start.elapsed() < BOUND, || format!("{name}: took {:?}", start.elapsed()))?;
            let pc = guest.registers().pc;
            let inside = (place..=place + code.bytes.len() as u64).contains(&pc);
            expect(inside, || format!("{name}: stopped at {pc:#x}"))?;
        }
    }
    Ok(())
}

pub(in super::super) fn a_signal_before_run_is_not_lost<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(before_run: "2: jmp 2b");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    for _ in 0..3 {
        // SAFETY: the suite's handler is installed.
        unsafe { libc::raise(libc::SIGUSR1) };
        expect_equal("exit", guest.run(), Exit::Interrupted)?;
    }
    // One signal is one interruption: the next turn lasts until the timer.
    let start = Instant::now();
    let _timer = Timer::start(Duration::from_millis(50), Duration::ZERO);
    expect_equal("exit", guest.run(), Exit::Interrupted)?;
    let elapsed = start.elapsed();
    expect(elapsed >= Duration::from_millis(45), || format!("interrupted again after {elapsed:?}"))
}

pub(in super::super) fn state_is_exact_wherever_a_signal_hits<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // rax counts rounds; memory, the stack and r11 repeat it; xmm0 holds it; rcx and the flags are busy in between.
    let code = snippet!(exact_loop:
        "2: inc rax", "mov [0x20000000], rax", "push rax", "pop rcx", "movq xmm0, rax", "mov r11, rax",
        "call 3f", "cmp r11, rdx", "jnz 4f", "xor edx, edx", "lea r8, [rip + 3f]", "call r8", "cmp rcx, rdx", "jz 2b",
        "4: ud2", "3: mov rdx, rax", "ret");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    let _timer = Timer::start(Duration::from_micros(500), Duration::from_micros(500));
    let mut last = 0;
    for _ in 0..200 {
        expect_equal("exit", guest.run(), Exit::Interrupted)?;
        let rounds = guest.registers().get(Gpr::Rax);
        let behind = rounds.wrapping_sub(fixture.word(DATA)?);
        expect(behind <= 1, || format!("rax is {behind} rounds ahead of memory"))?;
        expect(rounds >= last, || format!("{rounds} rounds after {last}"))?;
        last = rounds;
    }
    expect(last > 0, || "the guest never got on".to_owned())
}

/// A timer that stops when it is dropped, however its property ends: a signal that came once the signal stack is gone would
/// end the child before it has reported.
struct Timer;

impl Timer {
    /// Sends SIGALRM after `first`, and then every `interval`; zero for never.
    fn start(first: Duration, interval: Duration) -> Self {
        set_timer(first, interval);
        Timer
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        set_timer(Duration::ZERO, Duration::ZERO);
    }
}

fn set_timer(first: Duration, interval: Duration) {
    let time =
        |duration: Duration| libc::timeval { tv_sec: 0, tv_usec: duration.as_micros() as libc::suseconds_t };
    let timer = libc::itimerval { it_interval: time(interval), it_value: time(first) };
    // SAFETY: a valid value; the old one is not asked for.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

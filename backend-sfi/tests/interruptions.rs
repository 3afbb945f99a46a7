//! A signal at every single instruction of the host that a guest's thread runs, one at a time: in emitted code, in the gates, on the
//! way through an entry that is not filled; and a second one while the backend works out where the first has hit. The guest's state
//! is what it is natively at the instruction where it stands.
//!
//! A debugger's breakpoints and single steps, on a child that runs the guest, choose the moment. `ENDO_INTERRUPTIONS=1` leaves none
//! out; the number is how many instructions lie between two that are tried first.

#![cfg(target_arch = "x86_64")]

use std::ops::Range;
use std::{env, fs, io};

use endo_core::arch::Gpr;
use endo_core::conformance::fixture::{CODE, DATA, Fixture, STACK_POINTER};
use endo_core::{BackendConfig, Exit};
use endo_sfi::SfiBackend;

/// Instructions of gates and emitted code until the guest's code is all translated and linked, and goes in circles.
const WARM: usize = 1200;
/// Interruptions of one guest. After the first they find it warm.
const ROUNDS: usize = 12;
/// More than the instructions of one circle.
const CIRCLE: usize = 197;
/// Bytes from the last label of the gates to their end, at most.
const LAST_GATE: u64 = 0x78;

/// PUSHF and POPF: stepped over, they would make the flag by which they are stepped over the child's own.
const FLAGS_ON_STACK: [u8; 2] = [0x9c, 0x9d];
/// INT3.
const BREAKPOINT: u64 = 0xcc;

// rax counts rounds; memory, the stack and r11 repeat it. Calls and returns direct, through a register and through memory.
core::arch::global_asm!(
    ".pushsection .rodata.endo_interruptions, \"a\"",
    ".globl endo_interruptions_start, endo_interruptions_end",
    "endo_interruptions_start:",
    "lea r9, [rip + 3f]",
    "mov [0x20000008], r9",
    "2: inc rax",
    "mov [0x20000000], rax",
    "push rax",
    ".globl endo_interruptions_pop",
    "endo_interruptions_pop:",
    "pop rcx",
    "mov r11, rax",
    "call 3f",
    "cmp r11, rdx",
    "jnz 4f",
    "xor edx, edx",
    "lea r8, [rip + 3f]",
    "call r8",
    "cmp rcx, rdx",
    "jnz 4f",
    "xor edx, edx",
    "call [0x20000008]",
    "cmp rcx, rdx",
    "jz 2b",
    "4: ud2",
    ".globl endo_interruptions_callee",
    "endo_interruptions_callee:",
    "3: mov rdx, rax",
    "ret",
    "endo_interruptions_end:",
    ".popsection",
);

unsafe extern "C" {
    static endo_interruptions_start: u8;
    static endo_interruptions_pop: u8;
    static endo_interruptions_callee: u8;
    static endo_interruptions_end: u8;
    static endo_raw_copy_touch: u8;
    static endo_sfi_enter: u8;
    static endo_sfi_leave: u8;
    static endo_sfi_syscall_answered_end: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const endo_interruptions_start, &raw const endo_interruptions_end);
    // SAFETY: labels of one section of read-only data, in this order.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}

#[test]
fn state_is_exact_at_every_instruction() {
    everywhere(BackendConfig::default, Signals::One);
}

#[test]
fn state_is_exact_at_every_instruction_where_returns_are_predicted() {
    everywhere(predicting, Signals::One);
}

#[test]
fn a_signal_during_recovery_changes_nothing() {
    everywhere(BackendConfig::default, Signals::Two);
    everywhere(predicting, Signals::Two);
}

fn predicting() -> BackendConfig {
    BackendConfig { predict_returns: true, ..BackendConfig::default() }
}

/// How a guest is interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signals {
    /// Once.
    One,
    /// Again when the backend next copies guest memory: to see which instruction it was, or to translate what follows.
    Two,
}

/// In one child after the other the n-th instruction is interrupted first, and then others.
fn everywhere(configuration: fn() -> BackendConfig, signals: Signals) {
    endo_core::conformance::configure(configuration);
    let step = env::var("ENDO_INTERRUPTIONS")
        .map_or(13, |step| step.parse().expect("ENDO_INTERRUPTIONS is a number"));
    for first in (0..WARM).step_by(step) {
        if let Err(why) = Child::start().interrupt(first, signals) {
            panic!("{signals:?}, after {first} instructions: {why}");
        }
    }
}

/// What a child has stopped for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// It is about to run the guest: it has sent itself a signal.
    Announced,
    /// One of the instructions that it was to run to.
    Reached,
}

/// A guest in a forked child, traced.
struct Child {
    pid: libc::pid_t,
}

impl Child {
    fn start() -> Self {
        // SAFETY: the child uses only what forked children of the conformance suite use as well.
        match unsafe { libc::fork() } {
            -1 => panic!("no child: {}", io::Error::last_os_error()),
            0 => {
                let result = std::panic::catch_unwind(guest);
                if let Ok(Err(why)) = &result {
                    eprintln!("{why}");
                }
                // SAFETY: no precondition.
                unsafe { libc::_exit(i32::from(!matches!(result, Ok(Ok(()))))) }
            }
            pid => {
                let child = Child { pid };
                assert!(is_stopped(child.wait(), libc::SIGSTOP));
                child
            }
        }
    }

    /// Interrupts the guest after so many instructions, and then some more times.
    fn interrupt(&self, first: usize, signals: Signals) -> Result<(), String> {
        let [enter, leave, copy] =
            [&raw const endo_sfi_enter, &raw const endo_sfi_leave, &raw const endo_raw_copy_touch]
                .map(|at| at as u64);
        let mut wanted = first;
        let mut known = None;
        let mut announced = self.run_to(&[], 0)? == Stop::Announced;
        for round in 0..ROUNDS {
            let in_round = |why| format!("round {round}, {wanted} instructions: {why}");
            assert!(announced, "nothing else stops it");
            let cache = known.get_or_insert_with(|| executable_memory(self.pid)).clone();
            self.reach(&[enter], 0).map_err(in_round)?;
            let mut here = enter;
            for _ in 0..wanted {
                here = self.step(here, &cache, [enter, leave]).map_err(in_round)?;
            }
            let copy: &[u64] = if signals == Signals::Two { &[copy] } else { &[] };
            announced = match self.run_to(copy, libc::SIGALRM).map_err(in_round)? {
                Stop::Announced => true,
                Stop::Reached => self.run_to(&[], libc::SIGALRM).map_err(in_round)? == Stop::Announced,
            };
            wanted = (first * 7 + round * 131) % CIRCLE;
        }
        Ok(())
    }

    /// On to the next instruction that is emitted code's or the gates', and where it is.
    fn step(&self, here: u64, cache: &Range<u64>, [enter, leave]: [u64; 2]) -> Result<u64, String> {
        if FLAGS_ON_STACK.contains(&(self.peek(here) as u8)) {
            self.reach(&[here + 1], 0)?;
            return Ok(here + 1);
        }
        self.resume(libc::PTRACE_SINGLESTEP, 0);
        let status = self.wait();
        if is_stopped(status, libc::SIGSEGV) {
            // Through an entry that is not filled: the backend's handler sees to it.
            self.reach(&[enter, leave], libc::SIGSEGV)?;
        } else if !is_stopped(status, libc::SIGTRAP) {
            return Err(format!("status {status:#x} after {here:#x}"));
        }
        let now = self.registers();
        if is_guests(now.rip, cache) {
            return Ok(now.rip);
        }
        // In the runtime, which was called, or in the monitor, which was returned to.
        let back = self.peek(now.rsp);
        let stops = [enter, back];
        self.reach(if is_guests(back, cache) { &stops } else { &stops[..1] }, 0)?;
        Ok(self.registers().rip)
    }

    /// Lets the child run to one of the instructions at `stops`.
    fn reach(&self, stops: &[u64], signal: i32) -> Result<(), String> {
        match self.run_to(stops, signal)? {
            Stop::Reached => Ok(()),
            Stop::Announced => Err("the guest was left".to_owned()),
        }
    }

    /// Lets the child run, from now on with this signal, until it stops.
    fn run_to(&self, stops: &[u64], signal: i32) -> Result<Stop, String> {
        let words: Vec<u64> = stops.iter().map(|&stop| self.peek(stop)).collect();
        for (&stop, &word) in stops.iter().zip(&words) {
            self.poke(stop, word & !0xff | BREAKPOINT);
        }
        self.resume(libc::PTRACE_CONT, signal);
        let status = self.wait();
        if libc::WIFEXITED(status) {
            return Err("the guest's state was wrong".to_owned());
        }
        for (&stop, &word) in stops.iter().zip(&words).rev() {
            self.poke(stop, word);
        }
        let mut registers = self.registers();
        if is_stopped(status, libc::SIGUSR2) {
            return Ok(Stop::Announced);
        }
        registers.rip -= 1;
        if !is_stopped(status, libc::SIGTRAP) || !stops.contains(&registers.rip) {
            return Err(format!("status {status:#x} at {:#x}", registers.rip));
        }
        // SAFETY: the structure is readable.
        let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0usize, &raw mut registers) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        Ok(Stop::Reached)
    }

    fn peek(&self, address: u64) -> u64 {
        // SAFETY: reads the child's memory.
        unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, address, 0usize) as u64 }
    }

    fn poke(&self, address: u64, word: u64) {
        // SAFETY: changes the child's memory, which nothing else of this process is in.
        let result = unsafe { libc::ptrace(libc::PTRACE_POKEDATA, self.pid, address, word) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn resume(&self, how: libc::c_uint, signal: i32) {
        // SAFETY: no memory is passed.
        let result = unsafe { libc::ptrace(how, self.pid, 0usize, signal as usize) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        loop {
            // SAFETY: the status is writable.
            if unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == self.pid {
                return status;
            }
            assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted);
        }
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: zero is a value of these registers, which the kernel fills.
        let mut registers: libc::user_regs_struct = unsafe { core::mem::zeroed() };
        // SAFETY: the structure is writable.
        let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0usize, &raw mut registers) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        registers
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child is ours. It may have ended already.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let mut status = 0;
        // SAFETY: the status is writable.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
    }
}

/// The code cache: the only executable memory of a process that has no file of the disk behind it.
fn executable_memory(pid: libc::pid_t) -> Range<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("a child's maps are readable");
    let line = maps.lines().find(|line| line.split(' ').nth(1) == Some("r-xs"));
    let line = line.unwrap_or_else(|| panic!("no code cache in\n{maps}"));
    let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    number(start)..number(end)
}

fn is_stopped(status: i32, signal: i32) -> bool {
    libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == signal
}

/// Whether an instruction is run on the guest's behalf by emitted code or the gates, or is none: an entry that is not filled.
fn is_guests(pc: u64, cache: &Range<u64>) -> bool {
    let gates =
        (&raw const endo_sfi_enter) as u64..(&raw const endo_sfi_syscall_answered_end) as u64 + LAST_GATE;
    cache.contains(&pc) || gates.contains(&pc) || !(4096..1 << 63).contains(&pc)
}

/// The child: runs the guest from one interruption to the next, and ends when its state is wrong.
fn guest() -> Result<(), String> {
    // SAFETY: no memory is passed.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0usize, 0usize) };
    // SAFETY: no precondition; the parent goes on with it.
    unsafe { libc::raise(libc::SIGSTOP) };
    let fixture = Fixture::<SfiBackend>::new()?;
    fixture.map_code(CODE, code())?;
    let address = |label: *const u8| CODE + (label as u64 - (&raw const endo_interruptions_start) as u64);
    let [pop, callee] =
        [&raw const endo_interruptions_pop, &raw const endo_interruptions_callee].map(address);
    let mut guest = fixture.thread_at(CODE)?;
    loop {
        // SAFETY: no precondition; the parent swallows it.
        unsafe { libc::raise(libc::SIGUSR2) };
        let exit = guest.run();
        let registers = guest.registers();
        let depth = if registers.pc == pop || registers.pc >= callee { 8 } else { 0 };
        if exit != Exit::Interrupted
            || registers.get(Gpr::Rax).wrapping_sub(fixture.word(DATA)?) > 1
            || registers.get(Gpr::Rsp) != STACK_POINTER - depth
        {
            return Err(format!("{exit:?} with {registers:x?}"));
        }
    }
}

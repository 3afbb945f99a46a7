//! What a guest's turn must leave alone on the host's side.

use core::arch::{asm, naked_asm};
use std::ptr;

use super::registers::numbered;
use super::snippet::snippet;
use crate::arch::{Flags, Gpr};
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, Fixture, Guest, Hex, expect_equal, state_at};
use crate::conformance::outside::{CANARY, Outside};
use crate::{Exit, IsolationBackend};

/// Callee-saved registers by psABI 3.2.1, in the order in which `with_marked_registers` reports them, and what it puts in.
const MARKS: [u64; 6] = [0x1b1b, 0x2c2c, 0x3d3d, 0x4e4e, 0x5f5f, 0x6a6a];

pub(in super::super) fn the_host_keeps_its_registers<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    // Everything that a guest can set so that the host would suffer: direction and alignment-check flags, unmasked
    // floating-point exceptions, a full x87 stack, segment bases, the stack pointer.
    let code = snippet!(hostile_state:
        "mov dword ptr [0x20000000], 0", "ldmxcsr [0x20000000]", "mov word ptr [0x20000000], 0x0000",
        "fldcw [0x20000000]", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1",
        "mov eax, 0x20000100", "wrfsbase rax", "wrgsbase rax", "pushfq", "or dword ptr [rsp], 0x40400", "popfq",
        "mov esp, 16", "syscall");
    fixture.map_code(CODE, code.bytes)?;
    let mut state = state_at(CODE);
    numbered(&mut state.registers);
    let mut guest = fixture.thread(state)?;
    let before = Environment::read();
    let mut found = [0; 6];
    let mut exit = None;
    let mut turn = Turn { guest: &mut guest, exit: &mut exit };
    // SAFETY: `run_turn` takes a `Turn` of this type, and both places are writable.
    unsafe { with_marked_registers(run_turn::<B>, (&raw mut turn).cast(), found.as_mut_ptr()) };
    let after = Environment::read();
    expect_equal("exit", exit, Some(Exit::Syscall))?;
    expect_equal("callee-saved registers", found.map(Hex), MARKS.map(Hex))?;
    expect_equal("environment", after, before)?;
    // The guest's own are kept apart.
    let guest_flags = guest.registers().flags.0 & Flags::STATUS_AND_DIRECTION & 0x400;
    expect_equal("the guest's direction flag", guest_flags, 0x400)?;
    expect_equal("the guest's stack pointer", guest.registers().stack_pointer(), 16)
}

pub(in super::super) fn the_host_keeps_its_signal_mask<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    fixture.map_code(CODE, snippet!(mask: "syscall", "ud2").bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    let mut set = 1_u64 << (libc::SIGUSR2 - 1) | 1 << (libc::SIGCHLD - 1);
    signal_mask(libc::SIG_SETMASK, Some(&set));
    guest.run_to_syscall()?;
    let after_call = signal_mask(libc::SIG_SETMASK, None);
    expect_equal("mask after a system call", Hex(after_call), Hex(set))?;
    set |= 1 << (libc::SIGHUP - 1);
    signal_mask(libc::SIG_SETMASK, Some(&set));
    guest.run_to_fault()?;
    expect_equal("mask after a fault", Hex(signal_mask(libc::SIG_SETMASK, None)), Hex(set))
}

/// Where control goes if a guest has its way in `a_guest_cannot_redirect_the_monitor`: nothing is mapped there.
pub const HIJACKED: u64 = 0x6000_dead_0000;

pub(in super::super) fn a_guest_cannot_redirect_the_monitor<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // The canary page stands for the monitor's data; its first word is a function pointer that the monitor calls.
    let outside = Outside::new(&[]).map_err(|error| format!("no canary: {error}"))?;
    fixture.map_code(CODE, snippet!(redirect: "mov [rax], rbx", "syscall").bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.registers_mut().set(Gpr::Rax, CANARY);
    guest.registers_mut().set(Gpr::Rbx, HIJACKED);
    let exit = guest.run();
    let pointer = ptr::with_exposed_provenance::<u64>(CANARY as usize);
    // SAFETY: the page is mapped.
    let called = unsafe { pointer.read_volatile() };
    if called == HIJACKED {
        // SAFETY: none: this is the crash that isolation prevents, at an address that shows whose doing it is.
        let hijacked: extern "C" fn() = unsafe { core::mem::transmute(called) };
        hijacked();
    }
    expect_equal("was a fault", matches!(exit, Exit::Fault(_)), true)?;
    outside.check(&[])
}

/// What `run_turn` gets.
struct Turn<'a, 'f, B: IsolationBackend> {
    guest: &'a mut Guest<'f, B>,
    exit: &'a mut Option<Exit>,
}

unsafe extern "C" fn run_turn<B: IsolationBackend>(turn: *mut libc::c_void) {
    // SAFETY: the argument is the `Turn` that the property made.
    let turn = unsafe { &mut *turn.cast::<Turn<'_, '_, B>>() };
    *turn.exit = Some(turn.guest.run());
}

/// Calls `function(argument)` with marks in all callee-saved registers, and writes what is in them afterwards.
///
/// # Safety
///
/// `function` accepts the argument, and `found` has room for six words.
#[unsafe(naked)]
unsafe extern "C" fn with_marked_registers(
    function: unsafe extern "C" fn(*mut libc::c_void),
    argument: *mut libc::c_void,
    found: *mut u64,
) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov ebx, {BX}",
        "mov ebp, {BP}",
        "mov r12d, {R12}",
        "mov r13d, {R13}",
        "mov r14d, {R14}",
        "mov r15d, {R15}",
        "call rax",
        "pop rdx",
        "mov [rdx], rbx",
        "mov [rdx + 8], rbp",
        "mov [rdx + 16], r12",
        "mov [rdx + 24], r13",
        "mov [rdx + 32], r14",
        "mov [rdx + 40], r15",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        BX = const MARKS[0],
        BP = const MARKS[1],
        R12 = const MARKS[2],
        R13 = const MARKS[3],
        R14 = const MARKS[4],
        R15 = const MARKS[5],
    )
}

/// What compiled code relies on besides registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Environment {
    thread_pointer: u64,
    direction_and_alignment: u64,
    mxcsr: u32,
    x87_control: u16,
    x87_tags: u16,
    alternate_stack: usize,
}

impl Environment {
    fn read() -> Self {
        let flags: u64;
        // SAFETY: reads the flags through the stack.
        unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
        let mut mxcsr = 0_u32;
        // SAFETY: stores four bytes where it may.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
        let mut x87 = [0_u16; 14];
        // SAFETY: stores 28 bytes where it may; `fldenv` brings back the exception masks that `fnstenv` sets.
        unsafe {
            asm!("fnstenv [{0}]", "fldenv [{0}]", in(reg) x87.as_mut_ptr(), options(nostack, preserves_flags));
        }
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut stack: libc::stack_t = unsafe { core::mem::zeroed() };
        // SAFETY: only asks.
        unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
        Environment {
            thread_pointer: crate::arch::host_thread_pointer(),
            direction_and_alignment: flags & (0x400 | Flags::ALIGNMENT),
            // Sticky exception bits are nobody's.
            mxcsr: mxcsr & !0x3f,
            x87_control: x87[0],
            x87_tags: x87[4],
            alternate_stack: stack.ss_sp as usize,
        }
    }
}

/// Sets the calling thread's blocked signals, if any are given, and returns those blocked before.
fn signal_mask(how: libc::c_int, set: Option<&u64>) -> u64 {
    let mut before = 0_u64;
    let set = set.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both are null or valid for the kernel's eight-byte signal sets.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, set, &raw mut before, size_of::<u64>()) };
    before
}

//! System calls that may block, made for a guest without ever sleeping through a signal.
//!
//! Between looking whether a signal waits and entering the kernel there is a gap in which one may arrive. The
//! assembly below has labels around that gap, and [`abort_if_about_to_block`] moves a thread caught in it to the way out.
//!
//! A guest's `SA_RESTART` is given to the host's handler too ([`super::host`]). So when the kernel decides that a call
//! is to be restarted, it moves the thread back onto the `syscall` instruction, which is inside the gap: the call
//! fails with [`RESTART`], the guest's handler runs, and then the call is made again. Which calls restart, and under what
//! conditions, is the kernel's decision, and no table here repeats it.

use core::sync::atomic::AtomicU32;

use super::host;
use crate::errno::{Errno, SyscallResult};

/// What [`blocking_syscall`] fails with when the guest must make the call again after its signals were delivered: the
/// kernel's own ERESTARTSYS, which no program ever sees. [`super::finish_syscall`] acts on it.
pub const RESTART: Errno = Errno(512);

/// The same for a call that was about to go on with what was left of its time when a signal came: the kernel's own
/// ERESTART_RESTARTBLOCK. The guest must call `restart_syscall`.
pub const RESUME: Errno = Errno(516);

/// Makes a system call that may block. It fails with EINTR where the kernel's does, and with [`RESTART`] or [`RESUME`]
/// where a signal came first or the kernel would restart it.
///
/// # Safety
///
/// The call must be one that the monitor may make with these arguments: pointers lead to memory that the kernel may
/// read or write as the call says.
pub unsafe fn blocking_syscall(number: u32, arguments: [u64; 6]) -> SyscallResult {
    let [a, b, c, d, e, f] = arguments;
    let call = [u64::from(number), a, b, c, d, e, f];
    // SAFETY: the flag and the call's words live until it returns; the caller vouches for the call.
    let result = host::with_waiting_flag(|waiting| unsafe { endo_blocking_syscall(waiting, call.as_ptr()) });
    match [RESTART, RESUME].into_iter().find(|errno| result == -i64::from(errno.0)) {
        Some(errno) => Err(errno),
        None => Errno::from_raw_result(result),
    }
}

/// For the signal handler: if the thread has looked for signals and is about to enter the kernel, it will not.
/// Async-signal-safe.
pub(super) fn abort_if_about_to_block(context: &mut libc::ucontext_t) {
    let address = |label: *const u8| label as u64;
    let gap = address(&raw const endo_blocking_check)..address(&raw const endo_blocking_done);
    let (pc, number) = arch::pc_and_number(context);
    if !gap.contains(pc) {
        return;
    }
    // The kernel itself puts this number there, when it has moved the thread back onto the instruction.
    let is_resuming = number == libc::SYS_restart_syscall as u64;
    *pc = if is_resuming {
        address(&raw const endo_blocking_resume)
    } else {
        address(&raw const endo_blocking_abort)
    };
}

unsafe extern "C" {
    fn endo_blocking_syscall(waiting: *const AtomicU32, call: *const u64) -> i64;
    static endo_blocking_check: u8;
    static endo_blocking_done: u8;
    static endo_blocking_abort: u8;
    static endo_blocking_resume: u8;
}

#[cfg(target_arch = "x86_64")]
mod arch {
    core::arch::global_asm!(
        // extern "C" fn endo_blocking_syscall(rdi: *const AtomicU32, rsi: *const [u64; 7]) -> i64
        // Clobbers what the C ABI lets it. The kernel clobbers rcx and r11.
        ".globl endo_blocking_syscall",
        ".type endo_blocking_syscall, @function",
        "endo_blocking_syscall:",
        ".cfi_startproc",
        "mov rcx, rdi",
        "mov r11, rsi",
        "mov rax, [r11]",
        "mov rdi, [r11 + 8]",
        "mov rsi, [r11 + 16]",
        "mov rdx, [r11 + 24]",
        "mov r10, [r11 + 32]",
        "mov r8, [r11 + 40]",
        "mov r9, [r11 + 48]",
        ".globl endo_blocking_check",
        "endo_blocking_check:",
        "cmp dword ptr [rcx], 0",
        "jne endo_blocking_abort",
        "syscall",
        ".globl endo_blocking_done",
        "endo_blocking_done:",
        "ret",
        ".globl endo_blocking_abort",
        "endo_blocking_abort:",
        "mov rax, {restart}",
        "ret",
        ".globl endo_blocking_resume",
        "endo_blocking_resume:",
        "mov rax, {resume}",
        "ret",
        ".cfi_endproc",
        ".size endo_blocking_syscall, . - endo_blocking_syscall",
        restart = const -super::RESTART.0,
        resume = const -super::RESUME.0,
    );

    /// The interrupted program counter, and what a system call instruction there would take for its number.
    pub(super) fn pc_and_number(context: &mut libc::ucontext_t) -> (&mut u64, u64) {
        let registers = &mut context.uc_mcontext.gregs;
        let number = registers[libc::REG_RAX as usize] as u64;
        // SAFETY: the two types have the same size, alignment and values.
        let pc = unsafe { &mut *(&raw mut registers[libc::REG_RIP as usize]).cast::<u64>() };
        (pc, number)
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    core::arch::global_asm!(
        // extern "C" fn endo_blocking_syscall(x0: *const AtomicU32, x1: *const [u64; 7]) -> i64
        // Clobbers what the C ABI lets it. The kernel clobbers x0 alone.
        ".globl endo_blocking_syscall",
        ".type endo_blocking_syscall, %function",
        "endo_blocking_syscall:",
        ".cfi_startproc",
        "mov x9, x0",
        "mov x10, x1",
        "ldr x8, [x10]",
        "ldp x0, x1, [x10, #8]",
        "ldp x2, x3, [x10, #24]",
        "ldp x4, x5, [x10, #40]",
        ".globl endo_blocking_check",
        "endo_blocking_check:",
        "ldr w11, [x9]",
        "cbnz w11, endo_blocking_abort",
        "svc #0",
        ".globl endo_blocking_done",
        "endo_blocking_done:",
        "ret",
        ".globl endo_blocking_abort",
        "endo_blocking_abort:",
        "mov x0, #{restart}",
        "ret",
        ".globl endo_blocking_resume",
        "endo_blocking_resume:",
        "mov x0, #{resume}",
        "ret",
        ".cfi_endproc",
        ".size endo_blocking_syscall, . - endo_blocking_syscall",
        restart = const -super::RESTART.0,
        resume = const -super::RESUME.0,
    );

    /// The interrupted program counter, and what a system call instruction there would take for its number.
    pub(super) fn pc_and_number(context: &mut libc::ucontext_t) -> (&mut u64, u64) {
        let machine = &mut context.uc_mcontext;
        (&mut machine.pc, machine.regs[8])
    }
}

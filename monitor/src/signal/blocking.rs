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

/// Makes a system call that may block. It fails with EINTR where the kernel's does, and with [`RESTART`] where a
/// signal came first or the kernel would restart it.
///
/// # Safety
///
/// The call must be one that the monitor may make with these arguments: pointers lead to memory that the kernel may
/// read or write as the call says.
pub unsafe fn blocking_syscall(number: u32, arguments: [u64; 6]) -> SyscallResult {
    let [a, b, c, d, e, f] = arguments;
    let call = [u64::from(number), a, b, c, d, e, f];
    // SAFETY: the flag and the call's words live until it returns; the caller vouches for the call.
    let result = host::with_waiting_flag(|waiting| unsafe { arch::blocking_syscall(waiting, call.as_ptr()) });
    if result == -i64::from(RESTART.0) { Err(RESTART) } else { Errno::from_raw_result(result) }
}

/// For the signal handler: if the thread has looked for signals and is about to enter the kernel, it will not.
/// Async-signal-safe.
pub(super) fn abort_if_about_to_block(context: &mut libc::ucontext_t) {
    arch::abort_if_about_to_block(context);
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::AtomicU32;

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
        "endo_blocking_check:",
        "cmp dword ptr [rcx], 0",
        "jne endo_blocking_abort",
        "syscall",
        "endo_blocking_done:",
        "ret",
        "endo_blocking_abort:",
        "mov rax, -512",
        "ret",
        ".cfi_endproc",
        ".size endo_blocking_syscall, . - endo_blocking_syscall",
    );

    unsafe extern "C" {
        #[link_name = "endo_blocking_syscall"]
        pub(super) fn blocking_syscall(waiting: *const AtomicU32, call: *const u64) -> i64;
        static endo_blocking_check: u8;
        static endo_blocking_done: u8;
        static endo_blocking_abort: u8;
    }

    pub(super) fn abort_if_about_to_block(context: &mut libc::ucontext_t) {
        let pc = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        if (&raw const endo_blocking_check as i64..&raw const endo_blocking_done as i64).contains(pc) {
            *pc = &raw const endo_blocking_abort as i64;
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::AtomicU32;

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
        "endo_blocking_check:",
        "ldr w11, [x9]",
        "cbnz w11, endo_blocking_abort",
        "svc #0",
        "endo_blocking_done:",
        "ret",
        "endo_blocking_abort:",
        "mov x0, #-512",
        "ret",
        ".cfi_endproc",
        ".size endo_blocking_syscall, . - endo_blocking_syscall",
    );

    unsafe extern "C" {
        #[link_name = "endo_blocking_syscall"]
        pub(super) fn blocking_syscall(waiting: *const AtomicU32, call: *const u64) -> i64;
        static endo_blocking_check: u8;
        static endo_blocking_done: u8;
        static endo_blocking_abort: u8;
    }

    pub(super) fn abort_if_about_to_block(context: &mut libc::ucontext_t) {
        let pc = &mut context.uc_mcontext.pc;
        if (&raw const endo_blocking_check as u64..&raw const endo_blocking_done as u64).contains(pc) {
            *pc = &raw const endo_blocking_abort as u64;
        }
    }
}

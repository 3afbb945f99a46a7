//! Syscall User Dispatch: the kernel turns system calls of guest code into SIGSYS.
//!
//! Follows Documentation/admin-guide/syscall-user-dispatch.rst and kernel/entry/syscall_user_dispatch.c of Linux. Each
//! host thread has a selector byte: while it says [`BLOCK`] every system call of the thread raises SIGSYS, except from
//! one short range of code. `fork` and `clone` start the child with dispatch off.

use std::io;

/// Selector: system calls go to the kernel.
pub const ALLOW: u8 = 0;
/// Selector: system calls raise SIGSYS.
pub const BLOCK: u8 = 1;

const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
const PR_SYS_DISPATCH_OFF: libc::c_ulong = 0;
const PR_SYS_DISPATCH_ON: libc::c_ulong = 1;

/// `si_arch` of a system call by the `syscall` instruction (linux/audit.h).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Whether the kernel has it. A selector that is no user address is refused with EFAULT, after the option and the mode
/// were found good, so that asking changes nothing.
pub fn is_available() -> bool {
    // SAFETY: the call cannot succeed.
    unsafe { arm(0, 0, usize::MAX) }.is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT))
}

/// Turns dispatch on for the calling thread. Calls from the `length` bytes of code at `start` pass whatever the selector says.
///
/// # Safety
///
/// `selector` must stay readable until the thread ends or dispatch is turned off, or be refused by the kernel.
pub unsafe fn arm(start: usize, length: usize, selector: usize) -> io::Result<()> {
    // SAFETY: the caller vouches for the selector; the rest only says which code of ours is let through.
    let status =
        unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, start, length, selector) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Turns dispatch off for the calling thread.
pub fn disarm() {
    // SAFETY: no pointer is passed; the kernel cannot refuse this.
    unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0_usize, 0_usize, 0_usize) };
}

/// Whether a SIGSYS of Syscall User Dispatch stands for a 64-bit system call, and not for `int 0x80` or `sysenter`.
pub fn is_native_call(info: &libc::siginfo_t) -> bool {
    // SAFETY: siginfo_t is 128 bytes of plain data, aligned to 8.
    let words: &[u32; 32] = unsafe { &*core::ptr::from_ref(info).cast() };
    // With SIGSYS the word at byte 28 is `si_arch` (asm-generic/siginfo.h).
    words[7] == AUDIT_ARCH_X86_64
}

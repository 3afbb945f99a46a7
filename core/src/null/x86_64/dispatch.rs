//! Syscall User Dispatch: the kernel turns system calls of guest code into SIGSYS.
//!
//! Follows Documentation/admin-guide/syscall-user-dispatch.rst and kernel/entry/syscall_user_dispatch.c of Linux. Each
//! host thread has a selector byte: while it says [`BLOCK`] every system call of the thread raises SIGSYS, except from
//! one short range of code, which is the instruction that enters the guest. `fork` and `clone` start the child with
//! dispatch off.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::switch;

/// Selector: system calls go to the kernel.
const ALLOW: u8 = 0;
/// Selector: system calls raise SIGSYS.
pub(super) const BLOCK: u8 = 1;

const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
const PR_SYS_DISPATCH_ON: libc::c_ulong = 1;

/// `si_arch` of a system call by the `syscall` instruction (linux/audit.h).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

thread_local! {
    // Constant initialisers and no destructors: plain loads and stores, which a signal handler may do.
    static SELECTOR: AtomicU8 = const { AtomicU8::new(ALLOW) };
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the kernel has it. A selector that is no user address is refused with EFAULT, after the option and the mode
/// were found good, so that asking changes nothing.
pub(super) fn is_available() -> bool {
    // SAFETY: the call cannot succeed.
    unsafe { arm_with(0, 0, usize::MAX) }.is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT))
}

/// Turns dispatch on for the calling thread, with the selector open. Does nothing if that has been done.
pub(super) fn arm() -> io::Result<()> {
    if ARMED.get() {
        return Ok(());
    }
    SELECTOR.with(|selector| selector.store(ALLOW, Ordering::Relaxed));
    let (start, length) = switch::system_call_range();
    // SAFETY: the selector lies in the thread's static TLS block, which outlives all code of the thread.
    unsafe { arm_with(start, length, selector() as usize) }?;
    ARMED.set(true);
    Ok(())
}

/// The same in a forked child, where it is off, if the calling thread had it on.
pub(super) fn arm_after_fork() -> io::Result<()> {
    if ARMED.replace(false) { arm() } else { Ok(()) }
}

/// The calling thread's selector byte.
pub(super) fn selector() -> *mut u8 {
    SELECTOR.with(AtomicU8::as_ptr)
}

/// Lets the calling thread's system calls through, and says whether they were caught until now. Async-signal-safe.
pub(super) fn open() -> bool {
    SELECTOR.with(|selector| selector.swap(ALLOW, Ordering::Relaxed)) == BLOCK
}

/// Whether a SIGSYS of Syscall User Dispatch stands for a 64-bit system call, and not for `int 0x80` or `sysenter`.
pub(super) fn is_native_call(info: &libc::siginfo_t) -> bool {
    // SAFETY: siginfo_t is 128 bytes of plain data, aligned to 8.
    let words: &[u32; 32] = unsafe { &*core::ptr::from_ref(info).cast() };
    // With SIGSYS the word at byte 28 is `si_arch` (asm-generic/siginfo.h).
    words[7] == AUDIT_ARCH_X86_64
}

/// # Safety
///
/// `selector` must stay readable for the rest of the thread's life, or be refused by the kernel.
unsafe fn arm_with(start: usize, length: usize, selector: usize) -> io::Result<()> {
    // SAFETY: the caller vouches for the selector; the rest only says which code of ours is let through.
    let status =
        unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, start, length, selector) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

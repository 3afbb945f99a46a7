//! The selector of Syscall User Dispatch of each host thread. What always passes is the instruction that enters the guest.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use super::switch;
use crate::native::dispatch::{self, ALLOW, BLOCK};

thread_local! {
    // Constant initialisers and no destructors: plain loads and stores, which a signal handler may do.
    static SELECTOR: AtomicU8 = const { AtomicU8::new(ALLOW) };
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// Turns dispatch on for the calling thread, with the selector open. Does nothing if that has been done.
pub(super) fn arm() -> io::Result<()> {
    if ARMED.get() {
        return Ok(());
    }
    SELECTOR.with(|selector| selector.store(ALLOW, Ordering::Relaxed));
    let (start, length) = switch::system_call_range();
    // SAFETY: the selector lies in the thread's static TLS block, which outlives all code of the thread.
    unsafe { dispatch::arm(start, length, selector() as usize) }?;
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

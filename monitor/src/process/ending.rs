//! The end of a process.

use endo_core::GuestAddr;

use crate::memory::user::UserMemory;
use crate::signal::{SigSet, Signal, host};
use endo_core::{DomainId, IsolationBackend};

/// How a guest process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// `exit_group` with this status.
    Exited(i32),
    /// A signal's default action.
    Killed(i32),
}

impl Ending {
    /// Ends this process so that its parent learns of the guest's end: the same status, or the same signal. Nothing that
    /// Rust or the C library would do at exit is done, as with `_exit`: what the caller has buffered it has flushed.
    pub fn finish(self) -> ! {
        match self {
            Ending::Exited(status) => exit_now(status),
            Ending::Killed(number) => die_of(number),
        }
    }
}

fn exit_now(status: i32) -> ! {
    // SAFETY: no precondition.
    unsafe { libc::_exit(status) }
}

/// Lets the default action of a signal end this process.
fn die_of(number: i32) -> ! {
    if let Some(signal) = Signal::new(number) {
        host::relinquish(signal, false);
        host::send_to_self(signal);
        host::set_exact_mask(SigSet::EMPTY);
    }
    // Only a signal whose default is not to end a process brings us here, and no such signal is an ending.
    exit_now(128 + number)
}

/// What the kernel does for a thread that asked for it with `CLONE_CHILD_CLEARTID` or `set_tid_address`, when it ends and
/// others share its memory: the word becomes zero, and one waiter is woken (kernel/fork.c, `mm_release`).
pub(crate) fn clear_child_tid<B: IsolationBackend>(backend: &B, word: GuestAddr) {
    if word.0 == 0 {
        return;
    }
    let user = UserMemory::new(backend, DomainId::MAIN);
    // Where the word is gone, so are the waiters.
    if user.write(word, &0_u32).is_err() {
        return;
    }
    if let Ok(place) = user.locate(word, 4) {
        // SAFETY: the call wakes waiters and writes nothing; the address is the guest's.
        unsafe { libc::syscall(libc::SYS_futex, place.start.0, libc::FUTEX_WAKE, 1, 0, 0, 0) };
    }
}

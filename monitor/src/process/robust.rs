//! Robust futexes: locks whose next owner learns that the last one died (kernel/futex/core.c, `exit_robust_list`).
//!
//! The kernel's list is the host C library's. A guest's is walked here, in guest memory that may hold anything.

use endo_core::{GuestAddr, IsolationBackend};

use crate::errno::Errno;
use crate::memory::user::UserMemory;

/// Where a thread keeps the list of the robust locks that it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RobustList {
    head: GuestAddr,
}

impl RobustList {
    /// Bytes of a head: first entry, offset of the lock word, entry in progress.
    pub const HEAD_BYTES: u64 = 24;
    /// No list, as a thread starts.
    pub const NONE: RobustList = RobustList { head: GuestAddr(0) };

    /// `ROBUST_LIST_LIMIT`: a list may be a ring without end.
    const LIMIT: usize = 2048;

    /// The list with this head, or none.
    pub const fn at(head: GuestAddr) -> Self {
        RobustList { head }
    }

    /// Where the head is.
    pub const fn head(self) -> GuestAddr {
        self.head
    }

    /// The calling thread is about to end: marks the locks that it holds as abandoned and wakes one waiter each.
    pub(super) fn abandon<B: IsolationBackend>(self, user: UserMemory<'_, B>) {
        if self.head.0 != 0 {
            // A list that cannot be read ends there, for the kernel too.
            let _ = self.walk(user);
        }
    }

    fn walk<B: IsolationBackend>(self, user: UserMemory<'_, B>) -> Result<(), Errno> {
        let [first, offset, in_progress]: [u64; 3] = user.read(self.head)?;
        let mut entry = first;
        for _ in 0..Self::LIMIT {
            if entry & !1 == self.head.0 {
                break;
            }
            let next = user.read::<u64>(GuestAddr(entry & !1));
            if entry & !1 != in_progress & !1 {
                abandon_lock(user, GuestAddr((entry & !1).wrapping_add(offset)))?;
            }
            entry = next?;
        }
        if in_progress != 0 {
            abandon_lock(user, GuestAddr((in_progress & !1).wrapping_add(offset)))?;
        }
        Ok(())
    }
}

/// `handle_futex_death`. Only waiters change the word of a lock that this thread holds, and only by setting their bit: if
/// that happens between the read and the write, the waiter is woken all the same.
fn abandon_lock<B: IsolationBackend>(user: UserMemory<'_, B>, word: GuestAddr) -> Result<(), Errno> {
    let value: u32 = user.read(word)?;
    // SAFETY: no precondition.
    let own = unsafe { libc::gettid() } as u32;
    if value & libc::FUTEX_TID_MASK != own {
        return Ok(());
    }
    user.write(word, &(value & libc::FUTEX_WAITERS | libc::FUTEX_OWNER_DIED))?;
    let place = user.locate(word, 4)?;
    // SAFETY: the call wakes waiters and writes nothing; the address is the guest's.
    unsafe { libc::syscall(libc::SYS_futex, place.start.0, libc::FUTEX_WAKE, 1, 0, 0, 0) };
    Ok(())
}

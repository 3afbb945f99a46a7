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

    /// The thread with this id is about to end: marks the locks that it holds as abandoned and wakes one waiter each.
    pub(super) fn abandon<B: IsolationBackend>(self, user: UserMemory<'_, B>, owner: i32) {
        if self.head.0 != 0 {
            // A list that cannot be read ends there, for the kernel too.
            let _ = self.walk(user, owner as u32);
        }
    }

    fn walk<B: IsolationBackend>(self, user: UserMemory<'_, B>, owner: u32) -> Result<(), Errno> {
        let [first, offset, in_progress]: [u64; 3] = user.read(self.head)?;
        let lock = |entry: u64, progress| Lock {
            word: GuestAddr((entry & !1).wrapping_add(offset)),
            inherits_priority: entry & 1 != 0,
            progress,
        };
        let mut entry = first;
        for _ in 0..Self::LIMIT {
            if entry & !1 == self.head.0 {
                break;
            }
            let next = user.read::<u64>(GuestAddr(entry & !1));
            if entry & !1 != in_progress & !1 {
                lock(entry, Progress::Held).abandon(user, owner)?;
            }
            entry = next?;
        }
        if in_progress != 0 {
            lock(in_progress, Progress::BeingTakenOrReleased).abandon(user, owner)?;
        }
        Ok(())
    }
}

/// A lock on a thread's list.
#[derive(Clone, Copy, Debug)]
struct Lock {
    word: GuestAddr,
    /// Its waiters are the kernel's to wake, when the host thread ends.
    inherits_priority: bool,
    progress: Progress,
}

/// How far a thread is with a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Held,
    BeingTakenOrReleased,
}

impl Lock {
    /// `handle_futex_death`.
    fn abandon<B: IsolationBackend>(self, user: UserMemory<'_, B>, owner: u32) -> Result<(), Errno> {
        let mut value: u32 = user.read(self.word)?;
        loop {
            let holder = value & libc::FUTEX_TID_MASK;
            let may_be_free = self.progress == Progress::BeingTakenOrReleased && holder == 0;
            if may_be_free && !self.inherits_priority {
                // It was released, and who released it did not come to wake the next one.
                return wake_one(user, self.word);
            }
            if holder != owner {
                return Ok(());
            }
            let abandoned = value & libc::FUTEX_WAITERS | libc::FUTEX_OWNER_DIED;
            let before = user.compare_exchange(self.word, value, abandoned)?;
            if before == value {
                break;
            }
            value = before;
        }
        if value & libc::FUTEX_WAITERS != 0 && !self.inherits_priority {
            wake_one(user, self.word)?;
        }
        Ok(())
    }
}

/// Wakes one of those who wait for a word to change, in whatever process.
pub(super) fn wake_one<B: IsolationBackend>(user: UserMemory<'_, B>, word: GuestAddr) -> Result<(), Errno> {
    let place = user.locate(word, 4)?;
    // SAFETY: the call wakes waiters and writes nothing; the address is the guest's.
    unsafe { libc::syscall(libc::SYS_futex, place.start.0, libc::FUTEX_WAKE, 1, 0, 0, 0) };
    Ok(())
}

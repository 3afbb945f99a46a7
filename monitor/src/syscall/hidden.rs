//! The monitor's own descriptors, which no guest may see, use or close.
//!
//! They sit together at the top of what the process may open. A guest that names one gets EBADF, and does not find it in
//! /proc. They count against `RLIMIT_NOFILE`, which the guest sees as it is.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::errno::Errno;

/// Descriptors from here on, and up to [`END`], are the monitor's. The descriptor table is the host process's, so this
/// is too.
static START: AtomicI32 = AtomicI32::new(i32::MAX);
static END: AtomicI32 = AtomicI32::new(i32::MAX);

/// So far below the limit the first one goes, if the limit is not a small one.
const RESERVED: u64 = 64;

/// Whether the descriptor is the monitor's. Async-signal-safe.
pub fn is_hidden(fd: i32) -> bool {
    fd >= START.load(Ordering::Relaxed) && fd < END.load(Ordering::Relaxed)
}

/// The monitor's descriptors, if it keeps any: first, and one past the last.
pub fn range() -> Option<(i32, i32)> {
    let (start, end) = (START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
    (start < end).then_some((start, end))
}

/// Moves a descriptor to where no guest reaches it. It does not survive exec.
///
/// To be called before the first guest runs.
pub fn hide(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let limit = open_limit().min(1 << 20);
    let base = (limit - RESERVED.min(limit / 4)) as i32;
    let from = range().map_or(base, |(_, end)| end);
    // SAFETY: the descriptor is open, as `fd` owns it.
    let moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, from) };
    if moved < 0 {
        return Err(Errno::last());
    }
    START.fetch_min(moved, Ordering::Relaxed);
    crate::fast::limit_descriptors(moved);
    END.store(moved + 1, Ordering::Relaxed);
    // SAFETY: the descriptor is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Takes over a descriptor that the endo before an exec left open for this one. To be called once, before the first
/// guest runs.
pub fn adopt(fd: i32) -> Option<OwnedFd> {
    // SAFETY: the call takes no pointer.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and endo left it for this process alone.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What an exec does to a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It stays open, for the endo that comes after this one.
    Open,
    /// It is closed.
    Closed,
}

/// Says what an exec is to do to one of the monitor's descriptors.
pub fn keep_across_exec(fd: i32, kept: Kept) {
    let flags = if kept == Kept::Open { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: the call takes no pointer. It fails for a descriptor that is not open, about which nothing need be done.
    unsafe { libc::fcntl(fd, libc::F_SETFD, flags) };
}

fn open_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives until the call returns.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if status == 0 { limit.rlim_cur } else { 1024 }
}

//! The monitor's own descriptors, which no guest may see, use or close.
//!
//! They sit together, as high as few processes ever get: the kernel's table of descriptors is as large as the highest, and
//! each fork copies it. A guest that names one gets EBADF, and does not find it in /proc. They count against
//! `RLIMIT_NOFILE`, which the guest sees as it is.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::raw;
use crate::errno::Errno;

/// Descriptors from here on, and up to [`END`], are the monitor's. The descriptor table is the host process's, so this
/// is too.
static START: AtomicI32 = AtomicI32::new(i32::MAX);
static END: AtomicI32 = AtomicI32::new(i32::MAX);

/// The one that stands for the guest's program, which other monitors look for.
static PROGRAM: AtomicI32 = AtomicI32::new(-1);

/// Numbers that are kept for them, if the limit is not a small one.
const RESERVED: i32 = 64;

/// Where they end, if the limit is not lower and nothing there is open.
const USUAL_END: i32 = 4096;

/// Whether the descriptor is the monitor's. Async-signal-safe.
pub fn is_hidden(fd: i32) -> bool {
    fd >= START.load(Ordering::Relaxed) && fd < END.load(Ordering::Relaxed)
}

/// The monitor's descriptors, if it keeps any: first, and one past the last.
pub fn range() -> Option<(i32, i32)> {
    let (start, end) = (START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
    (start < end).then_some((start, end))
}

/// The monitor's descriptors that a guest may not come by at all: a file that it runs it may open itself.
pub fn guarded() -> impl Iterator<Item = i32> {
    let (start, end) = range().unwrap_or_default();
    let program = PROGRAM.load(Ordering::Relaxed);
    (start..end).filter(move |&fd| fd != program)
}

/// Keeps the guest's program open, under the number after that of endo's own file: so another monitor finds out which
/// program this process runs.
///
/// It is a path descriptor, as that is: a guest cannot wait for it, not even on a fast path.
pub fn keep_program(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let program = raw::open_for_path(&link_to(file))?;
    PROGRAM.store(hide(program)?.into_raw_fd(), Ordering::Relaxed);
    Ok(())
}

/// The link in /proc that leads to what a descriptor of this process stands for.
fn link_to(file: BorrowedFd<'_>) -> CString {
    let link = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    CString::new(link).expect("a number has no zero byte")
}

/// Moves a descriptor to where no guest reaches it. It does not survive exec.
///
/// To be called before the first guest runs.
pub fn hide(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let from = range().map_or_else(|| place(open_limit(), is_free), |(_, end)| end);
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

/// Hidden numbers at which threads judge what they are about to open. They are made when there is a second thread, and
/// never free: a path descriptor of an empty file holds each that nobody uses.
struct Slots {
    nothing: OwnedFd,
    numbers: Vec<OwnedFd>,
    is_taken: Vec<AtomicBool>,
}

/// As many threads may be opening files through slots at a time.
const SLOTS: usize = 8;

static SLOTS_OF_PROCESS: OnceLock<Option<Slots>> = OnceLock::new();

/// Makes the slots, before the second thread of the process is.
pub fn prepare_slots() -> Result<(), Errno> {
    let make = || {
        let file = raw::empty_file().ok()?;
        let nothing = hide(raw::open_for_path(&link_to(file.as_fd())).ok()?).ok()?;
        let copy = |_| hide(nothing.try_clone().ok()?).ok();
        let numbers: Vec<OwnedFd> = (0..SLOTS).map(copy).collect::<Option<_>>()?;
        let is_taken = numbers.iter().map(|_| AtomicBool::new(false)).collect();
        Some(Slots { nothing, numbers, is_taken })
    };
    SLOTS_OF_PROCESS.get_or_init(make).as_ref().map(|_| ()).ok_or(Errno::EMFILE)
}

/// A slot that the calling thread uses.
#[derive(Debug)]
pub struct Slot {
    index: usize,
}

impl Slot {
    /// Puts what a descriptor stands for into a slot. ENFILE: all are in use.
    pub fn take_over(fd: i32) -> Result<Self, Errno> {
        let slots = Self::slots();
        let index = slots.is_taken.iter().position(|taken| !taken.swap(true, Ordering::Acquire));
        let slot = Slot { index: index.ok_or(Errno::ENFILE)? };
        raw::duplicate_to(fd, slot.as_raw_fd(), libc::O_CLOEXEC)?;
        Ok(slot)
    }

    fn slots() -> &'static Slots {
        let slots = SLOTS_OF_PROCESS.get().and_then(Option::as_ref);
        slots.expect("they are made before the second thread")
    }
}

impl AsRawFd for Slot {
    fn as_raw_fd(&self) -> i32 {
        Self::slots().numbers[self.index].as_raw_fd()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = Self::slots();
        // Both numbers are the monitor's, and open: nothing can fail here.
        let _ = raw::duplicate_to(slots.nothing.as_raw_fd(), self.as_raw_fd(), libc::O_CLOEXEC);
        slots.is_taken[self.index].store(false, Ordering::Release);
    }
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

/// The first of the numbers for the monitor's descriptors, below a limit.
fn place(limit: i32, is_free: impl Fn(i32) -> bool) -> i32 {
    let highest = limit - RESERVED.min(limit / 4);
    let usual = (USUAL_END - RESERVED).min(highest);
    (usual..highest).step_by(RESERVED as usize).find(|&from| is_free(from)).unwrap_or(highest)
}

/// Whether none of the [`RESERVED`] descriptors from this on is open.
fn is_free(from: i32) -> bool {
    let mut entries = [libc::pollfd { fd: 0, events: 0, revents: 0 }; RESERVED as usize];
    for (entry, fd) in entries.iter_mut().zip(from..) {
        entry.fd = fd;
    }
    // SAFETY: `entries` lives until the call returns.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, 0) };
    entries.iter().all(|entry| entry.revents == libc::POLLNVAL)
}

/// The soft limit on open files, and no more than there can be.
fn open_limit() -> i32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives until the call returns.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if status == 0 { limit.rlim_cur.min(1 << 20) as i32 } else { 1024 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_go_where_few_processes_get_and_below_the_limit() {
        assert_eq!(place(1 << 20, |_| true), USUAL_END - RESERVED);
        assert_eq!(place(1024, |_| true), 1024 - RESERVED);
        assert_eq!(place(20, |_| true), 15);
    }

    #[test]
    fn they_do_not_go_among_descriptors_that_are_open() {
        assert_eq!(place(20_000, |from| from > 5000), 5056);
        assert_eq!(place(20_000, |_| false), 20_000 - RESERVED);
    }

    #[test]
    fn an_open_descriptor_is_seen() {
        // SAFETY: the call takes no pointer.
        let open = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 700) };
        assert!(open >= 700 && !is_free(open - 3) && is_free(open + 100));
        // SAFETY: the descriptor was made here.
        unsafe { libc::close(open) };
    }
}

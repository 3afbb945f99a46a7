//! Runs one property in a forked child and tells what became of it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::fixture::Fixture;
use super::{Finding, Outcome};
use crate::IsolationBackend;

/// More than any property needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the child reports: set in the child only, for its signal handler.
static REPORT: AtomicI32 = AtomicI32::new(-1);

/// What the child writes: a tag, a signal and an address, or the text of a finding.
const TAG_PASSED: u8 = b'P';
const TAG_FAILED: u8 = b'F';
const TAG_CRASHED: u8 = b'C';

/// Longest text of a finding in bytes: a pipe takes that much at once.
const LONGEST: usize = 4000;

/// Runs `check` on a new backend in a forked child, and waits.
pub(super) fn run<B: IsolationBackend>(check: fn(&Fixture<B>) -> Finding) -> Outcome {
    fork_and_check(|| check(&Fixture::new()?))
}

/// Runs `check` in a forked child, and waits.
pub(super) fn fork_and_check(check: impl FnOnce() -> Finding) -> Outcome {
    let (reader, writer) = match pipe() {
        Ok(ends) => ends,
        Err(error) => return Outcome::Failed(format!("no pipe: {error}")),
    };
    // SAFETY: the child calls code that a thread of a multi-threaded process may meet locked only in the allocator,
    // which glibc makes usable in forked children.
    match unsafe { libc::fork() } {
        -1 => Outcome::Failed(format!("no child: {}", io::Error::last_os_error())),
        0 => {
            REPORT.store(writer.as_raw_fd(), Ordering::Relaxed);
            let finding = catch_unwind(AssertUnwindSafe(check));
            match finding.unwrap_or_else(|_| Err("panicked".to_owned())) {
                Ok(()) => report(&[TAG_PASSED]),
                Err(why) => {
                    let text = &why.as_bytes()[..why.len().min(LONGEST)];
                    report(&[&[TAG_FAILED], text].concat());
                }
            }
            leave()
        }
        pid => {
            drop(writer);
            wait(pid, &reader)
        }
    }
}

/// Ends the child with a record of the host fault that ended it. Async-signal-safe.
pub(super) fn report_crash(signal: i32, address: u64) -> ! {
    let mut record = [TAG_CRASHED; 13];
    record[1..5].copy_from_slice(&signal.to_le_bytes());
    record[5..13].copy_from_slice(&address.to_le_bytes());
    report(&record);
    leave()
}

fn leave() -> ! {
    // SAFETY: no precondition; runs no destructor or handler of the parent's.
    unsafe { libc::_exit(0) }
}

/// Writes a record at once. Async-signal-safe.
fn report(record: &[u8]) {
    // SAFETY: the buffer is valid; a failed write shows in the parent as a missing record.
    unsafe { libc::write(REPORT.load(Ordering::Relaxed), record.as_ptr().cast(), record.len()) };
}

/// Waits for a record or the child's death, whichever comes first: another fork may hold the pipe's other end open.
fn wait(pid: libc::pid_t, reader: &OwnedFd) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dead = reap(pid, libc::WNOHANG);
        if let Some(outcome) = read(reader) {
            if dead.is_none() {
                reap(pid, 0);
            }
            return outcome;
        }
        if let Some(status) = dead {
            return match libc::WIFSIGNALED(status) {
                true => Outcome::Crashed { signal: libc::WTERMSIG(status), address: None },
                false => Outcome::Failed(format!("exited silently with wait status {status:#x}")),
            };
        }
        if Instant::now() > deadline {
            // SAFETY: `pid` is our child and has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            reap(pid, 0);
            return Outcome::TimedOut;
        }
        await_input(reader, Duration::from_millis(20));
    }
}

/// The record, if it is there.
fn read(reader: &OwnedFd) -> Option<Outcome> {
    let mut record = [0; LONGEST + 1];
    // SAFETY: the buffer is valid for its length.
    let length = unsafe { libc::read(reader.as_raw_fd(), record.as_mut_ptr().cast(), record.len()) };
    let record = &record[..usize::try_from(length).ok()?];
    match *record.first()? {
        TAG_PASSED => Some(Outcome::Passed),
        TAG_CRASHED => Some(Outcome::Crashed {
            signal: i32::from_le_bytes(record[1..5].try_into().ok()?),
            address: Some(u64::from_le_bytes(record[5..13].try_into().ok()?)),
        }),
        _ => Some(Outcome::Failed(String::from_utf8_lossy(&record[1..]).into_owned())),
    }
}

fn await_input(reader: &OwnedFd, patience: Duration) {
    let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut poll, 1, patience.as_millis() as libc::c_int) };
}

/// The wait status of a child that has ended.
pub(super) fn reap(pid: libc::pid_t, options: libc::c_int) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, options) };
    (reaped == pid).then_some(status)
}

/// A pipe that does not block: reader and writer.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((reader, writer))
}

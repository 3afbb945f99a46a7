//! Opening a file by its path so that no thread ever holds a descriptor that has not been judged.
//!
//! A process with one thread opens first and judges then ([`proc_files::review`]): nobody can use the number meanwhile.
//! Where others share the descriptors, what is in /proc must not become a descriptor at all before it is judged. An
//! absolute path is opened under the condition that no mount is crossed on the way, so that it cannot lead there;
//! whatever else is first opened as a path descriptor, which gives no access, moved to a number that guests cannot name,
//! judged there, and then opened again through that.

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::proc_files::{self, Judgement};
use super::table::Call;
use super::{hidden, raw};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

const AT_FDCWD: u64 = libc::AT_FDCWD as i64 as u64;

/// `struct open_how` as it was first (include/uapi/linux/openat2.h).
const OPEN_HOW_SIZE: u64 = 24;
const MAX_OPEN_HOW_SIZE: u64 = 4096;

/// `O_CREAT`, and what `O_TMPFILE` has beside `O_DIRECTORY`.
const CREATES: u64 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
const RESOLVE_NO_XDEV: u64 = 1;
/// As many times a file may come and go while it is being opened with `O_CREAT`.
const ATTEMPTS: usize = 8;

/// `struct open_how`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

impl How {
    /// What `open` makes of its arguments (fs/open.c, `build_open_how`): bits that it does not know are no error.
    fn of_open(flags: u64, mode: u64) -> Self {
        // include/linux/fcntl.h, `VALID_OPEN_FLAGS`, and what of it goes with `O_PATH` (fs/open.c, `O_PATH_FLAGS`).
        const VALID: u64 = 0o3 | 0o37_777_700;
        const WITH_PATH: u64 = (libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH | libc::O_CLOEXEC) as u64;
        let flags = u64::from(flags as u32) & VALID;
        let flags = if flags & libc::O_PATH as u64 != 0 { flags & WITH_PATH } else { flags };
        How { flags, mode: if flags & CREATES != 0 { mode & 0o7777 } else { 0 }, resolve: 0 }
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag as u64 != 0
    }
}

/// `open`.
pub(super) fn open<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [path, flags, mode, ..]: [u64; 6],
) -> SyscallResult {
    open_at(thread, AT_FDCWD, path, How::of_open(flags, mode))
}

/// `creat`.
pub(super) fn creat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [path, mode, ..]: [u64; 6],
) -> SyscallResult {
    let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64;
    open_at(thread, AT_FDCWD, path, How::of_open(flags, mode))
}

/// `openat`.
pub(super) fn openat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [directory, path, flags, mode, ..]: [u64; 6],
) -> SyscallResult {
    open_at(thread, directory, path, How::of_open(flags, mode))
}

/// `openat2`: the structure is copied, so that what was looked at is what the kernel gets.
pub(super) fn openat2<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [directory, path, how, size, ..]: [u64; 6],
) -> SyscallResult {
    if size < OPEN_HOW_SIZE {
        return Err(Errno::EINVAL);
    }
    if size > MAX_OPEN_HOW_SIZE {
        return Err(Errno::E2BIG);
    }
    let copy = thread.user().read_bytes(GuestAddr(how), size as usize)?;
    // What later kernels may have added and this one's first version does not know (`copy_struct_from_user`).
    if copy[OPEN_HOW_SIZE as usize..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let word = |at: usize| u64::from_le_bytes(copy[at..at + 8].try_into().expect("eight bytes"));
    open_at(thread, directory, path, How { flags: word(0), mode: word(8), resolve: word(16) })
}

fn open_at<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    directory: u64,
    path: u64,
    how: How,
) -> SyscallResult {
    let directory = directory as i32;
    if hidden::is_hidden(directory) {
        return Err(Errno::EBADF);
    }
    let path = thread.user().read_path(GuestAddr(path))?;
    if proc_files::is_hidden_link(directory, &path) {
        return Err(Errno::ENOENT);
    }
    let substitute = proc_files::guest_executable(thread.process, directory, &path);
    let path = substitute.unwrap_or(path);
    if !thread.process.threads.are_several() {
        let fd = enter_open(directory, &path, how)?;
        return proc_files::review(thread, fd as i32, how.flags as i32, &path).map(|()| fd);
    }
    if path.to_bytes().starts_with(b"/") && how.resolve == 0 {
        match enter_open(directory, &path, How { resolve: RESOLVE_NO_XDEV, ..how }) {
            // It leads over a mount, or the kernel is older than the condition.
            Err(Errno::EXDEV | Errno::ENOSYS) => {}
            opened => {
                let fd = opened?;
                return proc_files::review(thread, fd as i32, how.flags as i32, &path).map(|()| fd);
            }
        }
    }
    open_in_steps(thread, directory, &path, how)
}

/// Opens without the guest's having anything that gives access before it has been judged.
fn open_in_steps<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    directory: i32,
    path: &CStr,
    how: How,
) -> SyscallResult {
    let keep = (libc::O_NOFOLLOW | libc::O_DIRECTORY) as u64;
    let look = How { flags: how.flags & keep | (libc::O_PATH | libc::O_CLOEXEC) as u64, mode: 0, ..how };
    let must_be_new = how.has(libc::O_CREAT) && how.has(libc::O_EXCL);
    for _ in 0..ATTEMPTS {
        if !must_be_new {
            match enter_open(directory, path, look) {
                Ok(fd) => return open_again(thread, fd as i32, path, how),
                Err(Errno::ENOENT) if how.has(libc::O_CREAT) => {}
                Err(errno) => return Err(errno),
            }
        }
        // Nothing is there: what comes into being is no file of /proc.
        match enter_open(directory, path, How { flags: how.flags | libc::O_EXCL as u64, ..how }) {
            Err(Errno::EEXIST) if !must_be_new => {}
            opened => return opened,
        }
    }
    // A link whose target does not exist: it is not followed to create that.
    Err(Errno::ENOENT)
}

/// Opens what a path descriptor, which is closed, stands for.
fn open_again<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    found: i32,
    path: &CStr,
    how: How,
) -> SyscallResult {
    let slot = hidden::Slot::take_over(found);
    // Closed whatever it stands for by now: its number is the guest's.
    let _ = raw::close(found);
    let slot = slot?;
    let kind = raw::fstat(slot.as_raw_fd())?.st_mode & libc::S_IFMT;
    match kind {
        libc::S_IFDIR if how.has(libc::O_CREAT) => return Err(Errno::EISDIR),
        libc::S_IFLNK if !how.has(libc::O_PATH) => return Err(Errno::ELOOP),
        _ => {}
    }
    match proc_files::judge(thread, slot.as_raw_fd(), how.flags as i32, path)? {
        Judgement::Fine => {}
        Judgement::Instead(text) => {
            return proc_files::open_text(&text, how.flags as i32).map(|fd| fd as u64);
        }
    }
    let link = CString::new(format!("/proc/thread-self/fd/{}", slot.as_raw_fd()));
    let link = link.expect("a number has no zero byte");
    let flags = how.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW) as u64;
    let mode = if flags & CREATES != 0 { how.mode } else { 0 };
    enter_open(libc::AT_FDCWD, &link, How { flags, mode, resolve: 0 })
}

/// The kernel's `openat2`, or, where that says nothing more, `openat`, which every kernel has.
fn enter_open(directory: i32, path: &CStr, how: How) -> SyscallResult {
    let (call, third, fourth) = match how.resolve {
        0 => (Call::openat, how.flags, how.mode),
        _ => (Call::openat2, &raw const how as u64, OPEN_HOW_SIZE),
    };
    let number = call.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the path is ours, and so is the structure.
    unsafe { enter(number, [directory as u64, path.as_ptr() as u64, third, fourth, 0, 0]) }
}

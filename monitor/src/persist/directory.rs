//! The directory of stored translations.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::errno::Errno;
use crate::syscall::raw;

/// Opens a directory that is no symbolic link, as a path descriptor: a guest cannot wait for it, not even on a fast path.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the path ends with a NUL and outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether it is this user's, and nobody else may write into it.
pub(super) fn is_private(directory: &OwnedFd) -> Result<bool, Errno> {
    let status = raw::fstat(directory.as_raw_fd())?;
    // SAFETY: no precondition.
    let user = unsafe { libc::geteuid() };
    Ok(status.st_uid == user && status.st_mode & 0o022 == 0)
}

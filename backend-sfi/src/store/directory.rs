//! The directory of the store: how its files are opened, replaced and thinned out.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

/// A file that is not taken for the store's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal;

/// The directory. Its descriptor was opened by whoever checked that it is the user's own.
#[derive(Debug)]
pub(super) struct Directory(Arc<OwnedFd>);

/// A file as it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) length: usize,
}

/// Bytes of files that the directory may hold before the oldest go.
const MAX_TOTAL: u64 = 512 << 20;

impl Directory {
    pub(super) fn new(descriptor: Arc<OwnedFd>) -> Self {
        Directory(descriptor)
    }

    /// Opens a file, if it is there and could be the store's: a plain file of this user, which nobody else may touch.
    pub(super) fn open(&self, name: &str, longest: usize) -> Result<Option<Opened>, Refusal> {
        let name = CString::new(name).map_err(|_| Refusal)?;
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        // SAFETY: the name ends with a NUL and outlives the call.
        let fd = unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags) };
        if fd < 0 {
            let is_missing = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
            return if is_missing { Ok(None) } else { Err(Refusal) };
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        let status = file.metadata().map_err(|_| Refusal)?;
        // SAFETY: no precondition.
        let user = unsafe { libc::geteuid() };
        let is_own = status.is_file() && status.uid() == user && status.mode() & 0o077 == 0;
        match usize::try_from(status.len()) {
            Ok(length) if is_own && length <= longest => Ok(Some(Opened { file, length })),
            _ => Err(Refusal),
        }
    }

    /// Puts a file in place of whatever has its name; at once, so that nobody sees half of it. Says whether it is there.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> bool {
        // Beyond the limit the kernel would send a signal.
        if file_size_limit() < bytes.len() as u64 {
            return false;
        }
        // SAFETY: no precondition.
        let temporary = format!("{name}.{}", unsafe { libc::gettid() });
        let (Ok(from), Ok(to)) = (CString::new(temporary), CString::new(name)) else { return false };
        // One that is there was left by a thread that was killed.
        let created = self.create(&from).or_else(|| {
            self.remove(&from);
            self.create(&from)
        });
        let Some(mut file) = created else { return false };
        // What the guest has made of the umask is not for this file.
        let is_own = file.set_permissions(Permissions::from_mode(0o600)).is_ok();
        let directory = self.0.as_raw_fd();
        // SAFETY: both names end with a NUL and outlive the call.
        let rename = || unsafe { libc::renameat(directory, from.as_ptr(), directory, to.as_ptr()) } == 0;
        let is_there = is_own && file.write_all(bytes).is_ok() && rename();
        if !is_there {
            self.remove(&from);
        }
        is_there
    }

    fn create(&self, name: &CString) -> Option<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the name ends with a NUL and outlives the call.
        let fd = unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags, 0o600) };
        // SAFETY: the descriptor is new and nobody else's.
        (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })
    }

    fn remove(&self, name: &CString) {
        // SAFETY: the name ends with a NUL and outlives the call.
        unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) };
    }

    /// Removes the oldest files of a directory that has grown too large.
    pub(super) fn sweep(&self) {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let Ok(entries) = std::fs::read_dir(path) else { return };
        let mut files: Vec<(i64, u64, CString)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let status = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                let name = CString::new(entry.file_name().into_encoded_bytes()).ok()?;
                Some((status.mtime(), status.len(), name))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|&(_, length, _)| length).sum();
        for (_, length, name) in files {
            if total <= MAX_TOTAL {
                return;
            }
            self.remove(&name);
            total -= length;
        }
    }
}

/// `RLIMIT_FSIZE`, which is the guest's too.
fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives until the call returns.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    if status == 0 { limit.rlim_cur } else { 0 }
}

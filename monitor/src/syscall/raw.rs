//! The kernel's door, and the few questions the monitor asks the kernel for itself.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::errno::{Errno, SyscallResult};

/// Makes a system call.
///
/// # Safety
///
/// What the call does to this process's memory, descriptors and threads is the caller's to answer for: every pointer
/// among the arguments leads to memory that may be read or written as the call does.
pub unsafe fn syscall6(number: u32, arguments: [u64; 6]) -> SyscallResult {
    // SAFETY: the caller's promise.
    Errno::from_raw_result(unsafe { arch::raw_syscall6(number, arguments) })
}

/// Makes a system call with two arguments, for fast paths: without an array, which the compiler might fill with vector
/// instructions. The kernel's result as it is.
///
/// # Safety
///
/// As for [`syscall6`].
#[inline(always)]
pub(crate) unsafe fn syscall2(number: u32, first: u64, second: u64) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { arch::raw_syscall2(number, first, second) }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    /// Likewise with two arguments.
    #[inline(always)]
    pub(super) unsafe fn raw_syscall2(number: u32, first: u64, second: u64) -> i64 {
        let result: i64;
        // SAFETY: the instruction changes what is declared; its effect on memory is the caller's to answer for.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") u64::from(number) => result,
                in("rdi") first,
                in("rsi") second,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }

    /// The `syscall` instruction (syscall(2)): number in rax; arguments in rdi, rsi, rdx, r10, r8, r9; result in rax;
    /// rcx and r11 are lost. Not `nomem`: the kernel reads and writes memory. Not `preserves_flags`: it restores them from r11.
    pub(super) unsafe fn raw_syscall6(number: u32, arguments: [u64; 6]) -> i64 {
        let result: i64;
        // SAFETY: the instruction changes what is declared; its effect on memory is the caller's to answer for.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") u64::from(number) => result,
                in("rdi") arguments[0],
                in("rsi") arguments[1],
                in("rdx") arguments[2],
                in("r10") arguments[3],
                in("r8") arguments[4],
                in("r9") arguments[5],
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    /// Likewise with two arguments.
    #[inline(always)]
    pub(super) unsafe fn raw_syscall2(number: u32, first: u64, second: u64) -> i64 {
        let result: i64;
        // SAFETY: the instruction changes what is declared; its effect on memory is the caller's to answer for.
        unsafe {
            core::arch::asm!(
                "svc #0",
                in("x8") u64::from(number),
                inlateout("x0") first => result,
                in("x1") second,
                options(nostack),
            );
        }
        result
    }

    /// The `svc` instruction (syscall(2)): number in x8; arguments in x0 to x5; result in x0. Not `nomem`: the kernel reads
    /// and writes memory.
    pub(super) unsafe fn raw_syscall6(number: u32, arguments: [u64; 6]) -> i64 {
        let result: i64;
        // SAFETY: the instruction changes what is declared; its effect on memory is the caller's to answer for.
        unsafe {
            core::arch::asm!(
                "svc #0",
                in("x8") u64::from(number),
                inlateout("x0") arguments[0] => result,
                in("x1") arguments[1],
                in("x2") arguments[2],
                in("x3") arguments[3],
                in("x4") arguments[4],
                in("x5") arguments[5],
                options(nostack),
            );
        }
        result
    }
}

/// `fstat`.
pub fn fstat(fd: i32) -> Result<libc::stat, Errno> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // The C library's function asks for an empty path instead, which takes the kernel longer.
    // SAFETY: `status` is large enough and lives until the call returns.
    if unsafe { libc::syscall(libc::SYS_fstat, fd, status.as_mut_ptr()) } != 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call has filled it.
    Ok(unsafe { status.assume_init() })
}

/// Reads from an open file at an offset; says how many bytes.
pub fn pread(fd: i32, buffer: &mut [u8], offset: i64) -> Result<usize, Errno> {
    // SAFETY: the buffer is valid for its length.
    let count = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    usize::try_from(count).map_err(|_| Errno::last())
}

/// The `ST_` flags of the file system that holds an open file.
pub fn mount_flags(fd: i32) -> Result<u64, Errno> {
    let mut status = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `status` is large enough and lives until the call returns.
    if unsafe { libc::fstatvfs(fd, status.as_mut_ptr()) } != 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call has filled it.
    Ok(unsafe { status.assume_init() }.f_flag)
}

/// `O_RDONLY`, `O_WRONLY` or `O_RDWR`: what the descriptor was opened for.
pub fn access_mode(fd: i32) -> Result<i32, Errno> {
    // SAFETY: no pointer among the arguments.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 { Err(Errno::last()) } else { Ok(flags & libc::O_ACCMODE) }
}

/// Which file system holds an open file (include/uapi/linux/magic.h).
pub fn file_system_type(fd: i32) -> Result<i64, Errno> {
    let mut status = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `status` is large enough and lives until the call returns.
    if unsafe { libc::fstatfs(fd, status.as_mut_ptr()) } != 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call has filled it.
    Ok(unsafe { status.assume_init() }.f_type)
}

/// Closes a descriptor of the guest's.
pub fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: no Rust object owns a guest's descriptor.
    if unsafe { libc::close(fd) } == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// The path of an open file, as the kernel knows it now.
pub fn descriptor_path(fd: i32) -> Result<CString, Errno> {
    let link = CString::new(format!("/proc/thread-self/fd/{fd}")).expect("a number has no zero byte");
    CString::new(read_link(&link)?).map_err(|_| Errno::EINVAL)
}

/// Opens a path without following a link at its end, and without a right to its content.
pub fn open_path(directory: i32, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    own(unsafe { libc::openat(directory, path.as_ptr(), flags) })
}

/// Opens a path, links followed, without a right to its content.
pub fn open_for_path(path: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the path is a C string.
    own(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })
}

/// Opens a directory, links followed, without a right to its content.
pub fn open_directory(from: i32, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    own(unsafe { libc::openat(from, path.as_ptr(), flags) })
}

/// The text of a symbolic link.
pub fn read_link(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut text = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the path is a C string, and `text` has the room that is stated.
    let length = unsafe { libc::readlink(path.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
    text.truncate(usize::try_from(length).map_err(|_| Errno::last())?);
    Ok(text)
}

/// A new file in memory with this content, open for reading only and at its start.
pub fn read_only_file(content: &[u8]) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string.
    let file = own(unsafe { libc::memfd_create(c"proc".as_ptr(), libc::MFD_CLOEXEC) })?;
    std::io::Write::write_all(
        &mut std::fs::File::from(file.try_clone().map_err(|_| Errno::EMFILE)?),
        content,
    )
    .map_err(|_| Errno::ENOMEM)?;
    let link = CString::new(format!("/proc/thread-self/fd/{}", file.as_raw_fd()))
        .expect("a number has no zero byte");
    // SAFETY: the path is a C string.
    own(unsafe { libc::open(link.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })
}

/// Makes `to`, which is open, the same as `from`.
pub fn duplicate_to(from: i32, to: i32, flags: i32) -> Result<(), Errno> {
    // SAFETY: no Rust object owns a guest's descriptor.
    if unsafe { libc::dup3(from, to, flags) } < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// A second descriptor for an open file, at the lowest number that is free.
pub fn duplicate_lowest(from: i32, closes_on_exec: bool) -> Result<i32, Errno> {
    let command = if closes_on_exec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    // SAFETY: no pointer among the arguments.
    let fd = unsafe { libc::fcntl(from, command, 0) };
    if fd < 0 { Err(Errno::last()) } else { Ok(fd) }
}

/// An empty file in memory.
pub fn empty_file() -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string.
    own(unsafe { libc::memfd_create(c"nothing".as_ptr(), libc::MFD_CLOEXEC) })
}

fn own(fd: i32) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

//! The kernel's door, and the few questions the monitor asks the kernel for itself.

use std::mem::MaybeUninit;

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

#[cfg(target_arch = "x86_64")]
mod arch {
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
    // SAFETY: `status` is large enough and lives until the call returns.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call has filled it.
    Ok(unsafe { status.assume_init() })
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

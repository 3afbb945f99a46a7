//! The host's calls about signals, with our own structures as arguments.

use super::blocking::blocking_syscall;
use super::info::SigInfo;
use super::set::SigSet;
use crate::errno::{Errno, SyscallResult};
use crate::syscall::raw::syscall6;

/// What is pending for this thread in the kernel.
pub(super) fn pending() -> Result<SigSet, Errno> {
    let mut set = SigSet::EMPTY;
    // SAFETY: the kernel writes the eight bytes of `set`.
    unsafe { syscall6(libc::SYS_rt_sigpending as u32, [&raw mut set as u64, SigSet::SIZE, 0, 0, 0, 0]) }?;
    Ok(set)
}

/// Waits for a signal under this mask.
pub(super) fn suspend(mask: SigSet) -> SyscallResult {
    let arguments = [&raw const mask as u64, SigSet::SIZE, 0, 0, 0, 0];
    // SAFETY: the kernel reads the eight bytes of `mask`.
    unsafe { blocking_syscall(libc::SYS_rt_sigsuspend as u32, arguments) }
}

/// Waits for a signal of this set.
pub(super) fn timed_wait(set: SigSet, timeout: Option<libc::timespec>) -> Result<SigInfo, Errno> {
    let mut bytes = [0_u8; SigInfo::SIZE];
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let arguments = [&raw const set as u64, bytes.as_mut_ptr() as u64, timeout as u64, SigSet::SIZE, 0, 0];
    // SAFETY: the set, the 128 bytes and the timeout, if there is one, live until the call returns.
    unsafe { blocking_syscall(libc::SYS_rt_sigtimedwait as u32, arguments) }?;
    Ok(SigInfo::from_bytes(bytes))
}

/// `rt_sigqueueinfo`.
pub(super) fn queue(pid: u64, number: u64, info: &SigInfo) -> SyscallResult {
    let arguments = [pid, number, info.as_bytes().as_ptr() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the 128 bytes of `info`.
    unsafe { syscall6(libc::SYS_rt_sigqueueinfo as u32, arguments) }
}

/// `rt_tgsigqueueinfo`.
pub(super) fn queue_to_thread(pid: u64, tid: u64, number: u64, info: &SigInfo) -> SyscallResult {
    let arguments = [pid, tid, number, info.as_bytes().as_ptr() as u64, 0, 0];
    // SAFETY: the kernel reads the 128 bytes of `info`.
    unsafe { syscall6(libc::SYS_rt_tgsigqueueinfo as u32, arguments) }
}

/// `pidfd_send_signal`.
pub(super) fn send_to_pidfd(pidfd: u64, number: u64, info: Option<&SigInfo>, flags: u64) -> SyscallResult {
    let info = info.map_or(0, |info| info.as_bytes().as_ptr() as u64);
    // SAFETY: the kernel reads the 128 bytes of `info`, if there is one.
    unsafe { syscall6(libc::SYS_pidfd_send_signal as u32, [pidfd, number, info, flags, 0, 0]) }
}

/// This process's id.
pub(super) fn process_id() -> i32 {
    // SAFETY: no precondition.
    unsafe { libc::getpid() }
}

/// The calling thread's id.
pub(super) fn thread_id() -> i32 {
    // SAFETY: no precondition.
    unsafe { libc::gettid() }
}

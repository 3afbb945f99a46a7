//! Where the monitor enters the kernel on a guest's behalf. Any call may block, and none sleeps through a signal.

use crate::errno::SyscallResult;
use crate::signal::blocking_syscall;

/// Makes a call for the guest.
///
/// # Safety
///
/// Every pointer among the arguments leads to guest memory that was located, or to memory of the monitor that the call may
/// read or write as it does.
pub(super) unsafe fn enter(number: u32, arguments: [u64; 6]) -> SyscallResult {
    // SAFETY: the caller's promise.
    unsafe { blocking_syscall(number, arguments) }
}

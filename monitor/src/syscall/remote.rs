//! Reading and writing the memory of processes by address.
//!
//! Guests lie at the same addresses in all processes under Endo, and nothing else does: an address in the window can lead
//! to no monitor, whoever the process is, and whatever it becomes meanwhile.

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::forward::host_vectors;
use super::table::Call;
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

/// `process_vm_readv`.
pub(super) fn process_vm_readv<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    transfer(thread, Call::process_vm_readv, arguments)
}

/// `process_vm_writev`. Pages of another guest that hold translated code are protected there: EFAULT.
pub(super) fn process_vm_writev<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    transfer(thread, Call::process_vm_writev, arguments)
}

fn transfer<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    [pid, own, own_count, other, other_count, flags]: [u64; 6],
) -> SyscallResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let is_written = call == Call::process_vm_writev;
    let is_self = pid as u32 == std::process::id();
    let user = thread.user();
    let own = host_vectors(&user, GuestAddr(own), own_count, !is_written)?;
    let other = host_vectors(&user, GuestAddr(other), other_count, is_written && is_self)?;
    let number = call.row().number().ok_or(Errno::ENOSYS)?;
    let vectors = |vectors: &[libc::iovec]| [vectors.as_ptr() as u64, vectors.len() as u64];
    let ([own, own_count], [other, other_count]) = (vectors(&own), vectors(&other));
    // SAFETY: both arrays live until the call returns; the buffers of both lie in the window, where this process and every
    // other under a monitor have their guests' memory alone.
    unsafe { enter(number, [pid, own, own_count, other, other_count, 0]) }
}

//! The system calls about processes. Each takes the six argument registers and gives the call's result.

use std::mem::MaybeUninit;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::{Ending, RobustList};
use crate::errno::{Errno, SyscallResult};
use crate::signal::{blocking_syscall, host};
use crate::thread::Thread;

pub use super::clone::{clone, clone3, fork, vfork};
pub use super::exec::{execve, execveat};

/// `exit(status)`: the thread's end, and with its last thread the process's.
pub fn exit<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [status, ..]: [u64; 6],
) -> SyscallResult {
    thread.signals.before_exit()?;
    thread.ending = Some(Ending::ThreadExited(status as i32 & 0xff));
    Ok(0)
}

/// `exit_group(status)`.
pub fn exit_group<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [status, ..]: [u64; 6],
) -> SyscallResult {
    thread.ending = Some(Ending::Exited(status as i32 & 0xff));
    Ok(0)
}

/// `set_tid_address(word)`. The kernel's own such word is the C library's of the host.
pub fn set_tid_address<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [word, ..]: [u64; 6],
) -> SyscallResult {
    thread.clear_child_tid = GuestAddr(word);
    // SAFETY: no precondition.
    Ok(unsafe { libc::gettid() } as u64)
}

/// `set_robust_list(head, length)`.
pub fn set_robust_list<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [head, length, ..]: [u64; 6],
) -> SyscallResult {
    if length != RobustList::HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    thread.shared.set_robust_list(RobustList::at(GuestAddr(head)));
    Ok(0)
}

/// `get_robust_list(tid, head, length)`: of any thread of the process, which are all that a guest can know of.
pub fn get_robust_list<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [tid, head, length, ..]: [u64; 6],
) -> SyscallResult {
    let list = match tid as i32 {
        0 => thread.shared.robust_list(),
        own if own == host::thread_id() => thread.shared.robust_list(),
        other => match thread.process.threads.find(other) {
            Some(shared) => shared.robust_list(),
            None if host::thread_exists(other) => return Err(Errno::EPERM),
            None => return Err(Errno::ESRCH),
        },
    };
    let user = thread.user();
    user.write(GuestAddr(length), &RobustList::HEAD_BYTES)?;
    user.write(GuestAddr(head), &list.head().0)?;
    Ok(0)
}

/// `wait4(pid, status, options, usage)`.
pub fn wait4<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [pid, status, options, usage, ..]: [u64; 6],
) -> SyscallResult {
    let mut host_status = 0_i32;
    let mut host_usage = zeroed_usage();
    let arguments = [pid, &raw mut host_status as u64, options, &raw mut host_usage as u64, 0, 0];
    // SAFETY: the kernel writes the status and the usage, which live until the call returns.
    let waited = unsafe { blocking_syscall(libc::SYS_wait4 as u32, arguments) }?;
    let user = thread.user();
    // Without a child there is nothing to tell, and the kernel stores nothing.
    if waited != 0 && usage != 0 {
        user.write(GuestAddr(usage), &host_usage)?;
    }
    if waited != 0 && status != 0 {
        user.write(GuestAddr(status), &host_status)?;
    }
    Ok(waited)
}

/// `waitid(which, id, info, options, usage)`.
pub fn waitid<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [which, id, info, options, usage, ..]: [u64; 6],
) -> SyscallResult {
    // The kernel writes the beginning of the siginfo alone, and nothing at all when it fails.
    let mut host_info = [0_u8; WAIT_INFO_BYTES];
    let mut host_usage = zeroed_usage();
    let info_place = if info == 0 { 0 } else { host_info.as_mut_ptr() as u64 };
    let arguments = [which, id, info_place, options, &raw mut host_usage as u64, 0];
    // SAFETY: the kernel writes into the two structures, which live until the call returns; of the siginfo it writes the
    // six 32-bit words up to `si_status`.
    let waited = unsafe { blocking_syscall(libc::SYS_waitid as u32, arguments) }?;
    let user = thread.user();
    let has_child = host_info[..4] != [0; 4];
    if usage != 0 && has_child {
        user.write(GuestAddr(usage), &host_usage)?;
    }
    if info != 0 {
        store_wait_info(thread, GuestAddr(info), &host_info)?;
    }
    Ok(waited)
}

/// `si_signo`, `si_errno`, `si_code`, a gap that the kernel leaves alone, `si_pid`, `si_uid`, `si_status`.
const WAIT_INFO_BYTES: usize = 28;
const WAIT_INFO_GAP: core::ops::Range<usize> = 12..16;

fn store_wait_info<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    at: GuestAddr,
    info: &[u8; WAIT_INFO_BYTES],
) -> Result<(), Errno> {
    let user = thread.user();
    user.write_bytes(at, &info[..WAIT_INFO_GAP.start])?;
    user.write_bytes(GuestAddr(at.0.wrapping_add(WAIT_INFO_GAP.end as u64)), &info[WAIT_INFO_GAP.end..])
}

fn zeroed_usage() -> libc::rusage {
    // SAFETY: the structure is integers: zero is a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

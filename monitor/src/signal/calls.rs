//! The system calls about signals. Each takes the six argument registers and gives the call's result.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::actions::Action;
use super::altstack::AlternateStack;
use super::deliver;
use super::info::{SI_TKILL, SigInfo};
use super::kernel;
use super::set::{SigSet, Signal};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

/// `rt_sigaction(signal, action, old, size)`.
pub fn rt_sigaction<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [number, action, old, size, ..]: [u64; 6],
) -> SyscallResult {
    check_size(size)?;
    let user = thread.user();
    let new = user.read_optional::<[u8; Action::SIZE]>(GuestAddr(action))?;
    let signal = Signal::new(number as i32).ok_or(Errno::EINVAL)?;
    let mut actions = thread.actions();
    let before = actions.get(signal);
    if let Some(bytes) = new {
        actions.set(signal, Action::from_bytes(&bytes))?;
    }
    let is_ignored = actions.ignores(signal);
    drop(actions);
    // What is pending of a signal that is ignored from now on is thrown away (`do_sigaction`).
    if new.is_some() && is_ignored {
        thread.signals.collect();
        thread.signals.discard(signal);
    }
    if old != 0 {
        user.write(GuestAddr(old), &before.to_bytes())?;
    }
    Ok(0)
}

/// `rt_sigprocmask(how, set, old, size)`.
pub fn rt_sigprocmask<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [how, set, old, size, ..]: [u64; 6],
) -> SyscallResult {
    check_size(size)?;
    let user = thread.user();
    let before = thread.signals.mask();
    if let Some(set) = user.read_optional::<u64>(GuestAddr(set))? {
        let set = SigSet(set);
        let mask = match how as i32 {
            libc::SIG_BLOCK => before.union(set),
            libc::SIG_UNBLOCK => before.without(set),
            libc::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        thread.signals.change_mask(mask)?;
    }
    if old != 0 {
        user.write(GuestAddr(old), &before.0)?;
    }
    Ok(0)
}

/// `rt_sigpending(set, size)`.
pub fn rt_sigpending<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [set, size, ..]: [u64; 6],
) -> SyscallResult {
    if size > SigSet::SIZE {
        return Err(Errno::EINVAL);
    }
    let pending = kernel::pending()?.union(thread.signals.pending_set());
    let pending = pending.intersection(thread.signals.mask());
    thread.user().write_bytes(GuestAddr(set), &pending.0.to_le_bytes()[..size as usize])?;
    Ok(0)
}

/// `rt_sigsuspend(mask, size)`.
pub fn rt_sigsuspend<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [set, size, ..]: [u64; 6],
) -> SyscallResult {
    check_size(size)?;
    let set = SigSet(thread.user().read(GuestAddr(set))?);
    let mask = thread.signals.begin_temporary_mask(set)?;
    kernel::suspend(mask)
}

/// `rt_sigtimedwait(set, info, timeout, size)`.
pub fn rt_sigtimedwait<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [set, info, timeout, size, ..]: [u64; 6],
) -> SyscallResult {
    check_size(size)?;
    let user = thread.user();
    let set = SigSet(user.read(GuestAddr(set))?).as_mask();
    let timeout = user.read_optional::<libc::timespec>(GuestAddr(timeout))?;
    thread.signals.collect();
    let taken = match thread.signals.take_member(set) {
        Some(taken) => taken,
        None => kernel::timed_wait(set, timeout)?,
    };
    if info != 0 {
        user.write(GuestAddr(info), taken.as_bytes())?;
    }
    Ok(taken.signal().map_or(0, Signal::number) as u64)
}

/// `sigaltstack(stack, old)`.
pub fn sigaltstack<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [stack, old, ..]: [u64; 6],
) -> SyscallResult {
    let user = thread.user();
    let new = user.read_optional::<[u8; AlternateStack::SIZE]>(GuestAddr(stack))?;
    let stack_pointer = thread.registers().stack_pointer();
    let before = thread.signals.alternate.report(stack_pointer);
    if let Some(new) = new {
        thread.signals.alternate.replace(&new, stack_pointer)?;
    }
    if old != 0 {
        user.write(GuestAddr(old), &before)?;
    }
    Ok(0)
}

/// `rt_sigreturn()`.
pub fn rt_sigreturn<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    _: [u64; 6],
) -> SyscallResult {
    deliver::sigreturn(thread)
}

/// `rt_sigqueueinfo(pid, signal, info)`.
pub fn rt_sigqueueinfo<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [pid, number, info, ..]: [u64; 6],
) -> SyscallResult {
    let info = read_info(thread, info)?;
    let is_own = pid as i32 == kernel::process_id();
    match queue_here(thread, number, info, is_own)? {
        None => Ok(0),
        Some(info) => kernel::queue(pid, number, &info),
    }
}

/// `rt_tgsigqueueinfo(pid, tid, signal, info)`.
pub fn rt_tgsigqueueinfo<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [pid, tid, number, info, ..]: [u64; 6],
) -> SyscallResult {
    let info = read_info(thread, info)?;
    let is_own = pid as i32 == kernel::process_id() && tid as i32 == kernel::thread_id();
    match queue_here(thread, number, info, is_own)? {
        None => Ok(0),
        Some(info) => kernel::queue_to_thread(pid, tid, number, &info),
    }
}

/// `pidfd_send_signal(pidfd, signal, info, flags)`.
pub fn pidfd_send_signal<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [pidfd, number, info, flags, ..]: [u64; 6],
) -> SyscallResult {
    if info == 0 {
        return kernel::send_to_pidfd(pidfd, number, None, flags);
    }
    let info = read_info(thread, info)?;
    // To a descriptor of this very process the kernel allows any code; but then it could pass for a fault here.
    if looks_like_a_fault(number, &info) {
        return Err(Errno::EPERM);
    }
    kernel::send_to_pidfd(pidfd, number, Some(&info), flags)
}

/// A siginfo of a guest's making that this thread sends to itself and that has the looks of a fault is delivered
/// here: from the kernel it would come back as a fault of whatever instruction happens to run. The rest is the kernel's.
fn queue_here<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    number: u64,
    info: SigInfo,
    is_own: bool,
) -> Result<Option<SigInfo>, Errno> {
    let forges = info.code() >= 0 || info.code() == SI_TKILL;
    if forges && !is_own {
        return Err(Errno::EPERM);
    }
    let Some(signal) = Signal::new(number as i32).filter(|_| looks_like_a_fault(number, &info)) else {
        return Ok(Some(info));
    };
    if !thread.actions().ignores(signal) {
        thread.signals.push(info.with_signal(signal));
    }
    Ok(None)
}

fn looks_like_a_fault(number: u64, info: &SigInfo) -> bool {
    info.code() > 0 && Signal::new(number as i32).is_some_and(Signal::is_synchronous)
}

fn read_info<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    info: u64,
) -> Result<SigInfo, Errno> {
    Ok(SigInfo::from_bytes(thread.user().read(GuestAddr(info))?))
}

fn check_size(size: u64) -> Result<(), Errno> {
    if size == SigSet::SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

//! Waiting for descriptors, with a signal mask for as long as the call lasts.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::forward::{MaskArgument, forward_as, forward_masked};
use super::table::{Call, Kind, Type};
use crate::errno::{Errno, SyscallResult};
use crate::signal::SigSet;
use crate::thread::Thread;

const POLLFDS: Kind = Kind::InOutArray(Type::Pollfd, 1);
const EVENTS: Kind = Kind::OutArray(Type::EpollEvent, 2);

/// A mask argument: null is none, and its size has to be the kernel's.
fn read_mask<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    mask: u64,
    size: u64,
) -> Result<Option<SigSet>, Errno> {
    if mask != 0 && size != SigSet::SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(thread.user().read_optional(GuestAddr(mask))?.map(SigSet))
}

pub(super) fn ppoll<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let mask = read_mask(thread, arguments[3], arguments[4])?;
    let kinds = [POLLFDS, Kind::Size, Kind::InOut(Type::Timespec)];
    forward_masked(thread, Call::ppoll, arguments, &kinds, mask, MaskArgument::Direct(3))
}

pub(super) fn select<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let kinds = [Kind::Int, Kind::FdSet, Kind::FdSet, Kind::FdSet, Kind::InOut(Type::Timeval)];
    forward_as(thread, Call::select, arguments, &kinds)
}

pub(super) fn pselect6<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let [mask, size] = thread.user().read_optional::<[u64; 2]>(GuestAddr(arguments[5]))?.unwrap_or_default();
    let mask = read_mask(thread, mask, size)?;
    let kinds = [Kind::Int, Kind::FdSet, Kind::FdSet, Kind::FdSet, Kind::InOut(Type::Timespec)];
    forward_masked(thread, Call::pselect6, arguments, &kinds, mask, MaskArgument::Pair(5))
}

pub(super) fn epoll_pwait<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let mask = read_mask(thread, arguments[4], arguments[5])?;
    let kinds = [Kind::Fd, EVENTS, Kind::Int, Kind::Int];
    forward_masked(thread, Call::epoll_pwait, arguments, &kinds, mask, MaskArgument::Direct(4))
}

pub(super) fn epoll_pwait2<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let mask = read_mask(thread, arguments[4], arguments[5])?;
    let kinds = [Kind::Fd, EVENTS, Kind::Int, Kind::In(Type::Timespec)];
    forward_masked(thread, Call::epoll_pwait2, arguments, &kinds, mask, MaskArgument::Direct(4))
}

//! Waiting for descriptors, with a signal mask for as long as the call lasts.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::forward::{MAX_DESCRIPTORS, MaskArgument, fd_set_length, forward_copies, forward_masked};
use super::hidden;
use super::table::{Call, Kind, Type};
use crate::errno::{Errno, SyscallResult};
use crate::signal::SigSet;
use crate::thread::Thread;

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

/// `poll`.
pub(super) fn poll<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    poll_entries(thread, Call::poll, arguments, Kind::Int, None)
}

/// `ppoll`.
pub(super) fn ppoll<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let mask = read_mask(thread, arguments[3], arguments[4])?;
    let mask = mask.map(|mask| (mask, MaskArgument::Direct(3)));
    poll_entries(thread, Call::ppoll, arguments, Kind::InOut(Type::Timespec), mask)
}

/// Polls a copy of the entries, in which the monitor's descriptors are none: they are reported as not open, at once.
fn poll_entries<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    call: Call,
    mut arguments: [u64; 6],
    timeout: Kind,
    mask: Option<(SigSet, MaskArgument)>,
) -> SyscallResult {
    const ENTRY: usize = 8;
    const EVENTS_AT: usize = 6;
    let [start, count, ..] = arguments;
    let count =
        usize::try_from(count as u32).ok().filter(|&count| count <= MAX_DESCRIPTORS).ok_or(Errno::EINVAL)?;
    let user = thread.user();
    let mut entries = user.read_bytes(GuestAddr(start), count * ENTRY)?;
    let mut refused = Vec::new();
    for (index, entry) in entries.chunks_exact_mut(ENTRY).enumerate() {
        if hidden::is_hidden(i32::from_le_bytes(entry[..4].try_into().expect("a number has four bytes"))) {
            entry[..4].copy_from_slice(&(-1_i32).to_le_bytes());
            refused.push(index);
        }
    }
    let mut no_time = [0_u8; 16];
    let mut copies: Vec<(usize, &mut [u8])> = vec![(0, &mut entries)];
    let mut kinds = [Kind::Unused, Kind::Size, timeout];
    match timeout {
        _ if refused.is_empty() => {}
        Kind::Int => arguments[2] = 0,
        _ => {
            kinds[2] = Kind::Unused;
            copies.push((2, &mut no_time));
        }
    }
    let ready = forward_copies(thread, call, arguments, &kinds, &mut copies, mask)?;
    for &index in &refused {
        let events = &mut entries[index * ENTRY + EVENTS_AT..][..2];
        events.copy_from_slice(&libc::POLLNVAL.to_le_bytes());
    }
    for (index, entry) in entries.chunks_exact(ENTRY).enumerate() {
        let at = GuestAddr(start + (index * ENTRY + EVENTS_AT) as u64);
        user.write_bytes(at, &entry[EVENTS_AT..])?;
    }
    Ok(ready + refused.len() as u64)
}

/// `select`.
pub(super) fn select<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    select_sets(thread, Call::select, arguments, Type::Timeval, None)
}

/// `pselect6`.
pub(super) fn pselect6<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let [mask, size] = thread.user().read_optional::<[u64; 2]>(GuestAddr(arguments[5]))?.unwrap_or_default();
    let mask = read_mask(thread, mask, size)?.map(|mask| (mask, MaskArgument::Pair(5)));
    select_sets(thread, Call::pselect6, arguments, Type::Timespec, mask)
}

/// Selects on copies of the sets. One of the monitor's descriptors in them is EBADF, as one that is not open.
fn select_sets<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    timeout: Type,
    mask: Option<(SigSet, MaskArgument)>,
) -> SyscallResult {
    let count = arguments[0] as i32;
    let length = fd_set_length(count) as usize;
    let user = thread.user();
    let mut sets = Vec::new();
    for index in (1..4).filter(|&index| arguments[index] != 0) {
        let set = user.read_bytes(GuestAddr(arguments[index]), length)?;
        let has = |fd: i32| set.get(fd as usize / 8).is_some_and(|byte| byte >> (fd % 8) & 1 != 0);
        let (start, end) = hidden::range().unwrap_or_default();
        if (start..end.min(count)).any(has) {
            return Err(Errno::EBADF);
        }
        sets.push((index, set));
    }
    let kinds = [Kind::Int, Kind::Unused, Kind::Unused, Kind::Unused, Kind::InOut(timeout)];
    let mut copies: Vec<_> = sets.iter_mut().map(|(index, set)| (*index, set.as_mut_slice())).collect();
    let ready = forward_copies(thread, call, arguments, &kinds, &mut copies, mask)?;
    for (index, set) in &sets {
        user.write_bytes(GuestAddr(arguments[*index]), set)?;
    }
    Ok(ready)
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

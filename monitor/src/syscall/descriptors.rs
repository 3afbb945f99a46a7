//! Calls about descriptors that need care because some descriptors are the monitor's.
#![deny(unsafe_code)]

use endo_core::{IsolationBackend, SyscallMonitor};

use super::forward::{forward, forward_as};
use super::hidden;
use super::table::{Call, Kind};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

/// `close_range`, around the monitor's descriptors.
pub(super) fn close_range<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [first, last, flags, ..]: [u64; 6],
) -> SyscallResult {
    let (first, last) = (first as u32, last as u32);
    if first > last {
        return Err(Errno::EINVAL);
    }
    let close = |first: u32, last: u32| {
        let arguments = [first.into(), last.into(), flags, 0, 0, 0];
        forward_as(thread, Call::close_range, arguments, &[Kind::Int, Kind::Int, Kind::Hex])
    };
    let Some((start, end)) = hidden::range() else { return close(first, last) };
    let (start, end) = (start as u32, end as u32);
    if first < start {
        close(first, last.min(start - 1))?;
    }
    if last >= end { close(first.max(end), last) } else { Ok(0) }
}

/// `vmsplice` without gifts: a page that the guest gave away would not be its own any more.
pub(super) fn vmsplice<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    mut arguments: [u64; 6],
) -> SyscallResult {
    arguments[3] &= !u64::from(libc::SPLICE_F_GIFT);
    forward(thread, Call::vmsplice, arguments)
}

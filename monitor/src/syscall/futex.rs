//! Futexes: which arguments are pointers depends on the operation (kernel/futex/syscalls.c).

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::forward::forward_as;
use super::table::{Call, Kind, Names, Type};
use crate::errno::{Errno, SyscallResult};
use crate::memory::user::UserMemory;
use crate::thread::Thread;

/// A word that the kernel only looks at, and one that it may change.
const WATCHED: Kind = Kind::In(Type::U32);
const WORD: Kind = Kind::InOut(Type::U32);
const OPERATION: Kind = Kind::Flags(Names::Futex);
const TIMEOUT: Kind = Kind::In(Type::Timespec);
/// `FUTEX_LOCK_PI2` (include/uapi/linux/futex.h).
const LOCK_PI2: i32 = 13;

/// `futex`.
pub(super) fn futex<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let operation = arguments[1] as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let kinds: &[Kind] = match operation {
        libc::FUTEX_WAIT => &[WATCHED, OPERATION, Kind::Int, TIMEOUT],
        libc::FUTEX_WAKE => &[WATCHED, OPERATION, Kind::Int],
        libc::FUTEX_WAIT_BITSET => &[WATCHED, OPERATION, Kind::Int, TIMEOUT, Kind::Unused, Kind::Hex],
        libc::FUTEX_WAKE_BITSET => &[WATCHED, OPERATION, Kind::Int, Kind::Unused, Kind::Unused, Kind::Hex],
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => {
            &[WATCHED, OPERATION, Kind::Int, Kind::Int, WATCHED, Kind::Hex]
        }
        libc::FUTEX_LOCK_PI | LOCK_PI2 => &[WORD, OPERATION, Kind::Int, TIMEOUT],
        libc::FUTEX_TRYLOCK_PI | libc::FUTEX_UNLOCK_PI => &[WORD, OPERATION, Kind::Int],
        libc::FUTEX_WAKE_OP | libc::FUTEX_CMP_REQUEUE_PI => {
            &[WORD, OPERATION, Kind::Int, Kind::Int, WORD, Kind::Hex]
        }
        libc::FUTEX_WAIT_REQUEUE_PI => &[WORD, OPERATION, Kind::Int, TIMEOUT, WORD, Kind::Hex],
        _ => return Err(Errno::ENOSYS),
    };
    // `get_futex_key` looks at this before it looks for the page.
    if !arguments[0].is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    forward_as(thread, Call::futex, arguments, kinds)
}

/// `struct futex_waitv`: value, address, flags, reserved.
type Waiter = [u64; 3];
/// `FUTEX_WAITV_MAX`.
const MAX_WAITERS: u64 = 128;

/// `futex_waitv`: the waiters' addresses are checked in a copy of the array, and the kernel gets the copy.
pub(super) fn futex_waitv<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [waiters, count, flags, timeout, clock, _]: [u64; 6],
) -> SyscallResult {
    let count = u64::from(count as u32);
    if count == 0 || count > MAX_WAITERS || waiters == 0 {
        return Err(Errno::EINVAL);
    }
    let user = thread.user();
    let copies = located_waiters(&user, GuestAddr(waiters), count as usize)?;
    let timeout = if timeout == 0 { 0 } else { user.locate(GuestAddr(timeout), 16)?.start.0 as u64 };
    let arguments = [copies.as_ptr() as u64, count, flags, timeout, clock, 0];
    let number = Call::futex_waitv.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the array is ours, the addresses in it and the timeout were located.
    unsafe { enter(number, arguments) }
}

/// `futex_requeue`: two waiters, checked likewise.
pub(super) fn futex_requeue<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [waiters, flags, wake, requeue, ..]: [u64; 6],
) -> SyscallResult {
    if waiters == 0 {
        return Err(Errno::EINVAL);
    }
    let copies = located_waiters(&thread.user(), GuestAddr(waiters), 2)?;
    let arguments = [copies.as_ptr() as u64, flags, wake, requeue, 0, 0];
    let number = Call::futex_requeue.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the array is ours, and the addresses in it were located.
    unsafe { enter(number, arguments) }
}

fn located_waiters<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    start: GuestAddr,
    count: usize,
) -> Result<Vec<Waiter>, Errno> {
    let mut waiters: Vec<Waiter> = user.read_array(start, count)?;
    for [_, address, _] in &mut waiters {
        *address = user.locate(GuestAddr(*address), 4)?.start.0 as u64;
    }
    Ok(waiters)
}

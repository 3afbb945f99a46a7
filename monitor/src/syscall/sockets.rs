//! Sockets: addresses are copied in and out, so that the kernel sees what was looked at.

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::forward::forward_as;
use super::hidden;
pub(super) use super::messages::{recvmmsg, recvmsg, sendmmsg, sendmsg};
pub(super) use super::sockopt::{getsockopt, setsockopt};
use super::table::{Call, Kind};
use crate::errno::{Errno, SyscallResult};
use crate::memory::user::UserMemory;
use crate::thread::Thread;

/// `struct sockaddr_storage`: the longest address.
pub(super) const ADDRESS_MAX: usize = 128;

/// Data that is sent keeps its place; zero-copy would let the kernel read it after the call.
pub(super) const MSG_ZEROCOPY: u64 = 0x400_0000;

/// The call's number, once its descriptor is found to be the guest's.
pub(super) fn number_of(call: Call, fd: u64) -> Result<u32, Errno> {
    if hidden::is_hidden(fd as i32) {
        return Err(Errno::EBADF);
    }
    call.row().number().ok_or(Errno::ENOSYS)
}

/// An address that the guest passes in (net/socket.c, `move_addr_to_kernel`).
pub(super) fn read_address<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    start: u64,
    length: u64,
) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(length as i32).map_err(|_| Errno::EINVAL)?;
    if length > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    user.read_bytes(GuestAddr(start), length)
}

/// An address that the kernel gave, for the guest: what fits, and its whole length (`move_addr_to_user`).
fn write_address<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    start: u64,
    length_at: u64,
    address: &[u8],
) -> Result<(), Errno> {
    let room: i32 = user.read(GuestAddr(length_at))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    user.write_bytes(GuestAddr(start), &address[..address.len().min(room)])?;
    user.write(GuestAddr(length_at), &(address.len() as u32))
}

/// Makes a call that gives an address, with room for the longest, and hands the address on if the guest wants it.
fn call_for_address<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    wanted: [u64; 2],
    call: impl FnOnce([u64; 2]) -> SyscallResult,
) -> SyscallResult {
    let [start, length_at] = wanted;
    if start == 0 {
        return call([0, 0]);
    }
    let user = thread.user();
    let room: i32 = user.read(GuestAddr(length_at))?;
    if room < 0 {
        return Err(Errno::EINVAL);
    }
    user.locate(GuestAddr(start), room as u64)?;
    let mut address = [0_u8; ADDRESS_MAX];
    let mut length = ADDRESS_MAX as u32;
    let result = call([address.as_mut_ptr() as u64, &raw mut length as u64])?;
    write_address(&user, start, length_at, &address[..(length as usize).min(ADDRESS_MAX)])?;
    Ok(result)
}

fn with_address<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    [fd, start, length, ..]: [u64; 6],
) -> SyscallResult {
    let number = number_of(call, fd)?;
    let address = read_address(&thread.user(), start, length)?;
    // SAFETY: the kernel reads the address, which is ours.
    unsafe { enter(number, [fd, address.as_ptr() as u64, address.len() as u64, 0, 0, 0]) }
}

pub(super) fn bind<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    with_address(thread, Call::bind, arguments)
}

pub(super) fn connect<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    with_address(thread, Call::connect, arguments)
}

fn gives_address<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    [fd, start, length_at, flags, ..]: [u64; 6],
) -> SyscallResult {
    let number = number_of(call, fd)?;
    call_for_address(thread, [start, length_at], |[address, length]| {
        // SAFETY: the address and its length are null, or ours with room for the longest.
        unsafe { enter(number, [fd, address, length, flags, 0, 0]) }
    })
}

pub(super) fn accept<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    gives_address(thread, Call::accept, arguments)
}

pub(super) fn accept4<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    gives_address(thread, Call::accept4, arguments)
}

pub(super) fn getsockname<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    if arguments[1] == 0 {
        return Err(Errno::EFAULT);
    }
    gives_address(thread, Call::getsockname, arguments)
}

pub(super) fn getpeername<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    if arguments[1] == 0 {
        return Err(Errno::EFAULT);
    }
    gives_address(thread, Call::getpeername, arguments)
}

pub(super) fn sendto<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, buffer, length, flags, start, address_length]: [u64; 6],
) -> SyscallResult {
    let flags = flags & !MSG_ZEROCOPY;
    if start == 0 {
        let kinds = [Kind::Fd, Kind::InBytes(2), Kind::Size, Kind::Hex];
        return forward_as(thread, Call::sendto, [fd, buffer, length, flags, 0, 0], &kinds);
    }
    let number = number_of(Call::sendto, fd)?;
    let user = thread.user();
    let address = read_address(&user, start, address_length)?;
    let data = user.locate(GuestAddr(buffer), length)?;
    let (data, length) = (data.start.0 as u64, data.length as u64);
    // SAFETY: the data was located; the address is ours.
    unsafe { enter(number, [fd, data, length, flags, address.as_ptr() as u64, address.len() as u64]) }
}

pub(super) fn recvfrom<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, buffer, length, flags, start, length_at]: [u64; 6],
) -> SyscallResult {
    if start == 0 {
        let kinds = [Kind::Fd, Kind::OutBytes(2), Kind::Size, Kind::Hex];
        return forward_as(thread, Call::recvfrom, [fd, buffer, length, flags, 0, 0], &kinds);
    }
    let number = number_of(Call::recvfrom, fd)?;
    let data = thread.user().locate_for_write(GuestAddr(buffer), length)?;
    let (data, length) = (data.start.0 as u64, data.length as u64);
    call_for_address(thread, [start, length_at], |[address, address_length]| {
        // SAFETY: the data was located; the address and its length are ours, with room for the longest.
        unsafe { enter(number, [fd, data, length, flags, address, address_length]) }
    })
}

//! Socket options by known level and name. An option's value is flat, and the kernel gets or fills a copy.
//!
//! What is not in the list fails with ENOPROTOOPT: options whose value holds pointers (filters, TCP zero-copy, XDP memory,
//! packet rings), and those that let the kernel use guest memory after the call (`SO_ZEROCOPY`).

use std::ops::RangeInclusive;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::sockets::number_of;
use super::table::Call;
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

/// The longest value: multicast source lists and routing headers are the large ones.
const VALUE_MAX: usize = 1 << 16;

const SOL_ICMPV6: i32 = 58;
const SOL_RAW: i32 = 255;
const SOL_PACKET: i32 = 263;
const SOL_NETLINK: i32 = 270;
const SOL_VSOCK: i32 = 287;

/// Levels and the options of each. Numbers: include/uapi/asm-generic/socket.h, linux/{in,in6,tcp,udp,netlink}.h.
#[rustfmt::skip]
const OPTIONS: &[(i32, RangeInclusive<i32>)] = &[
    // Up to SO_SNDTIMEO, but for SO_SECURITY_*; 26 and 27 attach and detach a filter.
    (libc::SOL_SOCKET, 1..=21),
    (libc::SOL_SOCKET, 25..=25),
    (libc::SOL_SOCKET, 27..=49),
    // 50 and 51 attach programs, 52 too; 54 is SO_COOKIE's neighbour SO_MEMINFO..SO_PEERGROUPS; 60 is SO_ZEROCOPY.
    (libc::SOL_SOCKET, 53..=59),
    (libc::SOL_SOCKET, 61..=77),
    (libc::IPPROTO_IP, 1..=25),
    (libc::IPPROTO_IP, 32..=50),
    (libc::IPPROTO_IPV6, 1..=34),
    (libc::IPPROTO_IPV6, 36..=63),
    (libc::IPPROTO_IPV6, 66..=80),
    // 19 to 22 and 35 are repair and zero-copy reception.
    (libc::IPPROTO_TCP, 1..=18),
    (libc::IPPROTO_TCP, 23..=34),
    (libc::IPPROTO_TCP, 36..=37),
    (libc::IPPROTO_UDP, 1..=104),
    (SOL_ICMPV6, 1..=1),
    (SOL_RAW, 1..=1),
    (SOL_NETLINK, 1..=12),
    (SOL_PACKET, 1..=4),
    (SOL_PACKET, 6..=6),
    (SOL_PACKET, 8..=9),
    (SOL_VSOCK, 0..=8),
];

/// `SO_GET_FILTER` shares its number with `SO_ATTACH_FILTER`, and counts its length in instructions.
fn is_known(level: u64, option: u64) -> bool {
    let (level, option) = (level as i32, option as i32);
    OPTIONS.iter().any(|(known, options)| *known == level && options.contains(&option))
}

/// `setsockopt`.
pub(super) fn setsockopt<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, level, option, value, length, _]: [u64; 6],
) -> SyscallResult {
    let number = number_of(Call::setsockopt, fd)?;
    let length = usize::try_from(length as i32).map_err(|_| Errno::EINVAL)?;
    if !is_known(level, option) || length > VALUE_MAX {
        return refuse(fd);
    }
    let copy = thread.user().read_bytes(GuestAddr(value), length)?;
    // Null with a length is EFAULT, null without one an option switched off: the kernel tells them apart.
    let pointer = if value == 0 { 0 } else { copy.as_ptr() as u64 };
    // SAFETY: the value is flat, and ours.
    unsafe { enter(number, [fd, level, option, pointer, length as u64, 0]) }
}

/// `getsockopt`.
pub(super) fn getsockopt<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, level, option, value, length_at, _]: [u64; 6],
) -> SyscallResult {
    let number = number_of(Call::getsockopt, fd)?;
    if !is_known(level, option) {
        return refuse(fd);
    }
    let user = thread.user();
    let room: i32 = user.read(GuestAddr(length_at))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?.min(VALUE_MAX);
    // Some options read what the buffer holds.
    let mut copy = user.read_bytes(GuestAddr(value), room)?;
    let mut length = room as u32;
    let arguments = [fd, level, option, copy.as_mut_ptr() as u64, &raw mut length as u64, 0];
    // SAFETY: the value is flat, and it and its length are ours.
    let result = unsafe { enter(number, arguments) };
    let told = length as usize;
    user.write_bytes(GuestAddr(value), &copy[..told.min(room)])?;
    user.write(GuestAddr(length_at), &length)?;
    result
}

/// ENOPROTOOPT, unless the descriptor is no socket.
fn refuse(fd: u64) -> SyscallResult {
    let number = Call::getpeername.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the kernel finds null where it would write, and writes nothing.
    match unsafe { enter(number, [fd, 0, 0, 0, 0, 0]) } {
        Err(errno @ (Errno::EBADF | Errno::ENOTSOCK)) => Err(errno),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_hold_pointers_or_outlive_the_call_are_unknown() {
        let bad = [
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
            (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
            (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
            (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
            (libc::IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE),
            (libc::IPPROTO_TCP, libc::TCP_REPAIR),
            (SOL_PACKET, libc::PACKET_RX_RING),
            (SOL_PACKET, libc::PACKET_TX_RING),
            (libc::SOL_XDP, libc::XDP_UMEM_REG),
        ];
        assert!(bad.iter().all(|&(level, option)| !is_known(level as u64, option as u64)));
    }

    #[test]
    fn ordinary_options_are_known() {
        let good = [
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::SO_RCVBUF),
            (libc::SOL_SOCKET, libc::SO_PEERCRED),
            (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
            (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            (libc::SOL_SOCKET, libc::SO_DOMAIN),
            (libc::SOL_SOCKET, libc::SO_PEERSEC),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
            (libc::IPPROTO_TCP, libc::TCP_INFO),
            (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
            (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
        ];
        assert!(good.iter().all(|&(level, option)| is_known(level as u64, option as u64)));
    }
}

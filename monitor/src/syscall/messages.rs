//! `sendmsg` and `recvmsg`: a message header holds pointers to everything else, so it is copied and taken apart.
//!
//! Data stays in place; name and control data are copied in; descriptors in control data must not be the monitor's.

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::forward::host_vectors;
use super::hidden;
use super::sockets::{ADDRESS_MAX, MSG_ZEROCOPY, number_of, read_address};
use super::table::Call;
use crate::errno::{Errno, SyscallResult};
use crate::memory::user::UserMemory;
use crate::thread::Thread;

/// More control data than any sysctl lets a socket have (`net.core.optmem_max`).
const CONTROL_MAX: usize = 1 << 20;
/// `struct cmsghdr`: length, level, type.
const CONTROL_HEADER: usize = 16;
/// Offsets in `struct msghdr`, in bytes.
const NAME_LENGTH_AT: u64 = 8;
const CONTROL_LENGTH_AT: u64 = 40;
const FLAGS_AT: u64 = 48;
/// `struct mmsghdr`: a msghdr and the length of what moved.
const MANY_STRIDE: u64 = 64;
const MANY_LENGTH_AT: u64 = 56;

/// A guest's `struct msghdr`, as it is in memory.
#[derive(Clone, Copy)]
struct Header {
    name: u64,
    name_length: i32,
    vectors: u64,
    vector_count: u64,
    control: u64,
    control_length: u64,
}

fn read_header<B: IsolationBackend>(user: &UserMemory<'_, B>, start: GuestAddr) -> Result<Header, Errno> {
    let [name, name_length, vectors, vector_count, control, control_length, _flags]: [u64; 7] =
        user.read(start)?;
    let name_length = name_length as i32;
    if name_length < 0 {
        return Err(Errno::EINVAL);
    }
    if vector_count > libc::UIO_MAXIOV as u64 {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Header { name, name_length, vectors, vector_count, control, control_length })
}

/// `sendmsg`.
pub(super) fn sendmsg<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, message, flags, ..]: [u64; 6],
) -> SyscallResult {
    send(thread, fd, GuestAddr(message), flags)
}

fn send<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    fd: u64,
    message: GuestAddr,
    flags: u64,
) -> SyscallResult {
    let number = number_of(Call::sendmsg, fd)?;
    let user = thread.user();
    let header = read_header(&user, message)?;
    let mut name = match header.name {
        0 => Vec::new(),
        name => read_address(&user, name, header.name_length.min(ADDRESS_MAX as i32) as u64)?,
    };
    let mut vectors = host_vectors(&user, GuestAddr(header.vectors), header.vector_count, false)?;
    let mut control = read_control(&user, &header)?;
    let host = host_header(&mut name, &mut vectors, &mut control);
    // SAFETY: the header and what it leads to are ours, but for the data, which was located.
    unsafe { enter(number, [fd, &raw const host as u64, flags & !MSG_ZEROCOPY, 0, 0, 0]) }
}

/// Control data in a copy, aligned for its headers.
fn read_control<B: IsolationBackend>(user: &UserMemory<'_, B>, header: &Header) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(header.control_length).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(Vec::new());
    }
    if length > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let control = user.read_bytes(GuestAddr(header.control), length)?;
    if passed_descriptors(&control).into_iter().any(hidden::is_hidden) {
        Err(Errno::EBADF)
    } else {
        Ok(control)
    }
}

/// The descriptors that control data hands over (`SCM_RIGHTS`), walked as the kernel walks it.
fn passed_descriptors(mut control: &[u8]) -> Vec<i32> {
    let mut descriptors = Vec::new();
    while control.len() >= CONTROL_HEADER {
        let word =
            |at: usize| i32::from_le_bytes(control[at..at + 4].try_into().expect("four bytes were taken"));
        let length = u64::from_le_bytes(control[..8].try_into().expect("eight bytes were taken"));
        let Ok(length) = usize::try_from(length) else { break };
        if length < CONTROL_HEADER || length > control.len() {
            break;
        }
        if (word(8), word(12)) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let words = control[CONTROL_HEADER..length].chunks_exact(4);
            descriptors.extend(
                words.map(|word| i32::from_le_bytes(word.try_into().expect("chunks have four bytes"))),
            );
        }
        control = control.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    descriptors
}

fn host_header(name: &mut [u8], vectors: &mut [libc::iovec], control: &mut [u8]) -> libc::msghdr {
    let pointer_or_null =
        |bytes: &mut [u8]| if bytes.is_empty() { std::ptr::null_mut() } else { bytes.as_mut_ptr() };
    // SAFETY: a msghdr is integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_namelen = name.len() as u32;
    header.msg_name = pointer_or_null(name).cast();
    header.msg_iovlen = vectors.len() as _;
    header.msg_iov = vectors.as_mut_ptr();
    header.msg_controllen = control.len() as _;
    header.msg_control = pointer_or_null(control).cast();
    header
}

/// `recvmsg`.
pub(super) fn recvmsg<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, message, flags, ..]: [u64; 6],
) -> SyscallResult {
    receive(thread, fd, GuestAddr(message), flags)
}

fn receive<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    fd: u64,
    message: GuestAddr,
    flags: u64,
) -> SyscallResult {
    let number = number_of(Call::recvmsg, fd)?;
    let user = thread.user();
    let header = read_header(&user, message)?;
    // Before anything is received, so that nothing is lost: where the answers go must be the guest's.
    user.locate_for_write(message, FLAGS_AT + 8)?;
    let name_room = if header.name == 0 { 0 } else { ADDRESS_MAX };
    user.locate(GuestAddr(header.name), header.name_length as u64 * u64::from(header.name != 0))?;
    let control_room = match header.control {
        0 => 0,
        _ => usize::try_from(header.control_length).unwrap_or(usize::MAX).min(CONTROL_MAX),
    };
    user.locate_for_write(GuestAddr(header.control), control_room as u64)?;
    let mut name = vec![0; name_room];
    let mut control = vec![0; control_room];
    let mut vectors = host_vectors(&user, GuestAddr(header.vectors), header.vector_count, true)?;
    let mut host = host_header(&mut name, &mut vectors, &mut control);
    // SAFETY: the header and what it leads to are ours, but for the data, which was located.
    let received = unsafe { enter(number, [fd, &raw mut host as u64, flags, 0, 0, 0]) }?;
    if header.name != 0 {
        let length = (host.msg_namelen as usize).min(name.len());
        let shown = length.min(header.name_length as usize);
        user.write_bytes(GuestAddr(header.name), &name[..shown])?;
        user.write(field(message, NAME_LENGTH_AT)?, &(length as u32))?;
    }
    let control_length = (host.msg_controllen as usize).min(control.len());
    user.write_bytes(GuestAddr(header.control), &control[..control_length])?;
    user.write(field(message, CONTROL_LENGTH_AT)?, &(control_length as u64))?;
    user.write(field(message, FLAGS_AT)?, &host.msg_flags)?;
    Ok(received)
}

fn field(start: GuestAddr, offset: u64) -> Result<GuestAddr, Errno> {
    start.checked_add(offset).ok_or(Errno::EFAULT)
}

/// `sendmmsg`: one message after the other. Like the kernel's, it says how many went out, or why the first did not.
pub(super) fn sendmmsg<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, messages, count, flags, ..]: [u64; 6],
) -> SyscallResult {
    each_message(thread, messages, count, |thread, message, _| send(thread, fd, message, flags))
}

/// `recvmmsg`: one message after the other, until the time is up (which the kernel looks at after each message only).
pub(super) fn recvmmsg<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [fd, messages, count, flags, timeout, _]: [u64; 6],
) -> SyscallResult {
    const MSG_WAITFORONE: u64 = 0x1_0000;
    let limit: Option<libc::timespec> = thread.user().read_optional(GuestAddr(timeout))?;
    let is_time = |limit: libc::timespec| limit.tv_sec >= 0 && (0..1_000_000_000).contains(&limit.tv_nsec);
    if limit.is_some_and(|limit| !is_time(limit)) {
        return Err(Errno::EINVAL);
    }
    let limit = limit.map(|limit| std::time::Duration::new(limit.tv_sec as u64, limit.tv_nsec as u32));
    let start = std::time::Instant::now();
    each_message(thread, messages, count, |thread, message, index| {
        if index > 0 && limit.is_some_and(|limit| start.elapsed() >= limit) {
            return Err(Errno::EAGAIN);
        }
        let waits = flags & MSG_WAITFORONE == 0 || index == 0;
        let flags = flags & !MSG_WAITFORONE | if waits { 0 } else { libc::MSG_DONTWAIT as u64 };
        receive(thread, fd, message, flags)
    })
}

fn each_message<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    messages: u64,
    count: u64,
    mut each: impl FnMut(&Thread<'_, B, M>, GuestAddr, u64) -> SyscallResult,
) -> SyscallResult {
    let count = u64::from(count as u32).min(libc::UIO_MAXIOV as u64);
    for index in 0..count {
        let message = field(GuestAddr(messages), index * MANY_STRIDE)?;
        let moved = each(thread, message, index)
            .and_then(|length| thread.user().write(field(message, MANY_LENGTH_AT)?, &(length as u32)));
        match moved {
            Err(errno) if index == 0 => return Err(errno),
            Err(_) => return Ok(index),
            Ok(()) => {}
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: i32, kind: i32, data: &[i32]) -> Vec<u8> {
        let mut bytes = ((CONTROL_HEADER + 4 * data.len()) as u64).to_le_bytes().to_vec();
        let words = [level, kind].into_iter().chain(data.iter().copied());
        bytes.extend(words.flat_map(i32::to_le_bytes));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn descriptors_are_found_in_every_record() {
        let rights = |fds: &[i32]| record(libc::SOL_SOCKET, libc::SCM_RIGHTS, fds);
        let control = [rights(&[3]), record(libc::SOL_SOCKET, 2, &[9, 9, 9]), rights(&[4, 5])].concat();
        assert_eq!(passed_descriptors(&control), [3, 4, 5]);
    }

    #[test]
    fn a_record_longer_than_the_data_ends_the_walk() {
        let mut control = record(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[3, 4]);
        control[0] = 200;
        assert_eq!(passed_descriptors(&control), []);
    }
}

//! Calls that take a path and could reach the monitor through /proc: looking at, reading links, listing.

use std::ffi::CString;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::forward::{forward, forward_with_path};
use super::table::Call;
use super::{hidden, proc_files, raw};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

const AT_FDCWD: u64 = libc::AT_FDCWD as i64 as u64;

/// If the path argument leads to a link that names the program of a process under Endo: the guest's program.
fn executable_named<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    directory: u64,
    path: u64,
) -> Result<Option<CString>, Errno> {
    let path = thread.user().read_path(GuestAddr(path))?;
    Ok(proc_files::guest_executable(thread.process, directory as i32, &path))
}

/// A call that follows links, with the directory and the path at these arguments.
fn look_at<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    directory: u64,
    index: usize,
) -> SyscallResult {
    if hidden::is_hidden(directory as i32) {
        return Err(Errno::EBADF);
    }
    // A null path is an empty one to the kernel, for the calls that take AT_EMPTY_PATH.
    if arguments[index] == 0 {
        return forward(thread, call, arguments);
    }
    let path = thread.user().read_path(GuestAddr(arguments[index]))?;
    if proc_files::is_hidden_link(directory as i32, &path) {
        return Err(Errno::ENOENT);
    }
    let substitute = proc_files::guest_executable(thread.process, directory as i32, &path);
    forward_with_path(thread, call, arguments, index, &substitute.unwrap_or(path))
}

pub(super) fn stat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    look_at(thread, Call::stat, arguments, AT_FDCWD, 0)
}

pub(super) fn newfstatat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    if arguments[3] as i32 & (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return forward(thread, Call::newfstatat, arguments);
    }
    look_at(thread, Call::newfstatat, arguments, arguments[0], 1)
}

pub(super) fn statx<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    if arguments[2] as i32 & (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return forward(thread, Call::statx, arguments);
    }
    look_at(thread, Call::statx, arguments, arguments[0], 1)
}

pub(super) fn access<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    look_at(thread, Call::access, arguments, AT_FDCWD, 0)
}

pub(super) fn faccessat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    look_at(thread, Call::faccessat, arguments, arguments[0], 1)
}

pub(super) fn faccessat2<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    look_at(thread, Call::faccessat2, arguments, arguments[0], 1)
}

/// `readlink`.
pub(super) fn readlink<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let [path, buffer, size, ..] = arguments;
    read_link(thread, Call::readlink, arguments, AT_FDCWD, [path, buffer, size])
}

/// `readlinkat`.
pub(super) fn readlinkat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let [directory, path, buffer, size, ..] = arguments;
    read_link(thread, Call::readlinkat, arguments, directory, [path, buffer, size])
}

fn read_link<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    directory: u64,
    [path, buffer, size]: [u64; 3],
) -> SyscallResult {
    let size = size as i32;
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    if hidden::is_hidden(directory as i32) {
        return Err(Errno::EBADF);
    }
    let Some(executable) = executable_named(thread, directory, path)? else {
        return forward(thread, call, arguments);
    };
    // That of another process is a link itself.
    let target = raw::read_link(&executable).ok().filter(|_| executable.as_bytes().starts_with(b"/proc/"));
    let shown = target.as_deref().unwrap_or(executable.as_bytes());
    let shown = &shown[..shown.len().min(size as usize)];
    thread.user().write_bytes(GuestAddr(buffer), shown)?;
    Ok(shown.len() as u64)
}

/// `getdents`.
pub(super) fn getdents<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    list(thread, Call::getdents, arguments, 18)
}

/// `getdents64`.
pub(super) fn getdents64<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    list(thread, Call::getdents64, arguments, 19)
}

/// Lists a directory, leaving out the monitor's descriptors. Both kinds of entry have their length at byte 16; the name
/// is at `name_offset`.
fn list<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    name_offset: usize,
) -> SyscallResult {
    let length = forward(thread, call, arguments)?;
    let is_filtered = hidden::range().is_some() && proc_files::lists_descriptors(arguments[0] as i32);
    if !is_filtered || length == 0 {
        return Ok(length);
    }
    let user = thread.user();
    let entries = user.read_bytes(GuestAddr(arguments[1]), length as usize)?;
    let kept = without_hidden(&entries, name_offset, hidden::is_hidden);
    user.write_bytes(GuestAddr(arguments[1]), &kept)?;
    // An empty answer would mean the end: ask for the next entries instead.
    if kept.is_empty() { list(thread, call, arguments, name_offset) } else { Ok(kept.len() as u64) }
}

/// Directory entries without those whose names are numbers that `is_hidden` knows.
fn without_hidden(mut entries: &[u8], name_offset: usize, is_hidden: impl Fn(i32) -> bool) -> Vec<u8> {
    let mut kept = Vec::with_capacity(entries.len());
    while entries.len() > name_offset {
        let length =
            usize::from(u16::from_le_bytes([entries[16], entries[17]])).clamp(name_offset, entries.len());
        let (entry, rest) = entries.split_at(length);
        let name = entry[name_offset..].split(|&byte| byte == 0).next().unwrap_or_default();
        let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        if !number.is_some_and(&is_hidden) {
            kept.extend_from_slice(entry);
        }
        entries = rest;
    }
    kept
}

/// Closes a descriptor that the guest has not been told of.
pub(super) fn close_again(fd: i32) {
    // The descriptor is open; what closing reports (delayed write errors) cannot concern a file just opened.
    let _ = raw::close(fd);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut bytes = vec![0; length];
        bytes[16..18].copy_from_slice(&(length as u16).to_le_bytes());
        bytes[19..19 + name.len()].copy_from_slice(name.as_bytes());
        bytes
    }

    #[test]
    fn only_hidden_numbers_are_left_out_of_a_listing() {
        let listing: Vec<u8> = ["..", "0", "960", "961", "x960"].into_iter().flat_map(entry).collect();
        let expected: Vec<u8> = ["..", "0", "961", "x960"].into_iter().flat_map(entry).collect();
        assert_eq!(without_hidden(&listing, 19, |fd| fd == 960), expected);
    }
}

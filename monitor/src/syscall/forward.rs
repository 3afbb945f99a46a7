//! Handing a call to the kernel: every argument is checked by its kind, and pointers become the host's.
//!
//! Bulk data and flat structures stay where they are: the kernel reads and writes them in the guest's window. What
//! holds pointers itself (an iovec array) is copied once, and the kernel gets the copy.

use std::ffi::CStr;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::table::{Call, Kind, Type};
use super::{hidden, proc_files};
use crate::errno::{Errno, SyscallResult};
use crate::memory::place::ADDRESS_END;
use crate::memory::user::UserMemory;
use crate::signal::SigSet;
use crate::thread::Thread;

/// The most that one read or write moves, in bytes (include/linux/fs.h, `MAX_RW_COUNT`).
const MAX_RW_COUNT: u64 = 0x7fff_f000;

/// As many descriptors as a process can have open (`fs.nr_open`, where nobody raises it).
pub const MAX_DESCRIPTORS: usize = 1 << 20;

/// Makes the call as the guest asked, with the argument kinds of its row.
pub fn forward<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
) -> SyscallResult {
    forward_as(thread, call, arguments, call.row().arguments)
}

/// Makes the call as the guest asked, with these argument kinds: for calls whose arguments mean different things under
/// different commands. Arguments without a kind do not reach the kernel.
pub fn forward_as<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    kinds: &[Kind],
) -> SyscallResult {
    let number = call.row().number().ok_or(Errno::ENOSYS)?;
    let mut vectors = Vec::new();
    let arguments = check(&thread.user(), arguments, kinds, &mut vectors)?;
    // SAFETY: every pointer among the arguments was found to lie in the guest's window as far as the kernel goes, or
    // leads to `vectors`, whose buffers were; descriptors are none of the monitor's.
    unsafe { enter(number, arguments) }
}

/// As [`forward`], with a path of the monitor's in place of argument `index`: what the guest has there is not looked at.
pub fn forward_with_path<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    index: usize,
    path: &CStr,
) -> SyscallResult {
    let number = call.row().number().ok_or(Errno::ENOSYS)?;
    let mut kinds = [Kind::Unused; 6];
    kinds[..call.row().arguments.len()].copy_from_slice(call.row().arguments);
    kinds[index] = Kind::Unused;
    let kinds = &kinds[..call.row().arguments.len()];
    let mut arguments = check(&thread.user(), arguments, kinds, &mut Vec::new())?;
    arguments[index] = path.as_ptr() as u64;
    // SAFETY: as in `forward_as`; the path lives until the call returns.
    unsafe { enter(number, arguments) }
}

/// Where a call takes the signal mask it waits under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MaskArgument {
    /// This argument points to it, and the next is its size.
    Direct(usize),
    /// This argument points to a pair of pointer and size (`pselect6`).
    Pair(usize),
}

/// As [`forward_as`], waiting under `mask` if there is one. `kinds` end before the mask.
pub fn forward_masked<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    kinds: &[Kind],
    mask: Option<SigSet>,
    place: MaskArgument,
) -> SyscallResult {
    forward_copies(thread, call, arguments, kinds, &mut [], mask.map(|mask| (mask, place)))
}

/// Waits under `mask`, if there is one, with memory of the monitor's in place of some arguments: of those the kinds say
/// [`Kind::Unused`].
pub fn forward_copies<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    call: Call,
    arguments: [u64; 6],
    kinds: &[Kind],
    copies: &mut [(usize, &mut [u8])],
    mask: Option<(SigSet, MaskArgument)>,
) -> SyscallResult {
    let number = call.row().number().ok_or(Errno::ENOSYS)?;
    let mut arguments = check(&thread.user(), arguments, kinds, &mut Vec::new())?;
    for (index, bytes) in copies {
        arguments[*index] = bytes.as_mut_ptr() as u64;
    }
    let host_mask = match mask {
        Some((mask, _)) => thread.signals.begin_temporary_mask(mask)?,
        None => SigSet::EMPTY,
    };
    let pair = [&raw const host_mask as u64, SigSet::SIZE];
    match mask {
        Some((_, MaskArgument::Direct(index))) => arguments[index..index + 2].copy_from_slice(&pair),
        Some((_, MaskArgument::Pair(index))) => arguments[index] = pair.as_ptr() as u64,
        None => {}
    }
    // SAFETY: as in `forward_as`; the copies are as long as the kernel goes, and live until the call returns, as do the mask
    // and the pair that leads to it.
    unsafe { enter(number, arguments) }
}

/// The arguments as the kernel gets them.
fn check<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    mut arguments: [u64; 6],
    kinds: &[Kind],
    vectors: &mut Vec<libc::iovec>,
) -> Result<[u64; 6], Errno> {
    arguments[kinds.len()..].fill(0);
    for (index, &kind) in kinds.iter().enumerate() {
        if kind == Kind::Path {
            let directory = index.checked_sub(1).filter(|&before| kinds[before] == Kind::DirFd);
            let directory = directory.map_or(libc::AT_FDCWD, |before| arguments[before] as i32);
            refuse_hidden_links(user, directory, GuestAddr(arguments[index]))?;
        }
        arguments[index] = check_one(user, &mut arguments, index, kind, vectors)?;
    }
    Ok(arguments)
}

/// ENOENT for a path that leads to one of the monitor's descriptors. What cannot be read is left to the kernel.
fn refuse_hidden_links<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    directory: i32,
    path: GuestAddr,
) -> Result<(), Errno> {
    if path.0 == 0 || hidden::range().is_none() {
        return Ok(());
    }
    match user.read_path(path) {
        Ok(path) if proc_files::is_hidden_link(directory, &path) => Err(Errno::ENOENT),
        _ => Ok(()),
    }
}

fn check_one<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    arguments: &mut [u64; 6],
    index: usize,
    kind: Kind,
    vectors: &mut Vec<libc::iovec>,
) -> Result<u64, Errno> {
    let value = arguments[index];
    let pointer = Pointer { user, start: GuestAddr(value) };
    match kind {
        Kind::Fd | Kind::FdOrNone | Kind::DirFd => {
            if hidden::is_hidden(value as i32) {
                Err(Errno::EBADF)
            } else {
                Ok(value)
            }
        }
        Kind::Path | Kind::Text => pointer.string(),
        Kind::In(ty) => pointer.read(ty.size()),
        Kind::Out(ty) | Kind::InOut(ty) => pointer.written(ty.size()),
        Kind::InArray(ty, count) => pointer.read(array_length(ty, arguments[count])?),
        Kind::OutArray(ty, count) | Kind::InOutArray(ty, count) => {
            pointer.written(array_length(ty, arguments[count])?)
        }
        // Not even an empty buffer may lie where no process has memory.
        Kind::InBytes(_) | Kind::OutBytes(_) if value > ADDRESS_END => Err(Errno::EFAULT),
        Kind::InBytes(length) => pointer.read(clip(user, value, &mut arguments[length])),
        Kind::OutBytes(length) => pointer.written(clip(user, value, &mut arguments[length])),
        Kind::SockAddr(length) => pointer.read(arguments[length] as u32 as u64),
        Kind::SigSet(_) => pointer.read(8),
        Kind::FdSet => pointer.written(fd_set_length(arguments[0] as i32)),
        Kind::InVec(count) | Kind::OutVec(count) => {
            let is_written = matches!(kind, Kind::OutVec(_));
            *vectors = host_vectors(user, GuestAddr(value), arguments[count], is_written)?;
            Ok(vectors.as_ptr() as u64)
        }
        // Only handlers know what these lead to: the kernel gets no pointer that nobody looked at.
        Kind::Address | Kind::MsgIn | Kind::MsgOut => {
            if value == 0 {
                Ok(0)
            } else {
                Err(Errno::EFAULT)
            }
        }
        Kind::Unused => Ok(0),
        Kind::Int
        | Kind::Long
        | Kind::Hex
        | Kind::Size
        | Kind::Offset
        | Kind::Mode
        | Kind::Pid
        | Kind::Signal
        | Kind::Flags(_) => Ok(value),
    }
}

/// A pointer argument. Null stays null: it means "none" to the kernel, or EFAULT.
struct Pointer<'a, 'u, B> {
    user: &'u UserMemory<'a, B>,
    start: GuestAddr,
}

impl<B: IsolationBackend> Pointer<'_, '_, B> {
    fn read(&self, length: u64) -> Result<u64, Errno> {
        self.unless_null(|| Ok(self.user.locate(self.start, length)?.start.0 as u64))
    }

    fn written(&self, length: u64) -> Result<u64, Errno> {
        self.unless_null(|| Ok(self.user.locate_for_write(self.start, length)?.start.0 as u64))
    }

    /// The kernel reads a string byte by byte, at most 4096 of them: less than what is never mapped after the window.
    fn string(&self) -> Result<u64, Errno> {
        self.read(1)
    }

    fn unless_null(&self, locate: impl FnOnce() -> Result<u64, Errno>) -> Result<u64, Errno> {
        if self.start.0 == 0 { Ok(0) } else { locate() }
    }
}

/// Bytes of an array. The kernel takes a negative count for an error everywhere.
fn array_length(ty: Type, count: u64) -> Result<u64, Errno> {
    if i64::from(count as i32) != count as i64 || (count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(count * ty.size())
}

/// Shortens a byte count to what one call moves and to the window's end, where the kernel would stop for lack of pages.
/// A negative one stays: the kernel refuses it without looking at the buffer.
fn clip<B: IsolationBackend>(user: &UserMemory<'_, B>, start: u64, length: &mut u64) -> u64 {
    if (*length as i64) < 0 {
        return 0;
    }
    let to_end = user.window_end().saturating_sub(start);
    if to_end != 0 {
        *length = (*length).min(MAX_RW_COUNT).min(to_end);
    }
    *length
}

/// Bytes of a `select` set for descriptors below `count`: whole words, and no more than a process can have open.
pub fn fd_set_length(count: i32) -> u64 {
    u64::try_from(count).unwrap_or(0).min(MAX_DESCRIPTORS as u64).div_ceil(64) * 8
}

/// The host's iovec array for a guest's.
pub fn host_vectors<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    start: GuestAddr,
    count: u64,
    is_written: bool,
) -> Result<Vec<libc::iovec>, Errno> {
    let mut room = MAX_RW_COUNT;
    let to_host = |slice: crate::memory::user::UserSlice| {
        // Also of no bytes.
        if slice.start.0 > ADDRESS_END {
            return Err(Errno::EFAULT);
        }
        let mut length = slice.length.min(room);
        clip(user, slice.start.0, &mut length);
        room -= length;
        let host = match is_written {
            true => user.locate_for_write(slice.start, length),
            false => user.locate(slice.start, length),
        };
        host.map(|host| libc::iovec { iov_base: host.start.as_ptr(), iov_len: host.length })
    };
    user.read_iovecs(start, count)?.into_iter().map(to_host).collect()
}

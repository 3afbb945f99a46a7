//! Calls about the guest's address space: their arguments decoded, the rest done by [`MemoryMap`].
#![deny(unsafe_code)]

use std::sync::MutexGuard;

use endo_core::{GuestAddr, IsolationBackend, PAGE_SIZE, Rights, SyscallMonitor};

use super::hidden;
use crate::errno::{Errno, SyscallResult};
use crate::memory::change::Reach;
use crate::memory::remap::RemapRequest;
use crate::memory::{FilePart, Label, MapRequest, MemoryMap, Placement, Sharing};
use crate::thread::Thread;

const PROT_SEM: u64 = 8;
const MAP_TYPE: i32 = 0x0f;
const MAP_DROPPABLE: i32 = 0x08;

/// The flags of `mmap` that the host gets as the guest gave them.
const HOST_FLAGS: i32 = libc::MAP_NORESERVE
    | libc::MAP_POPULATE
    | libc::MAP_LOCKED
    | libc::MAP_NONBLOCK
    | libc::MAP_STACK
    | libc::MAP_SYNC;

/// The flags of `mmap` that say where, which is decided here, or what the window does not have.
const OWN_FLAGS: i32 =
    libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | LOW_ADDRESS_FLAG;

fn map<'p, B: IsolationBackend, M>(thread: &Thread<'p, B, M>) -> MutexGuard<'p, MemoryMap> {
    thread.process.memory()
}

fn rights(prot: u64) -> Rights {
    Rights::from_bits_truncate((prot & 7) as u8)
}

pub(super) fn mmap<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [addr, length, prot, flags, fd, offset]: [u64; 6],
) -> SyscallResult {
    let flags = flags as i32;
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let has = |flag| flags & flag != 0;
    let file = (!has(libc::MAP_ANONYMOUS)).then_some(FilePart { fd: fd as i32, offset });
    if file.is_some() && hidden::is_hidden(fd as i32) {
        return Err(Errno::EBADF);
    }
    let (sharing, type_flags) = sharing(flags, file.is_some())?;
    let grows_down = has(libc::MAP_GROWSDOWN);
    if grows_down && sharing == Sharing::Shared {
        return Err(Errno::EINVAL);
    }
    // The window is reserved in small pages, and has none of the other kind.
    if has(libc::MAP_HUGETLB) && file.is_none() {
        return Err(Errno::ENOMEM);
    }
    let request = MapRequest {
        placement: placement(GuestAddr(addr), flags),
        length,
        rights: rights(prot),
        sharing,
        file,
        grows_down: grows_down && file.is_none(),
        host_flags: flags & HOST_FLAGS | type_flags,
        label: Label::Guest,
    };
    map(thread).map(&thread.process.backend, &request).map(|range| range.start().0)
}

/// Whom stores reach, and the type bits for the host.
fn sharing(flags: i32, has_file: bool) -> Result<(Sharing, i32), Errno> {
    match flags & MAP_TYPE {
        libc::MAP_PRIVATE => Ok((Sharing::Private, 0)),
        libc::MAP_SHARED => Ok((Sharing::Shared, 0)),
        // The kernel refuses the flags that it does not know.
        libc::MAP_SHARED_VALIDATE if has_file => Ok((Sharing::Shared, flags & !OWN_FLAGS)),
        // Memory that the kernel may drop is memory all the same: it is never dropped here.
        MAP_DROPPABLE if !has_file => Ok((Sharing::Private, 0)),
        _ => Err(Errno::EINVAL),
    }
}

fn placement(addr: GuestAddr, flags: i32) -> Placement {
    match addr {
        _ if flags & libc::MAP_FIXED_NOREPLACE != 0 => Placement::FixedNoReplace(addr),
        _ if flags & libc::MAP_FIXED != 0 => Placement::Fixed(addr),
        _ if flags & LOW_ADDRESS_FLAG != 0 => Placement::Low,
        GuestAddr(0) => Placement::Anywhere,
        _ => Placement::Hint(addr),
    }
}

#[cfg(target_arch = "x86_64")]
const LOW_ADDRESS_FLAG: i32 = libc::MAP_32BIT;
#[cfg(not(target_arch = "x86_64"))]
const LOW_ADDRESS_FLAG: i32 = 0;

pub(super) fn mprotect<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, prot, ..]: [u64; 6],
) -> SyscallResult {
    let (down, up) = (libc::PROT_GROWSDOWN as u64, libc::PROT_GROWSUP as u64);
    let known = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64 | PROT_SEM;
    // The kernel takes the protection as unsigned long; nothing grows upwards here.
    if prot & !(known | down) != 0 || prot & up != 0 {
        return Err(Errno::EINVAL);
    }
    let reach = if prot & down != 0 { Reach::ToLowerEnd } else { Reach::Exact };
    map(thread).protect(&thread.process.backend, GuestAddr(start), length, rights(prot), reach).map(|()| 0)
}

pub(super) fn pkey_mprotect<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    // The guest has no protection keys but the one that means none.
    if arguments[3] as i32 == -1 { mprotect(thread, arguments) } else { Err(Errno::EINVAL) }
}

pub(super) fn munmap<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, ..]: [u64; 6],
) -> SyscallResult {
    map(thread).unmap(&thread.process.backend, GuestAddr(start), length).map(|()| 0)
}

pub(super) fn brk<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [to, ..]: [u64; 6],
) -> SyscallResult {
    Ok(map(thread).brk(&thread.process.backend, GuestAddr(to)).0)
}

pub(super) fn mremap<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [old_start, old_length, new_length, flags, new_start, _]: [u64; 6],
) -> SyscallResult {
    let request = RemapRequest {
        old_start: GuestAddr(old_start),
        old_length,
        new_length,
        flags: i32::try_from(flags).map_err(|_| Errno::EINVAL)?,
        new_start: GuestAddr(new_start),
    };
    map(thread).remap(&thread.process.backend, &request).map(|start| start.0)
}

pub(super) fn msync<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, flags, ..]: [u64; 6],
) -> SyscallResult {
    let syncing = map(thread).to_sync(&thread.process.backend, GuestAddr(start), length, flags as i32)?;
    syncing.carry_out().map(|()| 0)
}

pub(super) fn mincore<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, vector, ..]: [u64; 6],
) -> SyscallResult {
    let residency = map(thread).residency(&thread.process.backend, GuestAddr(start), length)?;
    thread.user().write_bytes(GuestAddr(vector), &residency).map(|()| 0)
}

pub(super) fn madvise<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, advice, ..]: [u64; 6],
) -> SyscallResult {
    map(thread).advise(&thread.process.backend, GuestAddr(start), length, advice as i32).map(|()| 0)
}

pub(super) fn mlock<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, ..]: [u64; 6],
) -> SyscallResult {
    map(thread).set_locked(&thread.process.backend, GuestAddr(start), length, Some(0)).map(|()| 0)
}

pub(super) fn mlock2<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, flags, ..]: [u64; 6],
) -> SyscallResult {
    let flags = flags as u32;
    if flags & !libc::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    map(thread).set_locked(&thread.process.backend, GuestAddr(start), length, Some(flags)).map(|()| 0)
}

pub(super) fn munlock<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, length, ..]: [u64; 6],
) -> SyscallResult {
    map(thread).set_locked(&thread.process.backend, GuestAddr(start), length, None).map(|()| 0)
}

pub(super) fn mlockall<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [flags, ..]: [u64; 6],
) -> SyscallResult {
    let flags = flags as i32;
    let (current, future, on_fault) = (libc::MCL_CURRENT, libc::MCL_FUTURE, libc::MCL_ONFAULT);
    if flags & !(current | future | on_fault) != 0 || flags & (current | future) == 0 {
        return Err(Errno::EINVAL);
    }
    let lock_flags = if flags & on_fault != 0 { libc::MLOCK_ONFAULT } else { 0 };
    let current = (flags & current != 0).then_some(lock_flags);
    map(thread).lock_all(&thread.process.backend, current, flags & future != 0).map(|()| 0)
}

pub(super) fn munlockall<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    _arguments: [u64; 6],
) -> SyscallResult {
    map(thread).unlock_all(&thread.process.backend).map(|()| 0)
}

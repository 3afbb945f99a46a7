//! The host's memory calls on parts of a guest window: the one place here that changes real mappings.

use endo_core::{HostAddr, HostRange, Rights};

use crate::errno::Errno;

/// Host memory behind a guest range. Everything this module does happens inside it.
///
/// Made from what `host_range` returned only, so it lies in the window, which holds nothing of the monitor's.
pub(super) type Window = HostRange;

/// The kernel's `PROT_` bits for these rights.
pub(super) fn protection(rights: Rights) -> libc::c_int {
    let bit = |right, flag| if rights.contains(right) { flag } else { 0 };
    bit(Rights::READ, libc::PROT_READ)
        | bit(Rights::WRITE, libc::PROT_WRITE)
        | bit(Rights::EXECUTE, libc::PROT_EXEC)
}

/// Maps over `at`; `flags` are the kernel's without `MAP_FIXED`.
pub(super) fn map(
    at: Window,
    rights: Rights,
    flags: libc::c_int,
    fd: libc::c_int,
    offset: u64,
) -> Result<(), Errno> {
    let flags = flags & !libc::MAP_FIXED_NOREPLACE | libc::MAP_FIXED;
    // SAFETY: what is replaced lies in a guest window (see `Window`), where no Rust object lives.
    let mapped =
        unsafe { libc::mmap(at.start.as_ptr(), at.length, protection(rights), flags, fd, offset as i64) };
    if mapped == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

/// Gives `at` back to the window: nothing is mapped there for the guest, and nobody else can map it.
pub(super) fn release(at: Window) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    map(at, Rights::empty(), flags, -1, 0)
}

/// Changes the protection of `at`.
pub(super) fn protect(at: Window, rights: Rights) -> Result<(), Errno> {
    // SAFETY: the pages are the guest's (see `Window`).
    check(unsafe { libc::mprotect(at.start.as_ptr(), at.length, protection(rights)) })
}

/// Unmaps `at` for real, to make room for a mapping that grows into it.
pub(super) fn unmap(at: Window) -> Result<(), Errno> {
    // SAFETY: the pages are the guest's (see `Window`).
    check(unsafe { libc::munmap(at.start.as_ptr(), at.length) })
}

/// Resizes in place or moves to `to`; `flags` are the kernel's.
pub(super) fn remap(from: Window, new_length: usize, flags: libc::c_int, to: HostAddr) -> Result<(), Errno> {
    // SAFETY: source and target are the guest's (see `Window`); the target was checked to have `new_length` bytes.
    let moved = unsafe {
        libc::mremap(from.start.as_ptr(), from.length, new_length, flags, to.as_ptr::<libc::c_void>())
    };
    if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

/// `madvise` on `at`.
pub(super) fn advise(at: Window, advice: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pages are the guest's (see `Window`).
    check(unsafe { libc::madvise(at.start.as_ptr(), at.length, advice) })
}

/// `mlock2` on `at`.
pub(super) fn lock(at: Window, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: the pages are the guest's (see `Window`).
    check(unsafe { libc::mlock2(at.start.as_ptr(), at.length, flags) })
}

/// `munlock` on `at`.
pub(super) fn unlock(at: Window) -> Result<(), Errno> {
    // SAFETY: the pages are the guest's (see `Window`).
    check(unsafe { libc::munlock(at.start.as_ptr(), at.length) })
}

/// `msync` on `at`.
pub(super) fn sync(at: Window, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pages are the guest's (see `Window`).
    check(unsafe { libc::msync(at.start.as_ptr(), at.length, flags) })
}

/// Which pages of `at` are resident: one byte a page.
pub(super) fn residency(at: Window) -> Result<Vec<u8>, Errno> {
    let mut pages = vec![0_u8; at.length.div_ceil(endo_core::PAGE_SIZE as usize)];
    // SAFETY: the pages are the guest's (see `Window`), and `pages` holds a byte for each.
    check(unsafe { libc::mincore(at.start.as_ptr(), at.length, pages.as_mut_ptr()) })?;
    Ok(pages)
}

/// The length of a System V shared memory segment, in bytes.
pub(super) fn segment_length(id: libc::c_int) -> Result<u64, Errno> {
    let mut status = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: `status` is what IPC_STAT fills.
    check(unsafe { libc::shmctl(id, libc::IPC_STAT, status.as_mut_ptr()) })?;
    // SAFETY: the call has filled it.
    Ok(unsafe { status.assume_init() }.shm_segsz as u64)
}

/// Attaches a System V shared memory segment, which has the length of `at` in whole pages.
pub(super) fn attach(at: Window, id: libc::c_int, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: what is replaced lies in a guest window (see `Window`).
    let attached = unsafe { libc::shmat(id, at.start.as_ptr(), flags | libc::SHM_REMAP) };
    if attached as isize == -1 { Err(Errno::last()) } else { Ok(()) }
}

fn check(status: libc::c_int) -> Result<(), Errno> {
    if status == 0 { Ok(()) } else { Err(Errno::last()) }
}

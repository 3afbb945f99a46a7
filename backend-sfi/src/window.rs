//! Address space: the guest's window in the low 4 GiB, the guards around it, and the dispatch table.

use std::io;

use endo_core::{BackendError, GuestAddr, GuestRange};

/// First guest address: below it nothing is ever mapped, so that null pointers with small offsets fault.
pub const WINDOW_START: u64 = 0x1_0000;
/// End of the range that 32-bit addressing reaches.
pub const WINDOW_END: u64 = 1 << 32;
/// Bytes at the window's upper end, and beyond it, that stay unmapped: what a wide access or an unchecked stack touch
/// can run past the end.
pub const GUARD_BELOW_END: u64 = 0x1_0000;
/// Bytes past the window that are reserved and never mapped.
pub const GUARD_PAST_END: u64 = 0x10_0000;

/// Where guest mappings may lie.
pub fn guest_range() -> GuestRange {
    GuestRange::from_bounds(GuestAddr(WINDOW_START), GuestAddr(WINDOW_END - GUARD_BELOW_END))
        .expect("the constants are in order")
}

/// Reserves the window and its upper guard. Fails where something is mapped there already.
pub fn reserve() -> Result<(), BackendError> {
    let length = WINDOW_END + GUARD_PAST_END - WINDOW_START;
    map(Some(WINDOW_START), length, libc::PROT_NONE, libc::MAP_FIXED_NOREPLACE).map(drop).map_err(|source| {
        BackendError::Host { what: "cannot reserve the low 4 GiB of address space for the guest", source }
    })
}

/// Gives the window back.
pub fn release() {
    let length = (WINDOW_END + GUARD_PAST_END - WINDOW_START) as usize;
    // SAFETY: the range was reserved by `reserve`, and the guest whose memory it was is gone.
    unsafe { libc::munmap(WINDOW_START as *mut _, length) };
}

/// Private anonymous memory, not counted against overcommit until it is touched.
pub fn map(at: Option<u64>, length: u64, protection: i32, flags: i32) -> io::Result<u64> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: never replaces a mapping: without an address the kernel chooses, with one the flags say NOREPLACE.
    let address = unsafe { libc::mmap(at.unwrap_or(0) as *mut _, length as usize, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if at.is_some_and(|at| at != address as u64) {
        // A kernel older than MAP_FIXED_NOREPLACE takes the address as a hint.
        // SAFETY: the mapping was made above.
        unsafe { libc::munmap(address, length as usize) };
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(address as u64)
}

/// Anonymous memory that forked children share, all zero.
pub fn map_shared(length: usize) -> io::Result<u64> {
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: never replaces a mapping: the kernel chooses the address.
    let address = unsafe { libc::mmap(core::ptr::null_mut(), length, rights, kind, -1, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as u64) }
}

/// A file to be read, privately. Where it becomes shorter, reading faults.
pub fn map_file(file: &std::fs::File, length: usize) -> io::Result<u64> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(file);
    // SAFETY: never replaces a mapping: the kernel chooses the address.
    let address =
        unsafe { libc::mmap(core::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as u64) }
}

/// Changes the host protection of guest pages.
pub fn protect(start: u64, length: u64, protection: i32) -> io::Result<()> {
    debug_assert!(start >= WINDOW_START && start + length <= WINDOW_END, "only guest pages are reprotected");
    // SAFETY: the range lies in the window, which holds no memory of the monitor's.
    match unsafe { libc::mprotect(start as *mut _, length as usize, protection) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Points this thread's GS at the dispatch table.
pub fn set_gs_base(base: u64) -> io::Result<()> {
    const ARCH_SET_GS: i64 = 0x1001;
    // SAFETY: nothing in the host uses GS (x86-64 psABI, 3.4.6: it belongs to applications, and Rust and glibc use FS).
    match unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A large array, all zero, that takes memory only where it has been written.
#[derive(Debug)]
pub struct LazyArray<T: Zeroable> {
    base: *mut T,
    length: usize,
}

/// Types whose all-zero bytes are a value, and which need no dropping.
///
/// # Safety
///
/// Both are so.
pub unsafe trait Zeroable: Copy {}

// SAFETY: integers.
unsafe impl Zeroable for u64 {}
// SAFETY: an array of integers.
unsafe impl Zeroable for [u64; 4] {}

// SAFETY: the array owns its memory, as a vector would.
unsafe impl<T: Zeroable + Send> Send for LazyArray<T> {}
// SAFETY: shared references to it give shared references to `T` only.
unsafe impl<T: Zeroable + Sync> Sync for LazyArray<T> {}

impl<T: Zeroable> LazyArray<T> {
    /// `length` zeros.
    pub fn new(length: usize) -> io::Result<Self> {
        let base = map(None, (length * size_of::<T>()) as u64, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        Ok(LazyArray { base: base as *mut T, length })
    }

    /// Makes everything zero again and gives the memory back.
    pub fn clear(&mut self) {
        // SAFETY: private anonymous memory of ours, uniquely borrowed; it reads as zero afterwards.
        unsafe { libc::madvise(self.base.cast(), self.length * size_of::<T>(), libc::MADV_DONTNEED) };
    }
}

impl<T: Zeroable> core::ops::Deref for LazyArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `length` values, zero is one (`Zeroable`), and it lives as long as `self`.
        unsafe { core::slice::from_raw_parts(self.base, self.length) }
    }
}

impl<T: Zeroable> core::ops::DerefMut for LazyArray<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is unique.
        unsafe { core::slice::from_raw_parts_mut(self.base, self.length) }
    }
}

impl<T: Zeroable> Drop for LazyArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        unsafe { libc::munmap(self.base.cast(), self.length * size_of::<T>()) };
    }
}

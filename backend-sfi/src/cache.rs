//! The code cache: one memory object mapped twice, once to run and once to write.
//!
//! ```text
//!   offset 0       trampolines to the gates: jmp [rip + address], one each 16 bytes
//!   offset 4096    fragments, in the order of their translation
//! ```
//!
//! The running mapping is never writable and the written one never executable. After a fork the child gets an object of
//! its own before it runs or writes anything ([`CodeCache::copy_for_child`]).

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use endo_core::BackendError;

use crate::gate;

/// Default size in bytes. Address space, not memory: pages are used as code is translated.
pub const DEFAULT_BYTES: usize = 256 << 20;
/// Smallest size that holds a few of the largest fragments.
pub const MINIMUM_BYTES: usize = 1 << 20;
const HEADER: u32 = 4096;

/// A gate that emitted code may jump to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Gate {
    /// An unlinked direct branch.
    Link = 0,
    /// An instruction that the runtime emulates.
    Special = 1,
    /// A system call.
    Syscall = 2,
    /// An indirect branch without an entry.
    Miss = 3,
}

/// The cache.
#[derive(Debug)]
pub struct CodeCache {
    run: u64,
    write: u64,
    bytes: usize,
    used: u32,
    copy: Option<OwnedFd>,
}

impl CodeCache {
    /// A cache of `bytes` bytes, empty but for the gates' trampolines.
    pub fn new(bytes: usize) -> Result<Self, BackendError> {
        let bytes = bytes.clamp(MINIMUM_BYTES, 1 << 30).next_multiple_of(4096);
        let fail = |source| BackendError::Host { what: "cannot create the code cache", source };
        let object = memory_object(bytes).map_err(fail)?;
        let write = map_shared(&object, None, bytes, libc::PROT_READ | libc::PROT_WRITE).map_err(fail)?;
        let run = map_shared(&object, None, bytes, libc::PROT_READ | libc::PROT_EXEC).map_err(fail)?;
        let mut cache = CodeCache { run, write, bytes, used: HEADER, copy: None };
        for (index, target) in gate::entry_points().into_iter().enumerate() {
            let mut trampoline = [0u8; 16];
            trampoline[..6].copy_from_slice(&[0xff, 0x25, 2, 0, 0, 0]); // jmp qword ptr [rip + 2]
            trampoline[8..].copy_from_slice(&target.to_le_bytes());
            cache.write(index as u32 * 16, &trampoline);
        }
        Ok(cache)
    }

    /// The addresses at which code runs.
    pub fn range(&self) -> Range<u64> {
        self.run..self.run + self.bytes as u64
    }

    /// The addresses at which fragments can ever run.
    pub fn fragment_space(&self) -> Range<u64> {
        self.run + u64::from(HEADER)..self.run + self.bytes as u64
    }

    /// The bytes of code at some running addresses.
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        assert!(self.fragments().start <= range.start && range.end <= self.fragments().end, "fragments only");
        let start = self.write + (range.start - self.run);
        // SAFETY: inside the written mapping, which only `&mut self` methods change.
        unsafe { core::slice::from_raw_parts(start as *const u8, (range.end - range.start) as usize) }
    }

    /// The addresses of fragments: the range without the trampolines.
    pub fn fragments(&self) -> Range<u64> {
        self.run + u64::from(HEADER)..self.run + u64::from(self.used)
    }

    /// Where a gate's trampoline runs.
    pub fn gate(&self, gate: Gate) -> u64 {
        self.run + gate as u64 * 16
    }

    /// Where the next fragment will run.
    pub fn next(&self) -> u64 {
        self.run + u64::from(self.used)
    }

    /// Bytes that are still free.
    pub fn free(&self) -> usize {
        self.bytes - self.used as usize
    }

    /// Bytes of fragments.
    pub fn used(&self) -> usize {
        (self.used - HEADER) as usize
    }

    /// Stores a verified fragment at [`CodeCache::next`].
    pub fn append(&mut self, code: &[u8]) {
        assert!(code.len() <= self.free(), "the caller makes room first");
        self.write(self.used, code);
        self.used += code.len() as u32;
    }

    /// Redirects the rel32 field at `site` to `target`, both running addresses in the cache. Threads may be running it: the
    /// field lies within eight aligned bytes, and one store changes it.
    pub fn patch(&mut self, site: u64, target: u64) {
        assert!(
            self.fragments().contains(&site) && self.range().contains(&target),
            "links stay in the cache"
        );
        assert!(site % 8 <= 4, "a link that is not aligned cannot be patched under others' feet");
        let displacement = (target as i64 - (site as i64 + 4)) as i32;
        let field = (self.write + (site - self.run)) as *mut i32;
        // SAFETY: inside the written mapping, as asserted, and no reference to it exists.
        unsafe {
            core::arch::asm!("mov dword ptr [{}], {:e}", in(reg) field, in(reg) displacement, options(nostack, preserves_flags));
        }
    }

    /// Drops all fragments. No thread runs one, and nothing leads to one.
    pub fn clear(&mut self) {
        self.used = HEADER;
    }

    /// Copies the memory object for a child that is about to be forked. It has to be done before: afterwards the parent may
    /// write into the object that the child still shares.
    pub fn copy_for_child(&mut self) -> io::Result<()> {
        let object = memory_object(self.bytes)?;
        let mut copied = 0;
        while copied < self.used as usize {
            let from = (self.write as usize + copied) as *const libc::c_void;
            let length = self.used as usize - copied;
            // SAFETY: the written mapping has `used` bytes; the kernel only reads them.
            let count = unsafe { libc::pwrite(object.as_raw_fd(), from, length, copied as i64) };
            if count <= 0 {
                return Err(io::Error::last_os_error());
            }
            copied += count as usize;
        }
        self.copy = Some(object);
        Ok(())
    }

    /// Forgets the copy: in the parent, once it has forked.
    pub fn drop_copy(&mut self) {
        self.copy = None;
    }

    /// Puts the copy in the place of the object that is shared with the parent: in the child, before it runs guest code.
    pub fn adopt_copy(&mut self) -> io::Result<()> {
        let object = self.copy.take().ok_or_else(|| io::Error::other("no copy was made before the fork"))?;
        map_shared(&object, Some(self.write), self.bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        map_shared(&object, Some(self.run), self.bytes, libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) {
        assert!(offset as usize + bytes.len() <= self.bytes, "inside the cache");
        // SAFETY: the written mapping has `self.bytes` bytes, of which this is a part, and no reference to it exists.
        unsafe {
            core::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (self.write + u64::from(offset)) as *mut u8,
                bytes.len(),
            );
        }
    }
}

impl Drop for CodeCache {
    fn drop(&mut self) {
        for address in [self.run, self.write] {
            // SAFETY: the mapping is ours, and no guest thread runs while the backend is being dropped.
            unsafe { libc::munmap(address as *mut _, self.bytes) };
        }
    }
}

fn memory_object(bytes: usize) -> io::Result<OwnedFd> {
    // SAFETY: a constant name; the descriptor is closed over exec, and by us as soon as it is mapped.
    let fd = unsafe { libc::memfd_create(c"endo-code".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let object = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no memory involved.
    match unsafe { libc::ftruncate(object.as_raw_fd(), bytes as i64) } {
        0 => Ok(object),
        _ => Err(io::Error::last_os_error()),
    }
}

fn map_shared(object: &OwnedFd, at: Option<u64>, bytes: usize, protection: i32) -> io::Result<u64> {
    let flags = libc::MAP_SHARED | if at.is_some() { libc::MAP_FIXED } else { 0 };
    // SAFETY: with an address, it replaces a mapping of the cache by one of the same size and contents.
    let address =
        unsafe { libc::mmap(at.unwrap_or(0) as *mut _, bytes, protection, flags, object.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as u64) }
}

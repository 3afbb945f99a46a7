//! The code cache: the same memory mapped twice, once to run and once to write.
//!
//! ```text
//!   offset 0       trampolines to the gates: jmp [rip + address], one each 16 bytes
//!   offset 4096    fragments, in the order of their translation
//! ```
//!
//! The running mapping is never writable and the written one never executable; no descriptor leads to the memory. After a
//! fork parent and child share it: each copies a chunk before its first store there ([`CodeCache::share`]).

use std::io;
use std::ops::Range;

use endo_core::BackendError;

use crate::gate;
use crate::translate::emit::ALIGNMENT;

/// Default size in bytes. Address space, not memory: pages are used as code is translated.
pub const DEFAULT_BYTES: usize = 256 << 20;
/// Smallest size that holds a few of the largest fragments.
pub const MINIMUM_BYTES: usize = 1 << 20;
const HEADER: u32 = 4096;
/// Bytes from one trampoline to the next.
const TRAMPOLINE: u32 = 16;
/// Bytes that are copied in one go when a process stores into memory that another may share.
const CHUNK: usize = 64 << 10;

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
    /// An indirect branch without an entry. Four bytes before it is what a predicted return without one jumps to.
    Miss = 4,
    /// A predicted return without an entry.
    ReturnMiss = 5,
}

/// The cache.
#[derive(Debug)]
pub struct CodeCache {
    run: u64,
    write: u64,
    bytes: usize,
    used: u32,
    /// For each chunk the value of `forks` when its memory became this process's alone.
    own: Vec<u32>,
    /// How often this memory has been shared with another process. To count is less than to mark all chunks.
    forks: u32,
}

impl CodeCache {
    /// A cache of `bytes` bytes, empty but for the gates' trampolines.
    pub fn new(bytes: usize) -> Result<Self, BackendError> {
        let bytes = bytes.clamp(MINIMUM_BYTES, 1 << 30).next_multiple_of(CHUNK);
        let fail = |source| BackendError::Host { what: "cannot create the code cache", source };
        let [write, run] = map_twice(bytes).map_err(fail)?;
        let mut cache = CodeCache { run, write, bytes, used: HEADER, own: vec![0; bytes / CHUNK], forks: 0 };
        for (gate, target) in gate::entry_points() {
            let mut trampoline = [0u8; 16];
            trampoline[..6].copy_from_slice(&[0xff, 0x25, 2, 0, 0, 0]); // jmp qword ptr [rip + 2]
            trampoline[8..].copy_from_slice(&target.to_le_bytes());
            cache.write(gate as u32 * TRAMPOLINE, &trampoline);
        }
        // jmp short to the trampoline after the next, and two bytes to spare.
        cache.write(Gate::Miss as u32 * TRAMPOLINE - 4, &[0xeb, TRAMPOLINE as u8 + 2, 0x90, 0x90]);
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
        self.run + u64::from(gate as u32 * TRAMPOLINE)
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

    /// Moves [`CodeCache::next`] up to an address that is `remainder` modulo [`ALIGNMENT`].
    pub fn align(&mut self, remainder: u16) {
        let ahead = (u32::from(remainder).wrapping_sub(self.next() as u32)) % ALIGNMENT;
        self.used += ahead;
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
        let offset = (site - self.run) as usize;
        self.own(offset..offset + 4);
        let field = (self.write + offset as u64) as *mut i32;
        // SAFETY: inside the written mapping, as asserted, which is this process's alone here, and no reference to it exists.
        unsafe {
            core::arch::asm!("mov dword ptr [{}], {:e}", in(reg) field, in(reg) displacement, options(nostack, preserves_flags));
        }
    }

    /// Drops all fragments. No thread runs one, and nothing leads to one.
    pub fn clear(&mut self) {
        self.used = HEADER;
    }

    /// From now on another process has this memory too: called before a fork. Most children end or exec soon, having added
    /// little, and most parents have translated by then what they do between two forks.
    pub fn share(&mut self) {
        self.forks += 1;
    }

    /// Makes some bytes this process's alone, and with them what else their chunks hold. Threads may be running there.
    fn own(&mut self, range: Range<usize>) {
        for chunk in range.start / CHUNK..=(range.end - 1) / CHUNK {
            if self.own[chunk] != self.forks {
                self.copy_chunk(chunk)
                    .unwrap_or_else(|error| panic!("no memory for translated code: {error}"));
                self.own[chunk] = self.forks;
            }
        }
    }

    fn copy_chunk(&self, chunk: usize) -> io::Result<()> {
        let copy = map_twice(CHUNK)?;
        let offset = (chunk * CHUNK) as u64;
        let used = (self.used as usize).saturating_sub(chunk * CHUNK).min(CHUNK);
        // SAFETY: advice only; where the kernel does not know it, the copying faults the pages in one by one.
        unsafe { libc::madvise(copy[0] as *mut _, used, libc::MADV_POPULATE_WRITE) };
        // SAFETY: `used` bytes of the chunk, and as many of the copy, to which nothing else leads.
        unsafe {
            core::ptr::copy_nonoverlapping((self.write + offset) as *const u8, copy[0] as *mut u8, used);
        }
        for (from, to) in copy.into_iter().zip([self.write + offset, self.run + offset]) {
            let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            // SAFETY: it replaces a chunk of the cache by the same bytes, at once: a thread that runs there goes on in the copy.
            let moved = unsafe { libc::mremap(from as *mut _, CHUNK, CHUNK, how, to as *mut libc::c_void) };
            if moved == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) {
        assert!(offset as usize + bytes.len() <= self.bytes, "inside the cache");
        if bytes.is_empty() {
            return;
        }
        self.own(offset as usize..offset as usize + bytes.len());
        // SAFETY: the written mapping has `self.bytes` bytes, of which this is a part that no other process has, and no
        // reference to it exists.
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

/// New memory, mapped once to be written and once to be run.
fn map_twice(bytes: usize) -> io::Result<[u64; 2]> {
    let (rights, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping, where nothing is.
    let write = unsafe { libc::mmap(core::ptr::null_mut(), bytes, rights, kind, -1, 0) };
    if write == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an old size of 0 asks for a second mapping of the same shared memory (mremap(2)), where nothing is.
    let run = unsafe { libc::mremap(write, 0, bytes, libc::MREMAP_MAYMOVE) };
    if run == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nothing leads to the second mapping yet.
    match unsafe { libc::mprotect(run, bytes, libc::PROT_READ | libc::PROT_EXEC) } {
        0 => Ok([write as u64, run as u64]),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_child_do_not_see_what_the_other_stores_after_a_fork() {
        let mut cache = CodeCache::new(MINIMUM_BYTES).unwrap();
        cache.append(&[1; CHUNK]);
        let start = cache.fragments().start;
        cache.share();
        // SAFETY: the child makes no call that a fork of a process with threads does not allow but the kernel's own.
        let child = unsafe { libc::fork() };
        if child == 0 {
            cache.append(&[2; 8]);
            let is_right = cache.bytes(cache.next() - 8..cache.next()) == [2; 8]
                && run_bytes(&cache, start, 4) == [1; 4];
            // SAFETY: no precondition.
            unsafe { libc::_exit(i32::from(!is_right)) };
        }
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child has what was there before, and its own");
        cache.append(&[3; 8]);
        let end = cache.next();
        assert_eq!(run_bytes(&cache, end - 8, 8), [3; 8], "both mappings were replaced");
        assert_eq!(run_bytes(&cache, start + CHUNK as u64 - 4, 4), [1; 4]);
    }

    fn run_bytes(cache: &CodeCache, at: u64, length: usize) -> &[u8] {
        assert!(cache.fragments().contains(&at));
        // SAFETY: inside the running mapping, which is readable.
        unsafe { core::slice::from_raw_parts(at as *const u8, length) }
    }
}

//! The dispatch table T: for every guest byte, where in the code cache an indirect branch to it goes.
//!
//! Eight bytes an entry, 32 GiB of address space, touched where guest code is translated only. Emitted code indexes it
//! with a 32-bit guest address through GS, so every index is inside and no check is needed. An entry is the miss gate
//! until a verified indirect entry is published for its address; memory that was never touched reads 0, and a jump to 0
//! faults with the target still in r11, which the runtime treats as a miss.

use std::io;

use endo_core::BackendError;

use crate::window::{self, LazyArray};

const ENTRIES: u64 = 1 << 32;
const BYTES: u64 = ENTRIES * 8;
/// Guest bytes whose entries are filled in one go: one page of table. To get a page costs the kernel more than a
/// microsecond and each fork copies its page table entry, so untouched neighbours are left alone; that an indirect branch
/// comes to them first, and faults, is rarer.
const CHUNK: u64 = 512;

/// The table.
#[derive(Debug)]
pub struct DispatchTable {
    base: u64,
    miss: u64,
    /// One bit a chunk: its entries have been filled.
    filled: LazyArray<u64>,
}

impl DispatchTable {
    /// Reserves the table. `miss` is where an indirect branch to untranslated code goes.
    pub fn new(miss: u64) -> Result<Self, BackendError> {
        let fail = |source: io::Error| BackendError::Host {
            what: "cannot reserve 32 GiB of address space for the dispatch table",
            source,
        };
        let filled = LazyArray::new((ENTRIES / CHUNK / 64) as usize).map_err(fail)?;
        let base = window::map(None, BYTES, libc::PROT_READ | libc::PROT_WRITE, 0).map_err(fail)?;
        // SAFETY: advice about memory that was just mapped. A huge page here would cost 2 MiB for 256 KiB of guest code.
        unsafe { libc::madvise(base as *mut _, BYTES as usize, libc::MADV_NOHUGEPAGE) };
        Ok(DispatchTable { base, miss, filled })
    }

    /// What GS holds while the guest runs.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Makes entries of the chunk around a guest address lead to the miss gate, unless they have been filled before.
    fn prepare(&mut self, guest: u32) {
        let chunk = u64::from(guest) / CHUNK;
        let (word, bit) = ((chunk / 64) as usize, 1 << (chunk % 64));
        if self.filled[word] & bit != 0 {
            return;
        }
        self.filled[word] |= bit;
        let start = (self.base + chunk * CHUNK * 8) as *mut u64;
        // SAFETY: the chunk lies in the table, and `&mut self` makes this the only access to it from the host; the guest's
        // threads only read it, and not these entries before code near them has been translated.
        let entries = unsafe { core::slice::from_raw_parts_mut(start, CHUNK as usize) };
        entries.fill(self.miss);
    }

    /// Where an indirect branch to this address goes now, if it has an entry.
    pub fn get(&self, guest: u32) -> Option<u64> {
        let chunk = u64::from(guest) / CHUNK;
        if self.filled[(chunk / 64) as usize] & (1 << (chunk % 64)) == 0 {
            return None;
        }
        // SAFETY: as in `prepare`; the chunk has been filled.
        let entry = unsafe { self.slot(guest).read_volatile() };
        (entry != self.miss).then_some(entry)
    }

    /// Sends indirect branches to a guest address into the cache. The caller has had the target verified.
    pub fn publish(&mut self, guest: u32, target: u64) {
        self.prepare(guest);
        // SAFETY: as in `prepare`. One aligned store: a thread in emitted code sees the old or the new entry.
        unsafe { self.slot(guest).write_volatile(target) };
    }

    /// Sends indirect branches to a guest address to the miss gate again.
    pub fn withdraw(&mut self, guest: u32) {
        if self.get(guest).is_some() {
            // SAFETY: as in `publish`.
            unsafe { self.slot(guest).write_volatile(self.miss) };
        }
    }

    /// Forgets every entry.
    pub fn clear(&mut self) {
        // SAFETY: the table is private anonymous memory of ours: it reads as zero afterwards, which is a miss.
        unsafe { libc::madvise(self.base as *mut _, BYTES as usize, libc::MADV_DONTNEED) };
        self.filled.clear();
    }

    fn slot(&self, guest: u32) -> *mut u64 {
        (self.base + u64::from(guest) * 8) as *mut u64
    }
}

impl Drop for DispatchTable {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no guest thread runs while the backend is being dropped.
        unsafe { libc::munmap(self.base as *mut _, BYTES as usize) };
    }
}

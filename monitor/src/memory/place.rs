//! Where a mapping goes.
//!
//! Below 2 GiB first, from the top down, so that pointers and 32-bit displacements stay small; then from the window's
//! end down. What is large goes to the window's end at once: between small mappings there would soon be no room for it.
//! The first 64 KiB of the address space and the last 64 KiB of the window stay empty: an access that starts
//! inside the window and runs over either end hits nothing.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, PAGE_SIZE};

use super::MemoryMap;
use crate::errno::Errno;

/// Lowest address that may be mapped, in bytes (the kernel's `vm.mmap_min_addr` as distributions set it).
pub const MIN_ADDRESS: u64 = 64 << 10;
/// Bytes at the end of the window that are never mapped.
pub const END_GUARD: u64 = 64 << 10;
/// Where the low half of placements ends.
pub const LOW_END: u64 = 2 << 30;

/// From this many bytes on a mapping is large: heaps of managed runtimes, and what they reserve for the code they make.
/// V8 reserves 512 MiB for each of its isolates; the Java VM 240 MiB, before it wants half of the window in one piece.
pub const LARGE: u64 = 256 << 20;

/// Where user addresses end on every platform Endo runs on (x86-64 `TASK_SIZE_MAX`), beyond which ranges are nonsense.
pub const ADDRESS_END: u64 = (1 << 47) - PAGE_SIZE;

/// Where the guest, or the loader, wants a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Anywhere.
    Anywhere,
    /// Anywhere below 2 GiB (`MAP_32BIT`).
    Low,
    /// There if it is free, else anywhere.
    Hint(GuestAddr),
    /// Exactly there, over whatever is there (`MAP_FIXED`).
    Fixed(GuestAddr),
    /// Exactly there, if it is free (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(GuestAddr),
}

/// The part of a window that may be mapped.
pub(super) fn usable_part(window: GuestRange) -> GuestRange {
    let start = window.start().0.max(MIN_ADDRESS);
    let end = window.end().0 & !(PAGE_SIZE - 1);
    GuestRange::from_bounds(GuestAddr(start), GuestAddr(end.saturating_sub(END_GUARD).max(start)))
        .expect("the bounds are in order")
}

impl MemoryMap {
    /// The range that a mapping of `length` bytes (whole pages, not 0) gets, as mm/mmap.c `get_unmapped_area` and
    /// `do_mmap` choose and refuse.
    pub fn choose(&self, placement: Placement, length: u64) -> Result<GuestRange, Errno> {
        match placement {
            Placement::Anywhere => self.highest_gap(length),
            Placement::Low => self.low_gap(length).ok_or(Errno::ENOMEM),
            Placement::Hint(addr) => self.at_hint(addr, length).map_or_else(|| self.highest_gap(length), Ok),
            Placement::Fixed(addr) => self.exactly(addr, length),
            Placement::FixedNoReplace(addr) => {
                let range = self.exactly(addr, length)?;
                if self.mappings.is_free(range) { Ok(range) } else { Err(Errno::EEXIST) }
            }
        }
    }

    fn exactly(&self, addr: GuestAddr, length: u64) -> Result<GuestRange, Errno> {
        if !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let range = GuestRange::new(addr, length).ok_or(Errno::ENOMEM)?;
        if addr.0 < MIN_ADDRESS {
            return Err(Errno::EPERM);
        }
        if self.usable.encloses(range) { Ok(range) } else { Err(Errno::ENOMEM) }
    }

    fn at_hint(&self, addr: GuestAddr, length: u64) -> Option<GuestRange> {
        let rounded = addr.checked_add(PAGE_SIZE - 1)?.page_start().max(GuestAddr(MIN_ADDRESS));
        let range = GuestRange::new(rounded, length)?;
        let is_usable = self.usable.encloses(range) && self.mappings.is_free_for_placement(range);
        (is_usable && addr.0 != 0).then_some(range)
    }

    fn highest_gap(&self, length: u64) -> Result<GuestRange, Errno> {
        let low = if length < LARGE { self.low_gap(length) } else { None };
        low.or_else(|| self.mappings.highest_gap(self.usable, length)).ok_or(Errno::ENOMEM)
    }

    fn low_gap(&self, length: u64) -> Option<GuestRange> {
        let low = GuestRange::new(GuestAddr(0), LOW_END)?.intersect(self.usable)?;
        self.mappings.highest_gap(low, length)
    }
}

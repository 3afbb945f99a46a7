//! Where guests live.

use endo_core::{GuestAddr, GuestRange, PAGE_SIZE};

/// Above what Linux lets nobody map.
pub(super) const START: u64 = 0x1_0000;
/// Below where Linux puts a position-independent host and its libraries, also where mappings grow upwards (a third of the address
/// space, `mmap_base` in arch/x86/mm/mmap.c of Linux).
pub(super) const END: u64 = 0x2000_0000_0000;

/// All of it.
pub(super) fn range() -> GuestRange {
    GuestRange::from_bounds(GuestAddr(START), GuestAddr(END)).expect("the bounds are in order")
}

/// The page size must divide the window, and the filter compares upper halves.
const _: () = assert!(START.is_multiple_of(PAGE_SIZE) && END.is_multiple_of(1 << 32));

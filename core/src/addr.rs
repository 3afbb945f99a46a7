//! Addresses and ranges: what the guest names, and where the host finds it.

use core::fmt;

/// The page size of every platform Endo runs on (x86-64, and aarch64 with 4-KiB granules), in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// An address as the guest names it. Until it has been checked it is an allegation, not a fact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GuestAddr(pub u64);

/// An address in the host process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HostAddr(pub usize);

impl GuestAddr {
    /// This address `bytes` further on, or `None` past the end of the 64-bit space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(GuestAddr)
    }

    /// The start of the page that holds this address.
    pub const fn page_start(self) -> Self {
        GuestAddr(self.0 & !(PAGE_SIZE - 1))
    }

    /// Whether this is the first byte of a page.
    pub const fn is_page_aligned(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }
}

impl HostAddr {
    /// This address as a pointer; dereferencing it is the caller's risk.
    pub const fn as_ptr<T>(self) -> *mut T {
        self.0 as *mut T
    }
}

/// `length` bytes of guest addresses from `start`, never wrapping past 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestRange {
    start: GuestAddr,
    length: u64,
}

impl GuestRange {
    /// The range of `length` bytes at `start`, or `None` if it would wrap.
    pub fn new(start: GuestAddr, length: u64) -> Option<Self> {
        start.0.checked_add(length)?;
        Some(GuestRange { start, length })
    }

    /// The range [`start`, `end`), or `None` if `end` lies before `start`.
    pub fn from_bounds(start: GuestAddr, end: GuestAddr) -> Option<Self> {
        Some(GuestRange { start, length: end.0.checked_sub(start.0)? })
    }

    /// First address.
    pub const fn start(self) -> GuestAddr {
        self.start
    }

    /// First address past the range.
    pub const fn end(self) -> GuestAddr {
        GuestAddr(self.start.0 + self.length)
    }

    /// Bytes in the range.
    pub const fn len(self) -> u64 {
        self.length
    }

    /// Whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Whether `addr` lies in the range.
    pub const fn contains(self, addr: GuestAddr) -> bool {
        addr.0 >= self.start.0 && addr.0 - self.start.0 < self.length
    }

    /// Whether all of `other` lies in the range. An empty range lies wherever its start may.
    pub const fn encloses(self, other: GuestRange) -> bool {
        other.start.0 >= self.start.0 && other.end().0 <= self.end().0
    }

    /// Whether the two share a byte.
    pub const fn overlaps(self, other: GuestRange) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0 && self.length > 0 && other.length > 0
    }

    /// The bytes both have, if any.
    pub fn intersect(self, other: GuestRange) -> Option<GuestRange> {
        if !self.overlaps(other) {
            return None;
        }
        GuestRange::from_bounds(self.start.max(other.start), self.end().min(other.end()))
    }

    /// The smallest range of whole pages around this one, or `None` past the end of the 64-bit space.
    pub fn page_aligned(self) -> Option<GuestRange> {
        let end = self.end().0.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1);
        GuestRange::from_bounds(self.start.page_start(), GuestAddr(end))
    }
}

/// `length` bytes of the host's address space from `start`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRange {
    /// First address.
    pub start: HostAddr,
    /// Bytes.
    pub length: usize,
}

impl fmt::Debug for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {:#x}", self.0)
    }
}

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {:#x}", self.0)
    }
}

impl fmt::Debug for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {:#x}..{:#x}", self.start.0, self.end().0)
    }
}

impl fmt::Display for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start.0, self.end().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, length: u64) -> GuestRange {
        GuestRange::new(GuestAddr(start), length).unwrap()
    }

    #[test]
    fn a_range_that_wraps_does_not_exist() {
        assert_eq!(GuestRange::new(GuestAddr(u64::MAX), 2), None);
        assert_eq!(GuestRange::new(GuestAddr(u64::MAX - 3), 3).unwrap().end(), GuestAddr(u64::MAX));
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        assert!(!range(0x1000, 0x1000).overlaps(range(0x2000, 0x1000)));
        assert!(range(0x1000, 0x1001).overlaps(range(0x2000, 0x1000)));
        assert!(!range(0x1000, 0x1000).overlaps(range(0x1800, 0)));
    }

    #[test]
    fn intersection_is_what_both_hold() {
        assert_eq!(range(0x1000, 0x2000).intersect(range(0x2000, 0x4000)), Some(range(0x2000, 0x1000)));
        assert_eq!(range(0x1000, 0x1000).intersect(range(0x2000, 0x1000)), None);
    }

    #[test]
    fn pages_around_a_range_cover_it() {
        assert_eq!(range(0x1ff0, 0x20).page_aligned(), Some(range(0x1000, 0x2000)));
        assert_eq!(range(u64::MAX - 8, 4).page_aligned(), None);
    }
}

//! What the backend knows of guest pages: their rights, which may run, and which are watched for stores.

use std::collections::BTreeMap;
use std::io;

use endo_core::{CodeSource, GuestAddr, GuestRange, PAGE_SIZE, Rights, WatchedHull};

use crate::window::LazyArray;

/// Values by range of guest addresses; ranges never overlap.
#[derive(Clone, Debug)]
pub struct RangeMap<V> {
    ranges: BTreeMap<u64, (u64, V)>,
}

impl<V: Copy> Default for RangeMap<V> {
    fn default() -> Self {
        RangeMap { ranges: BTreeMap::new() }
    }
}

impl<V: Copy + PartialEq> RangeMap<V> {
    /// Removes whatever the range holds.
    pub fn remove(&mut self, range: GuestRange) {
        let (start, end) = (range.start().0, range.end().0);
        let overlapping: Vec<(u64, u64, V)> = self
            .ranges
            .range(..end)
            .rev()
            .take_while(|&(_, &(other_end, _))| other_end > start)
            .map(|(&other_start, &(other_end, value))| (other_start, other_end, value))
            .collect();
        for (other_start, other_end, value) in overlapping {
            self.ranges.remove(&other_start);
            if other_start < start {
                self.ranges.insert(other_start, (start, value));
            }
            if other_end > end {
                self.ranges.insert(end, (other_end, value));
            }
        }
    }

    /// Gives the whole range one value. It becomes one with neighbours that have the same: instructions may lie across
    /// the border.
    pub fn set(&mut self, range: GuestRange, value: V) {
        if range.is_empty() {
            return;
        }
        self.remove(range);
        let (mut start, mut end) = (range.start().0, range.end().0);
        if let Some((&before, &(its_end, its_value))) = self.ranges.range(..start).next_back()
            && (its_end, its_value) == (start, value)
        {
            start = before;
        }
        if let Some(&(its_end, its_value)) = self.ranges.get(&end)
            && its_value == value
        {
            self.ranges.remove(&end);
            end = its_end;
        }
        self.ranges.insert(start, (end, value));
    }

    /// The value at an address, and where its range ends.
    pub fn get(&self, address: u64) -> Option<(V, u64)> {
        let (_, &(end, value)) = self.ranges.range(..=address).next_back()?;
        (address < end).then_some((value, end))
    }
}

/// The backend's page tables.
#[derive(Debug)]
pub struct Pages {
    /// Rights as assigned.
    pub rights: RangeMap<Rights>,
    /// Admitted code.
    pub code: RangeMap<CodeSource>,
    /// One bit a page: writable by right, but write-protected because code was translated from it.
    watched: LazyArray<u64>,
    /// Who else has to know which pages are watched.
    hull: Option<&'static WatchedHull>,
}

impl Pages {
    /// No pages. What is watched is noted in `hull` too.
    pub fn new(hull: Option<&'static WatchedHull>) -> io::Result<Self> {
        let (rights, code) = (RangeMap::default(), RangeMap::default());
        Ok(Pages { rights, code, watched: LazyArray::new(1 << 14)?, hull })
    }

    /// Whether a page is watched.
    pub fn is_watched(&self, page: u32) -> bool {
        self.watched[(page / 64) as usize] & (1 << (page % 64)) != 0
    }

    /// Marks or unmarks a page as watched; the caller changes its protection afterwards.
    pub fn set_watched(&mut self, page: u32, watched: bool) {
        let range = GuestRange::new(GuestAddr(u64::from(page) * PAGE_SIZE), PAGE_SIZE);
        if let (true, Some(hull), Some(range)) = (watched, self.hull, range) {
            hull.include(range);
        }
        let word = &mut self.watched[(page / 64) as usize];
        if watched { *word |= 1 << (page % 64) } else { *word &= !(1 << (page % 64)) }
    }

    /// The watched pages among `first..=last`.
    pub fn watched_in(&self, first: u32, last: u32) -> Vec<u32> {
        (first / 64..=last / 64)
            .filter(|&word| self.watched[word as usize] != 0)
            .flat_map(|word| word * 64..word * 64 + 64)
            .filter(|&page| (first..=last).contains(&page) && self.is_watched(page))
            .collect()
    }

    /// Rights of a page's bytes.
    pub fn rights_at(&self, address: u64) -> Option<Rights> {
        self.rights.get(address).map(|(rights, _)| rights)
    }
}

/// The host protection of a guest page: never executable.
pub fn host_protection(rights: Rights) -> i32 {
    let mut protection = libc::PROT_NONE;
    if rights.intersects(Rights::READ | Rights::EXECUTE) {
        protection |= libc::PROT_READ;
    }
    if rights.contains(Rights::WRITE) {
        protection |= libc::PROT_READ | libc::PROT_WRITE;
    }
    protection
}

#[cfg(test)]
mod tests {
    use endo_core::GuestAddr;

    use super::*;

    fn range(start: u64, end: u64) -> GuestRange {
        GuestRange::from_bounds(GuestAddr(start), GuestAddr(end)).unwrap()
    }

    #[test]
    fn removing_the_middle_leaves_both_ends() {
        let mut map = RangeMap::default();
        map.set(range(0x1000, 0x5000), 7);
        map.remove(range(0x2000, 0x3000));
        assert_eq!(map.get(0x1fff), Some((7, 0x2000)));
        assert_eq!(map.get(0x2000), None);
        assert_eq!(map.get(0x3000), Some((7, 0x5000)));
    }

    #[test]
    fn setting_replaces_what_it_covers() {
        let mut map = RangeMap::default();
        map.set(range(0x1000, 0x3000), 1);
        map.set(range(0x3000, 0x5000), 2);
        map.set(range(0x2000, 0x4000), 3);
        assert_eq!([0x1000, 0x2000, 0x4000].map(|at| map.get(at).unwrap().0), [1, 3, 2]);
    }

    #[test]
    fn neighbours_of_one_value_are_one_range() {
        let mut map = RangeMap::default();
        map.set(range(0x1000, 0x2000), 1);
        map.set(range(0x3000, 0x4000), 1);
        map.set(range(0x4000, 0x5000), 2);
        map.set(range(0x2000, 0x3000), 1);
        assert_eq!(map.get(0x1fff), Some((1, 0x4000)));
        assert_eq!(map.get(0x4000), Some((2, 0x5000)));
    }

    #[test]
    fn watched_pages_are_found_across_words() {
        let mut pages = Pages::new(None).unwrap();
        for page in [3, 63, 64, 130] {
            pages.set_watched(page, true);
        }
        assert_eq!(pages.watched_in(4, 129), [63, 64]);
    }
}

//! The mappings of one address space, in order and disjoint. Pure: nothing here touches the host.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Bound;

use endo_core::{GuestAddr, GuestRange};

use super::mapping::{Mapping, MappingFlags};

/// Below a mapping that grows downwards this much stays free, in bytes (mm/mmap.c, `stack_guard_gap`).
pub const STACK_GUARD_GAP: u64 = 256 << 12;

/// Disjoint mappings by address. Neighbours that continue each other are one.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    by_start: BTreeMap<GuestAddr, Mapping>,
}

impl Intervals {
    /// The mapping that holds `addr`.
    pub fn find(&self, addr: GuestAddr) -> Option<&Mapping> {
        let (_, mapping) = self.by_start.range(..=addr).next_back()?;
        mapping.range.contains(addr).then_some(mapping)
    }

    /// The first mapping that starts at `addr` or later.
    pub fn next_from(&self, addr: GuestAddr) -> Option<&Mapping> {
        self.by_start.range(addr..).next().map(|(_, mapping)| mapping)
    }

    /// The last mapping that starts before `addr`.
    pub fn last_before(&self, addr: GuestAddr) -> Option<&Mapping> {
        self.by_start.range(..addr).next_back().map(|(_, mapping)| mapping)
    }

    /// All mappings, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mapping> {
        self.by_start.values()
    }

    /// The parts of mappings that lie in `range`, lowest first.
    pub fn parts(&self, range: GuestRange) -> Vec<Mapping> {
        let from = self.find(range.start()).map_or(range.start(), Mapping::start);
        let candidates = self.by_start.range((Bound::Included(from), Bound::Excluded(range.end().max(from))));
        candidates.filter(|(_, m)| m.range.overlaps(range)).map(|(_, m)| m.part(range)).collect()
    }

    /// The parts in `range` up to the first hole, and whether there is a hole.
    pub fn contiguous_parts(&self, range: GuestRange) -> (Vec<Mapping>, bool) {
        let mut reached = range.start();
        let mut parts = self.parts(range);
        let unbroken = parts.iter().take_while(|part| {
            let adjoins = part.start() == reached;
            reached = part.end();
            adjoins
        });
        let count = unbroken.count();
        parts.truncate(count);
        let end = parts.last().map_or(range.start(), Mapping::end);
        (parts, end < range.end())
    }

    /// Whether every byte of `range` is mapped.
    pub fn covers(&self, range: GuestRange) -> bool {
        !self.contiguous_parts(range).1
    }

    /// Whether no byte of `range` is mapped.
    pub fn is_free(&self, range: GuestRange) -> bool {
        self.find(range.start()).is_none()
            && self.next_from(range.start()).is_none_or(|m| m.start() >= range.end())
    }

    /// Takes out whatever lies in `range`, splitting mappings at its ends, and returns the parts.
    pub fn remove(&mut self, range: GuestRange) -> Vec<Mapping> {
        let parts = self.parts(range);
        for part in &parts {
            let whole = *self.find(part.start()).expect("a part belongs to a mapping");
            self.by_start.remove(&whole.start());
            for rest in [(whole.start(), part.start()), (part.end(), whole.end())] {
                if rest.0 < rest.1 {
                    let range = GuestRange::from_bounds(rest.0, rest.1).expect("the bounds are in order");
                    self.by_start.insert(rest.0, whole.part(range));
                }
            }
        }
        parts
    }

    /// Adds a mapping where nothing is, joining it with neighbours that it continues.
    ///
    /// # Panics
    ///
    /// If something is mapped there.
    pub fn insert(&mut self, mut mapping: Mapping) {
        assert!(self.is_free(mapping.range), "{} is taken", mapping.range);
        if let Some(before) = self.last_before(mapping.start()).copied()
            && before.continues_into(&mapping)
        {
            self.by_start.remove(&before.start());
            mapping = join(&before, &mapping);
        }
        if let Some(after) = self.next_from(mapping.end()).copied()
            && mapping.continues_into(&after)
        {
            self.by_start.remove(&after.start());
            mapping = join(&mapping, &after);
        }
        self.by_start.insert(mapping.start(), mapping);
    }

    /// Changes every part that lies in `range`.
    pub fn update(&mut self, range: GuestRange, change: impl Fn(&mut Mapping)) {
        for mut part in self.remove(range) {
            change(&mut part);
            self.insert(part);
        }
    }

    /// The highest free `length` bytes inside `bounds`, leaving room below what grows downwards.
    pub fn highest_gap(&self, bounds: GuestRange, length: u64) -> Option<GuestRange> {
        let mut top = bounds.end();
        if let Some(across) = self.find(GuestAddr(top.0.checked_sub(1)?)) {
            top = guarded_start(across);
        } else if let Some(above) = self.next_from(top) {
            top = top.min(guarded_start(above));
        }
        for mapping in self.by_start.range(..top).rev().map(|(_, mapping)| mapping) {
            if fits(mapping.end().max(bounds.start()), top, length) {
                break;
            }
            top = guarded_start(mapping);
        }
        fits(bounds.start(), top, length).then(|| {
            GuestRange::new(GuestAddr(top.0 - length), length).expect("it ends below an address that exists")
        })
    }

    /// Whether `range` is free and leaves room below whatever grows downwards above it.
    pub fn is_free_for_placement(&self, range: GuestRange) -> bool {
        let room_above =
            self.next_from(range.start()).is_none_or(|above| guarded_start(above) >= range.end());
        self.is_free(range) && room_above
    }
}

fn join(first: &Mapping, second: &Mapping) -> Mapping {
    let range = GuestRange::from_bounds(first.start(), second.end()).expect("the second follows the first");
    Mapping { range, ..*first }
}

fn guarded_start(mapping: &Mapping) -> GuestAddr {
    let gap = if mapping.flags.contains(MappingFlags::GROWS_DOWN) { STACK_GUARD_GAP } else { 0 };
    GuestAddr(mapping.start().0.saturating_sub(gap))
}

fn fits(bottom: GuestAddr, top: GuestAddr, length: u64) -> bool {
    top.0.checked_sub(bottom.0).is_some_and(|room| room >= length)
}

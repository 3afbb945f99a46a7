//! What is known about each byte of the code cache.

use std::ops::Range;

use crate::window::LazyArray;

/// A fact about a byte of the cache.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum Mark {
    /// Part of a live fragment.
    Live,
    /// A clean instruction boundary.
    Boundary,
    /// A boundary that the dispatch table may name.
    IndirectEntry,
    /// The first byte of a rel32 that may be re-linked.
    LinkSite,
}

const MARKS: usize = 4;
const BITS: usize = u64::BITS as usize;

/// One bit per mark and byte. The marks of 64 bytes lie together, so a fragment touches few cache lines.
pub(super) struct Marks {
    /// Address of the first byte.
    start: u64,
    length: usize,
    /// Zeroed memory that the system supplies when it is touched: a large cache costs nothing up front.
    words: LazyArray<[u64; MARKS]>,
}

impl Marks {
    pub(super) fn new(cache: &Range<u64>) -> Marks {
        let length = usize::try_from(cache.end.saturating_sub(cache.start)).unwrap_or(0);
        let words = LazyArray::new(length.div_ceil(BITS)).expect("address space for the verifier's marks");
        Marks { start: cache.start, length, words }
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
    }

    /// The index of `address`, if it is in the cache.
    #[inline]
    pub(super) fn index(&self, address: u64) -> Option<usize> {
        let index = usize::try_from(address.checked_sub(self.start)?).ok()?;
        (index < self.length).then_some(index)
    }

    /// The indices of `length` bytes from `address`, if all are in the cache.
    pub(super) fn indices(&self, address: u64, length: usize) -> Option<Range<usize>> {
        let start = self.index(address)?;
        let end = start.checked_add(length)?;
        (end <= self.length).then_some(start..end)
    }

    #[inline]
    pub(super) fn has(&self, mark: Mark, address: u64) -> bool {
        self.index(address)
            .is_some_and(|index| self.words[index / BITS][mark as usize] >> (index % BITS) & 1 != 0)
    }

    pub(super) fn any(&self, mark: Mark, range: Range<usize>) -> bool {
        covering(range).any(|(word, mask)| self.words[word][mark as usize] & mask != 0)
    }

    pub(super) fn set(&mut self, mark: Mark, index: usize) {
        self.words[index / BITS][mark as usize] |= 1 << (index % BITS);
    }

    pub(super) fn set_all(&mut self, mark: Mark, range: Range<usize>) {
        for (word, mask) in covering(range) {
            self.words[word][mark as usize] |= mask;
        }
    }

    /// Adds `bits`, whose first word holds the byte at index `first`.
    pub(super) fn add(&mut self, mark: Mark, first: usize, bits: &[u64]) {
        for (word, bits) in self.words[first / BITS..].iter_mut().zip(bits) {
            word[mark as usize] |= bits;
        }
    }

    /// Forgets everything about the bytes in `range`.
    pub(super) fn forget(&mut self, range: Range<usize>) {
        for (word, mask) in covering(range) {
            for marks in &mut self.words[word] {
                *marks &= !mask;
            }
        }
    }

    /// The part of an address range that is in the cache, as indices.
    pub(super) fn clip(&self, range: &Range<u64>) -> Range<usize> {
        let clip = |address: u64| (address.saturating_sub(self.start)).min(self.length as u64) as usize;
        clip(range.start)..clip(range.end)
    }
}

/// The words that cover a range of bits, each with the mask of its bits inside.
fn covering(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let words = if range.is_empty() { 0..0 } else { range.start / BITS..range.end.div_ceil(BITS) };
    words.map(move |word| {
        let low = range.start.saturating_sub(word * BITS);
        let high = (range.end - word * BITS).min(BITS);
        (word, (u64::MAX >> (BITS - (high - low))) << low)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_set_and_forgotten_exactly() {
        let mut marks = Marks::new(&(0x1000..0x1400));
        marks.set_all(Mark::Live, 60..200);
        for index in 0..0x400 {
            assert_eq!(marks.has(Mark::Live, 0x1000 + index), (60..200).contains(&index), "{index}");
        }
        marks.forget(64..199);
        assert!(marks.has(Mark::Live, 0x1000 + 63) && marks.has(Mark::Live, 0x1000 + 199));
        assert!(!marks.any(Mark::Live, 64..199));
        assert!(marks.any(Mark::Live, 64..200));
    }

    #[test]
    fn nothing_outside_the_cache_has_a_mark() {
        let mut marks = Marks::new(&(0x1000..0x1040));
        marks.set_all(Mark::Boundary, 0..0x40);
        assert!(marks.has(Mark::Boundary, 0x103f));
        assert!(!marks.has(Mark::Boundary, 0xfff));
        assert!(!marks.has(Mark::Boundary, 0x1040));
        assert!(!marks.has(Mark::Boundary, 0));
    }

    #[test]
    fn indices_end_with_the_cache() {
        let marks = Marks::new(&(0x1000..0x1040));
        assert_eq!(marks.indices(0x1030, 16), Some(0x30..0x40));
        assert_eq!(marks.indices(0x1030, 17), None);
        assert_eq!(marks.clip(&(0..u64::MAX)), 0..0x40);
    }
}

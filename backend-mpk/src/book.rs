//! What is recorded of each guest page: pure books, by ranges of addresses.

use std::collections::BTreeMap;

use endo_core::{GuestAddr, GuestRange, Rights};

/// What is known of the pages of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What the domain may do there.
    pub rights: Rights,
    /// Whether code may run there.
    pub admission: Admission,
}

/// Whether and how code may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Not at all.
    None,
    /// In place, once the page has been scanned.
    Private,
    /// Instruction by instruction: others can change the bytes.
    Shared,
}

/// Entries of ranges that do not overlap, by start.
#[derive(Debug, Default)]
pub struct Book(BTreeMap<u64, (u64, Entry)>);

impl Book {
    /// The entry of an address, with the range that it is for.
    pub fn find(&self, at: GuestAddr) -> Option<(GuestRange, Entry)> {
        let (&start, &(end, entry)) = self.0.range(..=at.0).next_back()?;
        (at.0 < end).then(|| (range(start, end), entry))
    }

    /// Enters a range in place of what was known of it.
    pub fn insert(&mut self, new: GuestRange, entry: Entry) {
        self.remove(new);
        if !new.is_empty() {
            self.0.insert(new.start().0, (new.end().0, entry));
        }
    }

    /// Forgets a range.
    pub fn remove(&mut self, old: GuestRange) {
        let overlapping = self.overlapping(old);
        for (part, entry) in overlapping {
            self.0.remove(&part.start().0);
            if part.start() < old.start() {
                self.0.insert(part.start().0, (old.start().0, entry));
            }
            if part.end() > old.end() {
                self.0.insert(old.end().0, (part.end().0, entry));
            }
        }
    }

    /// Changes the admission of what is known in a range.
    pub fn admit(&mut self, of: GuestRange, admission: Admission) {
        for (part, entry) in self.overlapping(of) {
            if entry.admission != admission
                && let Some(part) = part.intersect(of)
            {
                self.insert(part, Entry { admission, ..entry });
            }
        }
    }

    /// The entries that overlap a range, whole.
    fn overlapping(&self, with: GuestRange) -> Vec<(GuestRange, Entry)> {
        let (start, end) = (with.start().0, with.end().0);
        let before = self.0.range(..start).next_back().filter(|&(_, &(e, _))| e > start);
        let inside = self.0.range(start..end);
        before.into_iter().chain(inside).map(|(&start, &(end, entry))| (range(start, end), entry)).collect()
    }
}

fn range(start: u64, end: u64) -> GuestRange {
    GuestRange::from_bounds(GuestAddr(start), GuestAddr(end)).expect("entries are not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rights: Rights) -> Entry {
        Entry { rights, admission: Admission::None }
    }

    fn rights_at(book: &Book, at: u64) -> Option<Rights> {
        book.find(GuestAddr(at)).map(|(_, entry)| entry.rights)
    }

    #[test]
    fn a_hole_splits_a_range() {
        let mut book = Book::default();
        book.insert(range(0x1000, 0x5000), entry(Rights::READ));
        book.remove(range(0x2000, 0x3000));
        assert_eq!(rights_at(&book, 0x1fff), Some(Rights::READ));
        assert_eq!(rights_at(&book, 0x2000), None);
        assert_eq!(rights_at(&book, 0x3000), Some(Rights::READ));
        assert_eq!(rights_at(&book, 0x5000), None);
    }

    #[test]
    fn what_is_entered_last_counts() {
        let mut book = Book::default();
        book.insert(range(0x1000, 0x3000), entry(Rights::READ));
        book.insert(range(0x2000, 0x4000), entry(Rights::WRITE));
        assert_eq!(rights_at(&book, 0x1000), Some(Rights::READ));
        assert_eq!(rights_at(&book, 0x2000), Some(Rights::WRITE));
        assert_eq!(rights_at(&book, 0x3000), Some(Rights::WRITE));
    }

    #[test]
    fn admission_is_of_the_range_alone_and_of_what_is_known() {
        let mut book = Book::default();
        book.insert(range(0x1000, 0x4000), entry(Rights::all()));
        book.admit(range(0x2000, 0x9000), Admission::Private);
        let admission = |at| book.find(GuestAddr(at)).map(|(_, entry)| entry.admission);
        assert_eq!(admission(0x1000), Some(Admission::None));
        assert_eq!(admission(0x2000), Some(Admission::Private));
        assert_eq!(admission(0x3fff), Some(Admission::Private));
        assert_eq!(admission(0x4000), None);
    }
}

//! What forked children had to translate, so that their parent does it once for all that follow.
//!
//! A child of `fork` runs code that its parent never runs: it exits, or executes another program. Whatever it translates
//! is gone with it, and costs it copies of the pages of the cache and of the books besides. So it notes the guest addresses in a page
//! that it shares with its parent and all its brothers, and the parent translates them before it forks again.
//!
//! They are hints: to translate code that a program has is always allowed, whoever asks for it, and may be left out. No
//! guest reaches the page.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::io;

use crate::window;

const NOTES: usize = 511;
/// Notes that one fork takes up. What a child may make its parent do is bounded.
const MOST_AT_ONCE: u32 = 64;

#[repr(C)]
struct Page {
    /// How many notes have ever been made.
    count: AtomicU32,
    /// The latest of them; zero is none.
    notes: [AtomicU64; NOTES],
}

/// How a child came to a guest address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Way {
    /// By a direct branch, or after an instruction that the runtime had carried out.
    Direct = 0,
    /// By an indirect branch.
    Indirect = 1,
    /// It is that of a jump through a linkage table that has not been resolved.
    Unsettled = 2,
}

/// The page, as one process sees it.
pub struct Hints {
    page: &'static Page,
    /// Notes that have been read.
    read: u32,
    is_child: bool,
}

impl core::fmt::Debug for Hints {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hints").field("read", &self.read).field("is_child", &self.is_child).finish()
    }
}

impl Hints {
    /// A page without notes.
    pub fn new() -> io::Result<Hints> {
        let page = window::map_shared(size_of::<Page>())? as *const Page;
        // SAFETY: a new mapping of this size, which stays for the life of the process; zeros are values of atomics.
        let page = unsafe { &*page };
        Ok(Hints { page, read: 0, is_child: false })
    }

    /// This process has been forked: others may run what it runs.
    pub fn be_child(&mut self) {
        self.is_child = true;
        self.read = self.page.count.load(Ordering::Relaxed);
    }

    /// Notes that there was no translation of a guest address.
    pub fn note(&self, guest: u32, way: Way) {
        if self.is_child {
            let place = self.page.count.fetch_add(1, Ordering::Relaxed) as usize % NOTES;
            let note = u64::from(guest) | (way as u64) << 32;
            self.page.notes[place].store(note, Ordering::Relaxed);
        }
    }

    /// What has been noted since the last time.
    pub fn take(&mut self) -> Vec<(u32, Way)> {
        let count = self.page.count.load(Ordering::Relaxed);
        let first = if count.wrapping_sub(self.read) > MOST_AT_ONCE {
            count.wrapping_sub(MOST_AT_ONCE)
        } else {
            self.read
        };
        self.read = count;
        let notes = (0..count.wrapping_sub(first)).map(|index| {
            let place = first.wrapping_add(index) as usize % NOTES;
            self.page.notes[place].load(Ordering::Relaxed)
        });
        let way = |note: u64| match note >> 32 {
            0 => Way::Direct,
            1 => Way::Indirect,
            _ => Way::Unsettled,
        };
        notes.filter(|&note| note != 0).map(|note| (note as u32, way(note))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brother_of(hints: &Hints) -> Hints {
        let mut brother = Hints { page: hints.page, read: 0, is_child: false };
        brother.be_child();
        brother
    }

    #[test]
    fn a_parent_reads_what_its_children_note_once() {
        let mut parent = Hints::new().unwrap();
        parent.note(0x1000, Way::Direct);
        assert_eq!(parent.take(), [], "it has no need to tell itself");
        let child = brother_of(&parent);
        child.note(0x2000, Way::Direct);
        child.note(0x3000, Way::Indirect);
        assert_eq!(parent.take(), [(0x2000, Way::Direct), (0x3000, Way::Indirect)]);
        assert_eq!(parent.take(), []);
    }

    #[test]
    fn of_too_many_notes_the_latest_are_read() {
        let mut parent = Hints::new().unwrap();
        let child = brother_of(&parent);
        (1..=2000).for_each(|guest| child.note(guest, Way::Direct));
        let taken = parent.take();
        assert_eq!(taken.len(), MOST_AT_ONCE as usize);
        assert_eq!(taken.last(), Some(&(2000, Way::Direct)));
    }

    #[test]
    fn a_child_does_not_read_what_was_noted_before_it_was_born() {
        let parent = Hints::new().unwrap();
        brother_of(&parent).note(0x1000, Way::Direct);
        assert_eq!(brother_of(&parent).take(), []);
    }
}

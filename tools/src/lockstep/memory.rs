//! Keeps the twin's memory what the guest's is.

use std::io;

use endo_core::{GuestAddr, GuestRange, Rights};

use super::twin::Twin;

/// Most bytes compared or copied at a time.
const CHUNK: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// What the guest has mapped, and what of it the twin does not know yet.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    areas: Vec<(GuestRange, Rights)>,
    news: Vec<(GuestRange, Option<Rights>)>,
}

impl Mirror {
    /// The guest's pages have these rights from now on, or are gone.
    pub(super) fn note(&mut self, range: GuestRange, rights: Option<Rights>) {
        self.news.push((range, rights));
        let mut kept = Vec::with_capacity(self.areas.len() + 2);
        for (area, old) in self.areas.drain(..) {
            for (start, end) in [
                (area.start().0, area.end().0.min(range.start().0)),
                (area.start().0.max(range.end().0), area.end().0),
            ] {
                if start < end
                    && let Some(part) = GuestRange::from_bounds(GuestAddr(start), GuestAddr(end))
                {
                    kept.push((part, old));
                }
            }
        }
        kept.extend(rights.map(|rights| (range, rights)));
        self.areas = kept;
    }

    /// Makes the twin's memory equal to the guest's.
    pub(super) fn bring_up_to_date(&mut self, twin: &Twin) -> io::Result<()> {
        for (range, rights) in self.news.drain(..) {
            let Some(rights) = rights else {
                twin.unmap(range)?;
                continue;
            };
            twin.map(range)?;
            for (start, length) in chunks(range) {
                if rights.intersects(Rights::READ | Rights::EXECUTE) && !twin.copy_from_here(start, length) {
                    // Pages of a file that ends before them.
                    for page in (start..start + length).step_by(PAGE as usize) {
                        let _ = twin.copy_from_here(page, PAGE);
                    }
                }
            }
            twin.protect(range, rights)?;
        }
        for (start, length) in self.unlike(twin) {
            let _ = twin.copy_from_here(start, length);
        }
        Ok(())
    }

    /// The first byte of writable memory in which the two differ.
    pub(super) fn first_difference(&self, twin: &Twin) -> Option<u64> {
        let (start, length) = *self.unlike(twin).first()?;
        let mut theirs = vec![0; length as usize];
        let read = twin.read(start, &mut theirs);
        let offset =
            super::guest_bytes(start, length as usize)?.iter().zip(&theirs).position(|(a, b)| a != b);
        read.then_some(start + offset? as u64)
    }

    /// The chunks of writable memory in which the two differ.
    fn unlike(&self, twin: &Twin) -> Vec<(u64, u64)> {
        let writable = self.areas.iter().filter(|(_, rights)| rights.contains(Rights::READ | Rights::WRITE));
        let mut theirs = vec![0; CHUNK as usize];
        writable
            .flat_map(|(range, _)| chunks(*range))
            .filter(|&(start, length)| {
                let theirs = &mut theirs[..length as usize];
                // What neither side can read is alike.
                twin.read(start, theirs)
                    && super::guest_bytes(start, length as usize).is_some_and(|ours| ours != theirs)
            })
            .collect()
    }
}

fn chunks(range: GuestRange) -> impl Iterator<Item = (u64, u64)> {
    let (first, end) = (range.start().0, range.end().0);
    (first..end).step_by(CHUNK as usize).map(move |start| (start, CHUNK.min(end - start)))
}

//! What a fork asks of the engine, before it and in the child.
#![deny(unsafe_code)]

use super::Engine;
use crate::hints::{Hints, Way};

impl Engine {
    /// The process is about to be forked. What earlier children had to translate is translated here.
    pub fn prepare_fork(&mut self) {
        if self.hints.is_none() {
            // Without memory for them there are no hints.
            self.hints = Hints::new().ok();
        }
        let hints = self.hints.as_mut().map(Hints::take).unwrap_or_default();
        for (guest, way) in hints {
            // Not code that is watched, or read again at each entry, for its protection would change.
            if !self.has_room() || self.unwritable_file_code(guest).is_none() {
                continue;
            }
            if way == Way::Unsettled {
                // Every child resolves it anew: soon it is taken as it stands.
                self.note_unsettled(guest);
            }
            // What cannot be translated here is the child's own affair.
            let _ = match way {
                Way::Indirect if self.table.get(guest).is_none() => self.indirect_entry(guest),
                _ => self.entry(guest),
            };
        }
        self.cache.share();
    }

    /// The process is a forked child.
    pub fn be_child(&mut self) {
        self.keep_nothing();
        if let Some(hints) = &mut self.hints {
            hints.be_child();
        }
    }

    /// There is no translation of a guest address.
    pub(super) fn note_missing(&self, guest: u32, way: Way) {
        if let Some(hints) = &self.hints {
            hints.note(guest, way);
        }
    }
}

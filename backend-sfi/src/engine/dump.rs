//! The fragment dump: every fragment, as it is made, as text in a file.

use core::fmt::Display;
use std::fs::File;
use std::io::Write;

use endo_core::{BackendConfig, BackendError};

use super::Engine;
use crate::listing::Listing;

/// Opens the file that the configuration names, to be added to: processes that a guest forks share it.
pub(super) fn create(config: &BackendConfig) -> Result<Option<File>, BackendError> {
    let open = |path| File::options().create(true).append(true).open(path);
    let file = config.fragment_dump.as_deref().map(open).transpose();
    file.map_err(|source| BackendError::Host { what: "cannot open the fragment dump", source })
}

impl Engine {
    /// Adds what the translator has just made. A full disk costs text, not the guest.
    pub(super) fn list(&mut self, verdict: &dyn Display) {
        if self.dump.is_none() {
            return;
        }
        let source = self.translator.source_mut().clone();
        let translator = &self.translator;
        let listing = Listing {
            start: translator.start(),
            end: translator.end(),
            source: &source,
            address: self.cache.next(),
            code: translator.code(),
            body: translator.body(),
            map: translator.map(),
            exits: translator.exits(),
            entries: translator.indirect_entries(),
            verdict,
        };
        let text = format!("{listing}\n");
        if let Some(file) = &mut self.dump {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

//! What the engine takes from the store, and what it keeps there.

use endo_core::copy::copy;
use endo_core::{BackendConfig, CodeOrigin, CodeSource, GuestRange, HostAddr, Rights};

use super::{Engine, Manner, RESERVE, lookup};
use crate::fragments::PAGE;
use crate::report::report;
use crate::store::Store;
use crate::store::record::{Parts, Record};
use crate::translate::{MAX_EMITTED, MAX_SPAN};
use crate::verify::Layout;

/// Opens the store that the configuration names. Without it everything works, only slower.
pub(super) fn open(config: &BackendConfig, layout: &Layout) -> Option<Store> {
    // A dump is to show how the translator works.
    let config = config.store.as_ref().filter(|_| config.fragment_dump.is_none())?;
    let baked = format!("{:?}", layout.context);
    Store::new(config, baked.as_bytes()).ok()
}

impl Engine {
    /// Puts what is stored around a guest address into the cache. True if that was anything.
    pub(super) fn take_stored(&mut self, guest: u32) -> bool {
        if self.store.is_none() {
            return false;
        }
        // What holds the address may begin in the page before.
        let pages = [Some(guest / PAGE), (guest / PAGE).checked_sub(1)];
        pages.into_iter().flatten().any(|page| self.take_page(page) && self.index.is_translated(guest))
    }

    fn take_page(&mut self, page: u32) -> bool {
        let start = page * PAGE;
        let Some((origin, end)) = self.unwritable_file_code(start) else { return false };
        let Some(group) = self.store.as_mut().and_then(|store| store.take(&origin, page)) else {
            return false;
        };
        let length = (end - u64::from(start)).min(u64::from(PAGE + 2 * MAX_SPAN)) as usize;
        let mut bytes = vec![0; length];
        // SAFETY: the destination has `length` bytes; the source lies in the guest's window.
        let missing =
            unsafe { copy(HostAddr(bytes.as_mut_ptr() as usize), HostAddr(start as usize), length) };
        bytes.truncate(length - missing);
        let before = self.counters.taken;
        for record in group.records() {
            let from = (record.start - start) as usize;
            if bytes.get(from..from + record.source.len()) != Some(record.source) {
                self.refuse(&origin, page);
                break;
            }
            if self.index.starts_fragment(record.start) {
                continue;
            }
            if self.cache.free() < 2 * MAX_EMITTED + RESERVE {
                break;
            }
            self.take(&record);
        }
        self.counters.taken > before
    }

    fn take(&mut self, record: &Record<'_>) {
        self.cache.align(record.alignment);
        let lookup = lookup(&self.index, &self.verifier, self.verify, &self.waits);
        if self.translator.restore(record, self.cache.next(), &lookup) && self.verified() {
            self.install(record.start, Manner::Stay);
            self.counters.taken += 1;
        } else {
            report(format_args!("a stored fragment for guest {:#x} is refused", record.start));
        }
    }

    fn refuse(&mut self, origin: &CodeOrigin, page: u32) {
        if let Some(store) = &mut self.store {
            store.refuse(origin, page);
        }
    }

    /// Keeps the translation that has just been installed at `code`.
    pub(super) fn keep(&mut self, code: u64) {
        let start = self.translator.start();
        let Some((origin, _)) = self.unwritable_file_code(start) else { return };
        let Some(store) = &mut self.store else { return };
        let Some(source) = self.translator.source().get(..(self.translator.end() - start) as usize) else {
            return;
        };
        let parts = Parts {
            start,
            address: code,
            source,
            body: &self.translator.code()[..self.translator.body() as usize],
            map: self.translator.map(),
            exits: self.translator.exits(),
            entries: self.translator.indirect_entries(),
            gates: self.translator.gates(),
        };
        store.keep(&origin, &parts);
    }

    /// The fragments that hold an instruction are not worth keeping.
    pub(super) fn drop_stored(&mut self, guest: u32) {
        let Some(store) = &mut self.store else { return };
        let Some((CodeSource::File(origin), _)) = self.pages.code.get(u64::from(guest)) else { return };
        for start in self.index.starts_of_fragments_at(guest) {
            store.drop_fragment(&origin, start);
        }
    }

    /// The code of a file lies here from now on.
    pub(super) fn admit_stored(&mut self, range: GuestRange, origin: CodeOrigin) {
        if let (Some(store), false) = (&mut self.store, range.is_empty()) {
            let page = |address: u64| (address / u64::from(PAGE)) as u32;
            store.admit(origin, page(range.start().0), page(range.end().0 - 1));
        }
    }

    /// A forked child keeps nothing.
    pub(super) fn keep_nothing(&mut self) {
        if let Some(store) = &mut self.store {
            store.forget_fresh();
        }
    }

    /// Writes what is worth keeping.
    pub fn save(&mut self) {
        if let Some(store) = &mut self.store {
            store.save();
        }
    }

    /// The file that code comes from, and where it ends, if it is a file's and the guest cannot store into it.
    pub(super) fn unwritable_file_code(&self, guest: u32) -> Option<(CodeOrigin, u64)> {
        let (CodeSource::File(origin), end) = self.pages.code.get(u64::from(guest))? else { return None };
        let (rights, rights_end) = self.pages.rights.get(u64::from(guest))?;
        (!rights.contains(Rights::WRITE)).then_some((origin, end.min(rights_end)))
    }
}

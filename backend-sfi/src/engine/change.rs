//! Code that changes or goes away: what was translated from it is forgotten before that happens.

use std::sync::PoisonError;

use endo_core::copy::copy;
use endo_core::{CodeSource, GuestAddr, GuestRange, HostAddr, Rights, VerifyMode};

use super::{BOOKS, Engine, STUB_BYTES};
use crate::fragments::{FragmentId, PAGE};
use crate::pages::host_protection;
use crate::returns::{LARGE_CODE, Returns};
use crate::translate::MAX_EMITTED;
use crate::verify::Claims;
use crate::window;

impl Engine {
    /// Drops the translations of a range of guest addresses, and lifts write protection if `lift`.
    pub fn invalidate(&mut self, range: GuestRange, lift: bool) {
        let Some(range) = range.page_aligned().filter(|range| !range.is_empty()) else { return };
        let first = (range.start().0 / u64::from(PAGE)).min(u64::from(u32::MAX / PAGE)) as u32;
        let last = ((range.end().0 - 1) / u64::from(PAGE)).min(u64::from(u32::MAX / PAGE)) as u32;
        for page in self.index.pages_in(first, last) {
            self.retire_page(page);
        }
        for page in self.pages.watched_in(first, last) {
            self.pages.set_watched(page, false);
            let start = u64::from(page) * u64::from(PAGE);
            if let (true, Some(rights)) = (lift, self.pages.rights_at(start)) {
                // Nothing but the host's lack of memory can fail here, and then the guest's store faults: it is told so.
                let _ = window::protect(start, u64::from(PAGE), host_protection(rights));
            }
        }
    }

    fn retire_page(&mut self, page: u32) {
        let ids = self.index.retire_page(page);
        self.retire_fragments(ids);
    }

    /// Drops the fragments that hold the instruction at a guest address.
    pub(super) fn retire_at(&mut self, guest: u32) {
        let ids = self.index.retire_at(guest);
        self.retire_fragments(ids);
    }

    fn retire_fragments(&mut self, ids: Vec<FragmentId>) {
        let others_may_run = !ids.is_empty() && self.others_may_run();
        for id in ids {
            self.counters.retired += 1;
            let fragment = self.index.get(id).clone();
            if others_may_run {
                // Who is inside must come out, also of loops: within the fragment, or among others that are retired too.
                self.keep_source(id);
                for number in self.index.exits_of(&fragment) {
                    self.unlink(number);
                }
            }
            self.dead += fragment.length as usize + BOOKS;
            let code = fragment.code..fragment.code + u64::from(fragment.length);
            for &guest in &self.index.entries_of(&fragment).to_vec() {
                if self.table.get(guest).is_some_and(|entry| code.contains(&entry)) {
                    self.table.withdraw(guest);
                }
            }
            for guest in self.index.guest_addresses(id) {
                // A thunk of its own may lead here.
                self.table.withdraw(guest);
                for number in self.index.incoming(guest) {
                    self.unlink(number);
                }
            }
            self.verifier.retire(code);
        }
    }

    fn others_may_run(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).are_others()
    }

    /// Keeps the guest's code of a fragment that others may be in when it has changed.
    fn keep_source(&mut self, id: FragmentId) {
        let fragment = self.index.get(id);
        let mut bytes = vec![0; (fragment.end - fragment.start) as usize];
        let (to, from) = (HostAddr(bytes.as_mut_ptr() as usize), HostAddr(fragment.start as usize));
        // SAFETY: the destination has as many bytes; the source lies in the guest's window. What cannot be read is gone.
        unsafe { copy(to, from, bytes.len()) };
        self.index.keep_source(id, &bytes);
    }

    /// Sends an exit back to its stub, making one if it has none. Without room for one the cache is overfull.
    fn unlink(&mut self, number: u32) {
        let exit = self.index.exit(number);
        if !exit.linked {
            return;
        }
        if exit.stub.is_none() && self.cache.free() < MAX_EMITTED + STUB_BYTES {
            self.is_overfull = true;
            return;
        }
        let stub = exit.stub.unwrap_or_else(|| self.add_stub(number));
        self.cache.patch(exit.site, stub);
        self.index.set_exit(number, false, Some(stub));
    }

    fn add_stub(&mut self, number: u32) -> u64 {
        assert!(self.cache.free() >= STUB_BYTES, "room for stubs is made with the fragments");
        let address = self.cache.next();
        let stub = self.translator.stub(address, number);
        assert_eq!(stub.len(), STUB_BYTES, "room was made for it");
        if self.verify != VerifyMode::Off {
            self.verifier
                .admit(address, stub, &Claims { indirect_entries: &[] })
                .expect("a stub is what the verifier knows best");
        }
        self.cache.append(stub);
        self.index.add_stub(address, number);
        address
    }

    /// If the guest stored, with the instruction at `pc`, into a page that is only write-protected because code was
    /// translated from it, or was until another thread did the same: lifts the protection, and says whether the
    /// instruction lies in that page itself. It has to be carried out again.
    pub fn write_to_watched(&mut self, address: GuestAddr, pc: u32) -> Option<bool> {
        let range = GuestRange::new(address.page_start(), u64::from(PAGE))?;
        let page = (address.0 / u64::from(PAGE)) as u32;
        if address.0 >= window::WINDOW_END {
            return None;
        }
        if self.pages.is_watched(page) {
            self.counters.code_writes += 1;
            self.invalidate(range, true);
            self.lifted = None;
        } else if !self.others_may_run() || !self.is_lifted_for(address, pc) {
            return None;
        }
        Some(self.is_near_code(address, pc))
    }

    /// Whether another thread may have lifted the protection that a store has met. Believed once in a row for the same store: a
    /// page may be read-only for reasons that only the host knows.
    fn is_lifted_for(&mut self, address: GuestAddr, pc: u32) -> bool {
        let may_write = self.pages.rights_at(address.0).is_some_and(|rights| rights.contains(Rights::WRITE));
        let is_first = self.lifted != Some((address, pc));
        self.lifted = Some((address, pc));
        may_write && is_first
    }

    /// Whether an instruction lies in, or reaches into, the page of an address.
    fn is_near_code(&self, address: GuestAddr, pc: u32) -> bool {
        let page = (address.0 / u64::from(PAGE)) as u32;
        page == pc / PAGE || page == pc.saturating_add(15) / PAGE
    }

    /// The monitor or the kernel is about to store into a range.
    pub fn before_write(&mut self, range: GuestRange) {
        let Some(pages) = range.page_aligned().filter(|pages| !pages.is_empty()) else { return };
        let (first, last) = (pages.start().0 / u64::from(PAGE), (pages.end().0 - 1) / u64::from(PAGE));
        for page in self.pages.watched_in(first as u32, last as u32) {
            let start = GuestAddr(u64::from(page) * u64::from(PAGE));
            if let Some(page) = GuestRange::new(start, u64::from(PAGE)) {
                self.invalidate(page, true);
            }
        }
    }

    /// Drops all translations. No other thread is inside (see [`crate::threads`]).
    pub fn flush(&mut self) {
        self.counters.flushes += 1;
        self.index.clear();
        self.table.clear();
        self.verifier.clear();
        self.cache.clear();
        self.is_overfull = false;
        self.dead = 0;
        if let Some(store) = &mut self.store {
            store.forget_visits();
        }
    }

    /// Records rights, and forgets code and watches of whatever was there.
    pub fn assign(&mut self, range: GuestRange, rights: Rights) {
        self.invalidate(range, false);
        self.pages.rights.set(range, rights);
    }

    /// Ends rights and code of a range.
    pub fn revoke(&mut self, range: GuestRange) {
        self.invalidate(range, true);
        self.pages.code.remove(range);
        self.pages.rights.remove(range);
    }

    /// Allows code of a range to be translated.
    pub fn admit(&mut self, range: GuestRange, source: CodeSource) {
        self.pages.code.set(range, source);
        if matches!(source, CodeSource::File(_)) && range.len() >= LARGE_CODE && self.cache.used() == 0 {
            self.predict_returns();
        }
        if let CodeSource::File(origin) = source {
            self.admit_stored(range, origin);
        }
    }

    /// The program is large. Nothing has been translated yet.
    pub(super) fn predict_returns(&mut self) {
        let predicted = Returns::Predicted;
        if self.returns == predicted {
            return;
        }
        self.returns = predicted;
        self.verifier.set_returns(predicted);
        self.translator.set_returns(predicted);
        if let Some(store) = &mut self.store {
            store.refine(b"predicted returns");
        }
    }

    /// Ends what [`Engine::admit`] began.
    pub fn retire(&mut self, range: GuestRange) {
        self.invalidate(range, true);
        self.pages.code.remove(range);
    }
}

//! Code that changes or goes away: what was translated from it is forgotten before that happens.

use endo_core::{CodeSource, GuestAddr, GuestRange, Rights, VerifyMode};

use super::{Engine, STUB_BYTES, host_protection};
use crate::cache::Gate;
use crate::context::{self, Context};
use crate::fragments::{FragmentId, PAGE};
use crate::verify::Claims;
use crate::window;

impl Engine {
    /// Drops the translations of a range of guest addresses, and lifts write protection if `lift`.
    pub fn invalidate(&mut self, range: GuestRange, lift: bool) {
        let Some(range) = range.page_aligned().filter(|range| !range.is_empty()) else { return };
        let first = (range.start().0 / u64::from(PAGE)).min(u64::from(u32::MAX / PAGE)) as u32;
        let last = ((range.end().0 - 1) / u64::from(PAGE)).min(u64::from(u32::MAX / PAGE)) as u32;
        for page in self.index.pages_in(first, last) {
            // After a flush on the way there is nothing left to retire, and this does nothing.
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
        for id in ids {
            self.counters.retired += 1;
            let fragment = self.index.get(id).clone();
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
                    if self.cache.free() < STUB_BYTES {
                        // No room to say where the branch goes instead: drop it with everything else.
                        self.flush();
                        return;
                    }
                    self.unlink(number);
                }
            }
            self.verifier.retire(code);
        }
    }

    /// Sends an exit back to its stub, making one if it has none.
    fn unlink(&mut self, number: u32) {
        let exit = self.index.exit(number);
        if !exit.linked {
            return;
        }
        let stub = exit.stub.unwrap_or_else(|| self.add_stub(number));
        self.cache.patch(exit.site, stub);
        self.index.set_exit(number, false, Some(stub));
    }

    fn add_stub(&mut self, number: u32) -> u64 {
        assert!(self.cache.free() >= STUB_BYTES, "room for stubs is made with the fragments");
        let address = self.cache.next();
        let displacement = context::displacement() + core::mem::offset_of!(Context, exit_info) as i32;
        let mut stub = vec![0x64, 0xc7, 0x04, 0x25];
        stub.extend_from_slice(&displacement.to_le_bytes());
        stub.extend_from_slice(&number.to_le_bytes());
        stub.push(0xe9);
        let gate = self.cache.gate(Gate::Link);
        stub.extend_from_slice(&((gate as i64 - (address as i64 + STUB_BYTES as i64)) as i32).to_le_bytes());
        if self.verify != VerifyMode::Off {
            self.verifier
                .admit(address, &stub, &Claims { indirect_entries: &[] })
                .expect("a stub is what the verifier knows best");
        }
        self.cache.append(&stub);
        address
    }

    /// If the guest stored into a page that is only write-protected because code was translated from it: lifts the
    /// protection and says so.
    pub fn write_to_watched(&mut self, address: GuestAddr) -> bool {
        let Some(range) = GuestRange::new(address.page_start(), u64::from(PAGE)) else { return false };
        let page = (address.0 / u64::from(PAGE)) as u32;
        if address.0 >= window::WINDOW_END || !self.pages.is_watched(page) {
            return false;
        }
        self.counters.code_writes += 1;
        self.invalidate(range, true);
        true
    }

    /// Whether an instruction lies in, or reaches into, the page of an address.
    pub fn is_near_code(&self, address: GuestAddr, pc: u32) -> bool {
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

    /// Drops all translations. No guest thread is in emitted code.
    pub fn flush(&mut self) {
        self.counters.flushes += 1;
        self.index.clear();
        self.table.clear();
        self.verifier.clear();
        self.cache.clear();
        self.bases_used = false;
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
    }

    /// Ends what [`Engine::admit`] began.
    pub fn retire(&mut self, range: GuestRange) {
        self.invalidate(range, true);
        self.pages.code.remove(range);
    }
}

//! The translator's bookkeeping: from a guest address to verified, linked code, and back to nothing when it changes.
//!
//! Everything here runs on a monitor stack, between guest instructions, under one lock.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex};

use endo_core::copy::copy;
use endo_core::{
    BackendConfig, BackendError, CodeSource, Fault, FaultKind, GuestAddr, HostAddr, Rights, VerifyMode,
};

use iced_x86::{Decoder, DecoderError, DecoderOptions};

use crate::cache::{self, CodeCache, Gate};
use crate::context::{self, Context};
use crate::fragments::{Emitted, Index, PAGE};
use crate::hints::{Hints, Way};
use crate::pages::Pages;
use crate::perf::PerfMap;
use crate::report::report;
use crate::returns::Returns;
use crate::statistics::Counters;
use crate::store::Store;
use crate::table::DispatchTable;
use crate::threads::Threads;
use crate::translate::{Constants, Environment, MAX_EMITTED, MAX_INSTRUCTIONS, MAX_SPAN, Source, Translator};
use crate::verify::{Claims, Gates, Layout, Verifier};
use crate::window;

mod change;
mod dump;
mod faults;
mod forks;
mod stored;

use faults::execute_fault;

/// Longest instruction that the processor accepts, in bytes.
const MAX_INSTRUCTION_BYTES: usize = 15;
/// Exit stub: `mov dword ptr fs:[exit_info], imm32; jmp gate`.
const STUB_BYTES: usize = 17;
/// Room for the stubs that changes of code need between two times that somebody looks.
const RESERVE: usize = 64 << 10;

/// Everything the backend knows about translated code.
pub struct Engine {
    /// The code.
    pub cache: CodeCache,
    /// Where indirect branches go.
    pub table: DispatchTable,
    /// What was translated.
    pub index: Index,
    /// Guest pages.
    pub pages: Pages,
    /// Figures.
    pub counters: Counters,
    verifier: Verifier,
    translator: Translator,
    verify: VerifyMode,
    returns: Returns,
    claimed: Vec<u32>,
    threads: Arc<Mutex<Threads>>,
    /// There was no room for a stub: stale code may still be linked.
    is_overfull: bool,
    /// Bytes of fragments that nobody enters any more, and of the books about them.
    dead: usize,
    /// The last store that met a protection which was not there any more, and the instruction that made it.
    lifted: Option<(GuestAddr, u32)>,
    /// How often the runtime has carried out a jump whose target had not settled.
    waits: HashMap<u32, u8>,
    perf: Option<PerfMap>,
    dump: Option<File>,
    store: Option<Store>,
    /// What forked children translate; none before the first fork.
    hints: Option<Hints>,
}

struct Lookup<'a> {
    index: &'a Index,
    verifier: Option<&'a Verifier>,
    waits: &'a HashMap<u32, u8>,
}

/// The translator's view of what there is.
fn lookup<'a>(
    index: &'a Index,
    verifier: &'a Verifier,
    verify: VerifyMode,
    waits: &'a HashMap<u32, u8>,
) -> Lookup<'a> {
    Lookup { index, verifier: (verify != VerifyMode::Off).then_some(verifier), waits }
}

/// How often a jump through an unresolved linkage table is left to the runtime before it is taken as it is.
const MAX_WAITS: u8 = 4;

impl Environment for Lookup<'_> {
    fn lookup(&self, guest: u32) -> Option<u64> {
        let address = self.index.lookup(guest)?;
        self.verifier.is_none_or(|verifier| verifier.is_boundary(address)).then_some(address)
    }

    fn is_translated(&self, guest: u32) -> bool {
        self.index.is_translated(guest)
    }

    fn next_exit(&self) -> u32 {
        self.index.next_exit()
    }

    fn read(&self, guest: u32, to: &mut [u8]) -> usize {
        // SAFETY: the destination is a slice; the source lies in the guest's window or the guard past it.
        to.len() - unsafe { copy(HostAddr(to.as_mut_ptr() as usize), HostAddr(guest as usize), to.len()) }
    }

    fn may_wait(&self, guest: u32) -> bool {
        self.waits.get(&guest).is_none_or(|&waits| waits < MAX_WAITS)
    }
}

/// How an instruction's code is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// To stay.
    Stay,
    /// To stay, beside a translation that holds it in its middle: for indirect branches.
    Repeat,
    /// One instruction, to be run once and not found by others.
    Once,
    /// To be run once and not found by others: code that others may change unseen is read again at each entry.
    Passing,
}

impl Manner {
    /// Whether the translation is kept, so that stores into its source have to be noticed.
    fn stays(self) -> bool {
        matches!(self, Manner::Stay | Manner::Repeat)
    }
}

/// As many bytes may be dead whatever lives; more, while more lives, which it costs more to translate again.
const MOST_DEAD: usize = 8 << 20;
/// About as many bytes are kept about a fragment.
const BOOKS: usize = 256;

/// Instructions of another fragment that one for indirect branches repeats, before it goes on there.
const REPEATED: usize = 32;

impl Engine {
    /// An engine with an empty cache.
    pub fn new(config: &BackendConfig) -> Result<Self, BackendError> {
        let cache = CodeCache::new(config.cache_bytes.unwrap_or(cache::DEFAULT_BYTES))?;
        let table = DispatchTable::new(cache.gate(Gate::Miss))?;
        let context = context::displacement();
        let constants = Constants {
            link: cache.gate(Gate::Link),
            special: cache.gate(Gate::Special),
            syscall: cache.gate(Gate::Syscall),
        };
        let layout = Layout {
            cache: cache.range(),
            context: Context::slots(context),
            gates: Gates {
                link: constants.link,
                special: constants.special,
                syscall: constants.syscall,
                miss: cache.gate(Gate::Miss),
            },
            returns: Returns::default(),
        };
        let perf = config
            .perf_map
            .as_deref()
            .map(PerfMap::create)
            .transpose()
            .map_err(|source| BackendError::Host { what: "cannot create the perf map", source })?;
        let dump = dump::create(config)?;
        let pages = Pages::new(config.watched)
            .map_err(|source| BackendError::Host { what: "cannot reserve the page tables", source })?;
        let store = stored::open(config, &layout);
        let mut engine = Engine {
            verifier: Verifier::new(layout),
            translator: Translator::new(context, constants),
            index: Index::new(cache.range().start)?,
            pages,
            counters: Counters::default(),
            verify: config.verify,
            returns: Returns::default(),
            claimed: Vec::new(),
            threads: Arc::default(),
            is_overfull: false,
            dead: 0,
            lifted: None,
            waits: HashMap::new(),
            perf,
            dump,
            store,
            hints: None,
            cache,
            table,
        };
        if config.predict_returns {
            engine.predict_returns();
        }
        Ok(engine)
    }

    /// The threads that run the code.
    pub fn threads(&self) -> Arc<Mutex<Threads>> {
        Arc::clone(&self.threads)
    }

    /// Whether there is room for what one request of a guest may make it translate, and most of the cache is alive.
    pub fn has_room(&self) -> bool {
        let is_grave =
            self.dead >= MOST_DEAD && self.dead > (self.cache.used() + self.index.count() * BOOKS) / 2;
        self.cache.free() >= MAX_EMITTED + RESERVE && !is_grave
    }

    /// Whether the cache has to be cleared before anybody goes on: a change of code could not be carried through.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Where a guest instruction's code is, translating it if need be.
    pub fn entry(&mut self, guest: u32) -> Result<u64, Fault> {
        if let Some(address) = self.find(guest) {
            return Ok(address);
        }
        self.note_missing(guest, Way::Direct);
        if self.take_stored(guest)
            && let Some(address) = self.find(guest)
        {
            return Ok(address);
        }
        self.translate(guest, self.manner_of(guest, Manner::Stay))
    }

    /// Like [`Engine::entry`], and from now on indirect branches to the address find it.
    pub fn indirect_entry(&mut self, guest: u32) -> Result<u64, Fault> {
        self.note_missing(guest, Way::Indirect);
        if self.take_stored(guest)
            && let (Some(_), Some(address)) = (self.table.get(guest), self.find(guest))
        {
            return Ok(address);
        }
        let manner = if self.index.is_translated(guest) { Manner::Repeat } else { Manner::Stay };
        self.translate(guest, self.manner_of(guest, manner))
    }

    /// How code is translated that would be kept as `wanted` if nobody else could change it.
    fn manner_of(&self, guest: u32, wanted: Manner) -> Manner {
        match self.pages.code.get(u64::from(guest)) {
            Some((CodeSource::Shared, _)) => Manner::Passing,
            _ => wanted,
        }
    }

    /// Code for a single instruction that is run once: an instruction that stores into the page it lies in.
    pub fn entry_once(&mut self, guest: u32) -> Result<u64, Fault> {
        self.translate(guest, Manner::Once)
    }

    /// Code that is run once, however long it would be otherwise.
    pub fn entry_alone(&mut self, guest: u32) -> Result<u64, Fault> {
        self.translate(guest, Manner::Passing)
    }

    /// Links an exit to its target and says where that is.
    pub fn link(&mut self, number: u32) -> Result<u64, Fault> {
        // Of a retired fragment, which the guest may still be leaving, only the target counts.
        let target = self.index.exit(number).target;
        let entry = self.entry(target)?;
        if self.manner_of(target, Manner::Stay).stays() {
            self.link_exit(number, entry);
        }
        Ok(entry)
    }

    fn find(&self, guest: u32) -> Option<u64> {
        lookup(&self.index, &self.verifier, self.verify, &self.waits).lookup(guest)
    }

    fn link_exit(&mut self, number: u32, address: u64) {
        let exit = self.index.exit(number);
        let allowed = match self.verify {
            VerifyMode::On => self.verifier.may_link(exit.site, address),
            VerifyMode::Sample => self.verifier.is_boundary(address),
            VerifyMode::Off => true,
        };
        if exit.linked || !exit.live || !allowed {
            return;
        }
        self.cache.patch(exit.site, address);
        self.index.set_exit(number, true, exit.stub);
        self.counters.links += 1;
    }

    fn translate(&mut self, guest: u32, manner: Manner) -> Result<u64, Fault> {
        assert!(self.cache.free() >= MAX_EMITTED, "room is made before the engine is asked");
        self.fetch(guest, if manner == Manner::Once { MAX_INSTRUCTION_BYTES } else { MAX_SPAN as usize })?;
        let limit = if manner == Manner::Once { 1 } else { MAX_INSTRUCTIONS };
        self.emit(guest, limit, manner);
        if !self.verified() {
            // Something in it was refused: alone it will be refused alone.
            self.emit(guest, 1, manner);
            if !self.verified() {
                self.counters.refused_instructions += 1;
                return Err(Fault {
                    kind: FaultKind::IllegalInstruction,
                    address: GuestAddr(u64::from(guest)),
                });
            }
        }
        self.counters.fragments += 1;
        self.counters.instructions += self.translator.instruction_count() as u64;
        self.counters.guest_bytes += u64::from(self.translator.end() - guest);
        self.counters.emitted_bytes += self.translator.code().len() as u64;
        let code = self.cache.next();
        let entry = self.install(guest, manner);
        match manner.stays() {
            true => self.keep(code),
            false => self.dead += self.translator.code().len() + BOOKS,
        }
        Ok(entry)
    }

    /// Copies the guest's code, once, after making sure that it cannot change unseen.
    fn fetch(&mut self, guest: u32, span: usize) -> Result<(), Fault> {
        let start = u64::from(guest);
        let Some((_, end)) = self.pages.code.get(start) else {
            return Err(execute_fault(guest, self.pages.rights_at(start).is_some()));
        };
        let length = (end - start).min(span as u64) as usize;
        let bytes = self.translator.source_mut();
        bytes.resize(length, 0);
        // SAFETY: the destination has `length` bytes; the source lies in the guest's window.
        let missing =
            unsafe { copy(HostAddr(bytes.as_mut_ptr() as usize), HostAddr(start as usize), length) };
        if missing == length {
            return Err(Fault { kind: FaultKind::Bus { code: libc::BUS_ADRERR }, address: GuestAddr(start) });
        }
        bytes.truncate(length - missing);
        Ok(())
    }

    /// The fault of fetching an instruction here, if that is why it cannot be carried out.
    pub fn fetch_fault(&mut self, guest: u32) -> Option<Fault> {
        if let Err(fault) = self.fetch(guest, MAX_INSTRUCTION_BYTES) {
            return Some(fault);
        }
        let mut decoder =
            Decoder::with_ip(64, self.translator.source_mut(), u64::from(guest), DecoderOptions::NONE);
        let cut_off = decoder.decode().is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes;
        let missing = guest.saturating_add(self.translator.source_mut().len() as u32);
        cut_off.then(|| execute_fault(missing, self.pages.rights_at(u64::from(missing)).is_some()))
    }

    fn emit(&mut self, guest: u32, limit: usize, manner: Manner) {
        let indirect = manner.stays();
        let overlap = if manner == Manner::Repeat { REPEATED } else { 0 };
        let source = Source { start: guest, limit, indirect, overlap };
        loop {
            let lookup = lookup(&self.index, &self.verifier, self.verify, &self.waits);
            self.translator.translate(source, self.cache.next(), &lookup);
            // What runs once must be able to store into its own page.
            if !manner.stays() || !self.watch_source() {
                return;
            }
            // A page of it was writable until now: what was read before that may be stale.
            let bytes = self.translator.source_mut();
            // SAFETY: as in `fetch`.
            unsafe { copy(HostAddr(bytes.as_mut_ptr() as usize), HostAddr(guest as usize), bytes.len()) };
        }
    }

    /// Write-protects the pages that the translation came from where the guest may write them. True if any changed.
    fn watch_source(&mut self) -> bool {
        let (first, last) = (self.translator_start() / PAGE, (self.translator.end() - 1) / PAGE);
        let mut changed = false;
        for page in first..=last {
            let start = u64::from(page) * u64::from(PAGE);
            let writable = self.pages.rights_at(start).is_some_and(|rights| rights.contains(Rights::WRITE));
            if writable && !self.pages.is_watched(page) {
                self.pages.set_watched(page, true);
                // A failure leaves the page writable, and is the host's being out of memory for its page tables.
                let _ = window::protect(start, u64::from(PAGE), libc::PROT_READ);
                changed = true;
            }
        }
        changed
    }

    fn translator_start(&self) -> u32 {
        self.translator.start()
    }

    fn verified(&mut self) -> bool {
        let wanted = match self.verify {
            VerifyMode::Off => false,
            VerifyMode::Sample => (self.counters.fragments + self.counters.taken).is_multiple_of(64),
            VerifyMode::On => true,
        };
        if !wanted {
            if self.verify != VerifyMode::Off {
                let boundaries = self.translator.map().iter().map(|entry| usize::from(entry.code));
                self.verifier.assume(self.cache.next(), self.translator.code().len(), boundaries);
            }
            return true;
        }
        self.claimed.clear();
        self.claimed.extend(self.translator.indirect_entries().iter().map(|&(_, offset)| offset));
        let claims = Claims { indirect_entries: &self.claimed };
        match self.verifier.admit(self.cache.next(), self.translator.code(), &claims) {
            Ok(()) => true,
            Err(refusal) => {
                self.counters.refused_fragments += 1;
                self.list(&refusal);
                report(format_args!(
                    "verifier refused a fragment for guest {:#x}: {refusal}",
                    self.translator_start()
                ));
                false
            }
        }
    }

    /// Puts the verified translation into the cache and makes it known. Returns where its first instruction is.
    fn install(&mut self, guest: u32, manner: Manner) -> u64 {
        let code = self.cache.next();
        self.list(&if self.verify == VerifyMode::On { "verified" } else { "not always verified" });
        self.cache.append(self.translator.code());
        let shared = manner.stays();
        let emitted = Emitted {
            start: guest,
            end: self.translator.end(),
            length: self.translator.code().len() as u32,
            body: self.translator.body(),
            map: self.translator.map(),
            exits: self.translator.exits(),
            entries: self.translator.indirect_entries(),
            shared,
        };
        let id = self.index.insert(code, emitted);
        if manner == Manner::Passing {
            // Others may change the guest's code before this has been left.
            self.index.keep_source(id, self.translator.source_mut());
        }
        if let Some(perf) = &mut self.perf {
            perf.fragment(code, self.translator.code().len(), guest);
        }
        let first = self.translator.map().first().map_or(0, |entry| u32::from(entry.code));
        if shared {
            self.publish_entries(code);
            self.link_waiting(code);
        }
        code + u64::from(first)
    }

    fn publish_entries(&mut self, code: u64) {
        for index in 0..self.translator.indirect_entries().len() {
            let (guest, offset) = self.translator.indirect_entries()[index];
            // A return point whose instruction is in another fragment is here a reload and a jump: better than nothing.
            if self.translator.covers(guest) || self.table.get(guest).is_none() {
                self.table.publish(guest, code + u64::from(offset));
            }
        }
    }

    /// Links the exits of older fragments that wait for an instruction of this one.
    fn link_waiting(&mut self, code: u64) {
        for index in 0..self.translator.map().len() {
            let entry = self.translator.map()[index];
            let guest = self.translator_start() + u32::from(entry.guest);
            if !self.index.has_incoming(guest) {
                continue;
            }
            for number in self.index.incoming(guest) {
                self.link_exit(number, code + u64::from(entry.code));
            }
        }
    }

    /// A jump through a linkage table that had not been resolved when it was translated has been carried out by the
    /// runtime: it is translated again, to be taken as it stands once it has settled.
    pub fn note_unsettled(&mut self, guest: u32) {
        self.note_missing(guest, Way::Unsettled);
        let waits = self.waits.entry(guest).or_default();
        *waits = waits.saturating_add(1);
        self.drop_stored(guest);
        self.retire_at(guest);
    }
}

//! What has been translated: which guest code is where in the cache, and which branches lead to it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use endo_core::BackendError;

use crate::translate::{ExitSite, MapEntry};
use crate::window::LazyArray;

/// Guest bytes in a page, as the index counts them.
pub const PAGE: u32 = 4096;

/// A number of a fragment; never reused between two flushes of the cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FragmentId(pub u32);

/// One translated stretch of guest code.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Guest address of its first instruction.
    pub start: u32,
    /// Guest address past its last instruction.
    pub end: u32,
    /// Where it runs.
    pub code: u64,
    /// Bytes of it, stubs included.
    pub length: u32,
    /// Bytes before the stubs.
    pub body: u32,
    /// Where each guest instruction begins: a range of the index's map.
    map: (u32, u32),
    /// Its exits: a range of the index's exits.
    exits: (u32, u32),
    /// Its indirect entries: a range of the index's entries.
    entries: (u32, u32),
    /// False once it has been retired; its code stays until the cache is flushed.
    pub live: bool,
    /// The guest's code, where it may have changed since while a thread is still in the fragment.
    pub source: Option<Box<[u8]>>,
}

/// A direct branch from a fragment to other guest code.
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    /// Address of its rel32 field.
    pub site: u64,
    /// Guest address it leads to.
    pub target: u32,
    /// Address of its stub; `None` if it was linked when it was emitted and has none yet.
    pub stub: Option<u64>,
    /// Whether it is linked now.
    pub linked: bool,
    /// Whether its fragment is live.
    pub live: bool,
}

/// An [`ExitRecord`] as it is kept: there are tens of thousands.
#[derive(Clone, Copy, Debug)]
struct PackedExit {
    /// Offset of the rel32 field in the cache.
    site: u32,
    target: u32,
    /// Offset of the stub in the cache, or [`NONE`].
    stub: u32,
    /// The next exit that leads to the same guest address, or [`NONE`]; the two highest bits are flags.
    next: u32,
}

const LINKED: u32 = 1 << 31;
const DEAD: u32 = 1 << 30;
const NONE: u32 = DEAD - 1;

/// All fragments since the last flush.
#[derive(Debug)]
pub struct Index {
    fragments: Vec<Fragment>,
    map: Vec<MapEntry>,
    exits: Vec<PackedExit>,
    /// Guest addresses of indirect entries.
    entries: Vec<u32>,
    /// Stubs that were made after their fragments: offset in the cache, number of the exit. Ascending, as the cache is
    /// filled.
    stubs: Vec<(u32, u32)>,
    /// Fragments by the guest pages that they cover.
    pages: HashMap<u32, Vec<FragmentId>, BuildHasherDefault<AddressHasher>>,
    /// First exit by the guest address it leads to.
    incoming: HashMap<u32, u32, BuildHasherDefault<AddressHasher>>,
    /// Where guest addresses that fragments start at are, for the common look-up.
    heads: HashMap<u32, u64, BuildHasherDefault<AddressHasher>>,
    /// One bit a guest byte: a live translated instruction starts here. 512 MiB of address space, touched as needed.
    starts: LazyArray<u64>,
    /// One bit a guest byte: an exit leads here.
    targets: LazyArray<u64>,
    /// Address that offsets in the cache count from.
    base: u64,
}

impl Index {
    /// How many fragments there have been since the last flush.
    pub fn count(&self) -> usize {
        self.fragments.len()
    }

    /// Nothing translated.
    pub fn new(base: u64) -> Result<Self, BackendError> {
        let fail = |source| BackendError::Host { what: "cannot reserve the translation map", source };
        let starts = LazyArray::new(1 << 26).map_err(fail)?;
        let targets = LazyArray::new(1 << 26).map_err(fail)?;
        Ok(Index {
            // Room for a small program.
            fragments: Vec::with_capacity(1 << 10),
            map: Vec::with_capacity(1 << 15),
            exits: Vec::with_capacity(1 << 13),
            entries: Vec::with_capacity(1 << 12),
            stubs: Vec::new(),
            pages: HashMap::default(),
            incoming: HashMap::default(),
            heads: HashMap::default(),
            starts,
            targets,
            base,
        })
    }

    /// Records a fragment, and its exits from number [`Index::next_exit`] on.
    pub fn insert(&mut self, code: u64, translated: Emitted<'_>) -> FragmentId {
        let id = FragmentId(self.fragments.len() as u32);
        let map = (self.map.len() as u32, (self.map.len() + translated.map.len()) as u32);
        self.map.extend_from_slice(translated.map);
        let first_exit = self.exits.len() as u32;
        for exit in translated.exits {
            self.add_exit(code, exit);
        }
        let first_entry = self.entries.len() as u32;
        self.entries.extend(translated.entries.iter().map(|&(guest, _)| guest));
        self.fragments.push(Fragment {
            start: translated.start,
            end: translated.end,
            code,
            length: translated.length,
            body: translated.body,
            map,
            exits: (first_exit, self.exits.len() as u32),
            entries: (first_entry, self.entries.len() as u32),
            live: true,
            source: None,
        });
        if translated.shared {
            self.make_findable(id, translated);
        }
        id
    }

    fn make_findable(&mut self, id: FragmentId, translated: Emitted<'_>) {
        let code = self.fragments[id.0 as usize].code;
        for entry in translated.map {
            let guest = translated.start + u32::from(entry.guest);
            self.starts[(guest / 64) as usize] |= 1 << (guest % 64);
        }
        if let Some(first) = translated.map.first() {
            self.heads.insert(translated.start, code + u64::from(first.code));
        }
        for page in translated.start / PAGE..=(translated.end - 1) / PAGE {
            self.pages.entry(page).or_default().push(id);
        }
    }

    fn add_exit(&mut self, code: u64, exit: &ExitSite) {
        let number = self.exits.len() as u32;
        let next = self.incoming.insert(exit.target, number).unwrap_or(NONE);
        self.targets[(exit.target / 64) as usize] |= 1 << (exit.target % 64);
        let offset = (code - self.base) as u32;
        self.exits.push(PackedExit {
            site: offset + exit.site,
            target: exit.target,
            stub: exit.stub.map_or(NONE, |stub| offset + stub),
            next: next | if exit.stub.is_none() { LINKED } else { 0 },
        });
    }

    /// The number that the next exit gets.
    pub fn next_exit(&self) -> u32 {
        self.exits.len() as u32
    }

    /// An exit by its number.
    pub fn exit(&self, number: u32) -> ExitRecord {
        let packed = self.exits[number as usize];
        ExitRecord {
            site: self.base + u64::from(packed.site),
            target: packed.target,
            stub: (packed.stub != NONE).then_some(self.base + u64::from(packed.stub)),
            linked: packed.next & LINKED != 0,
            live: packed.next & DEAD == 0,
        }
    }

    /// Notes that an exit is linked, or is not any more and goes to `stub`.
    pub fn set_exit(&mut self, number: u32, linked: bool, stub: Option<u64>) {
        let exit = &mut self.exits[number as usize];
        exit.next = exit.next & !LINKED | if linked { LINKED } else { 0 };
        exit.stub = stub.map_or(NONE, |stub| (stub - self.base) as u32);
    }

    /// The numbers of a fragment's exits.
    pub fn exits_of(&self, fragment: &Fragment) -> core::ops::Range<u32> {
        fragment.exits.0..fragment.exits.1
    }

    /// Notes a stub that was made for an exit after its fragment.
    pub fn add_stub(&mut self, address: u64, number: u32) {
        self.stubs.push(((address - self.base) as u32, number));
    }

    /// The exit whose stub of `length` bytes, made after its fragment, holds an address.
    pub fn stub_containing(&self, address: u64, length: usize) -> Option<u32> {
        let offset = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let after = self.stubs.partition_point(|&(start, _)| start <= offset);
        let &(start, number) = self.stubs[..after].last()?;
        (((offset - start) as usize) < length).then_some(number)
    }

    /// The live exits that lead to a guest address.
    pub fn incoming(&self, guest: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = self.incoming.get(&guest).copied().unwrap_or(NONE);
        while next != NONE {
            let exit = self.exits[next as usize].next;
            if exit & DEAD == 0 {
                found.push(next);
            }
            next = exit & NONE;
        }
        found
    }

    /// Whether exits wait for, or lead to, this guest address.
    pub fn has_incoming(&self, guest: u32) -> bool {
        self.targets[(guest / 64) as usize] & (1 << (guest % 64)) != 0
    }

    /// Whether a live translated instruction starts at a guest address.
    pub fn is_translated(&self, guest: u32) -> bool {
        self.starts[(guest / 64) as usize] & (1 << (guest % 64)) != 0
    }

    /// Where the code of a guest instruction is.
    pub fn lookup(&self, guest: u32) -> Option<u64> {
        if let Some(&address) = self.heads.get(&guest) {
            return Some(address);
        }
        if !self.is_translated(guest) {
            return None;
        }
        self.pages.get(&(guest / PAGE))?.iter().rev().find_map(|&id| {
            let fragment = self.get(id);
            if guest >= fragment.end {
                return None;
            }
            Some(fragment.code + u64::from(self.offset_in(fragment, guest)?))
        })
    }

    /// Notes the guest's code that a fragment was made from, the first time.
    pub fn keep_source(&mut self, id: FragmentId, source: &[u8]) {
        self.fragments[id.0 as usize].source.get_or_insert_with(|| source.into());
    }

    /// Whether a live fragment starts at a guest address.
    pub fn starts_fragment(&self, guest: u32) -> bool {
        self.heads.contains_key(&guest)
    }

    /// Where the fragments start that hold the instruction at a guest address.
    pub fn starts_of_fragments_at(&self, guest: u32) -> Vec<u32> {
        let on_page = self.pages.get(&(guest / PAGE)).into_iter().flatten();
        let holding =
            on_page.map(|&id| self.get(id)).filter(|&fragment| self.offset_in(fragment, guest).is_some());
        holding.map(|fragment| fragment.start).collect()
    }

    /// A fragment by its number.
    pub fn get(&self, id: FragmentId) -> &Fragment {
        &self.fragments[id.0 as usize]
    }

    /// Where each guest instruction of a fragment begins.
    pub fn map_of(&self, fragment: &Fragment) -> &[MapEntry] {
        &self.map[fragment.map.0 as usize..fragment.map.1 as usize]
    }

    /// Guest addresses that a fragment has indirect entries for.
    pub fn entries_of(&self, fragment: &Fragment) -> &[u32] {
        &self.entries[fragment.entries.0 as usize..fragment.entries.1 as usize]
    }

    /// The fragment, live or not, whose code holds an address.
    pub fn containing(&self, address: u64) -> Option<&Fragment> {
        // The cache is filled in ascending order, so the fragments are sorted by address.
        let after = self.fragments.partition_point(|fragment| fragment.code <= address);
        let fragment = self.fragments[..after].last()?;
        (address < fragment.code + u64::from(fragment.length)).then_some(fragment)
    }

    /// All fragments in the order of their code.
    pub fn all(&self) -> &[Fragment] {
        &self.fragments
    }

    /// Takes the fragments that cover a guest page out of the index and returns their numbers. Their exits are dead; the
    /// caller unlinks what leads to them.
    pub fn retire_page(&mut self, page: u32) -> Vec<FragmentId> {
        let ids = self.pages.remove(&page).unwrap_or_default();
        for &id in &ids {
            self.retire(id);
        }
        ids
    }

    /// Likewise for the fragments that hold the instruction at a guest address.
    pub fn retire_at(&mut self, guest: u32) -> Vec<FragmentId> {
        let on_page = self.pages.get(&(guest / PAGE)).cloned().unwrap_or_default();
        let holds = |id: &FragmentId| self.offset_in(self.get(*id), guest).is_some();
        let ids: Vec<FragmentId> = on_page.into_iter().filter(holds).collect();
        for &id in &ids {
            self.retire(id);
        }
        ids
    }

    fn retire(&mut self, id: FragmentId) {
        let fragment = self.fragments[id.0 as usize].clone();
        for page in fragment.start / PAGE..=(fragment.end - 1) / PAGE {
            if let Some(list) = self.pages.get_mut(&page) {
                list.retain(|&listed| listed != id);
            }
        }
        self.fragments[id.0 as usize].live = false;
        self.heads.remove(&fragment.start);
        for number in fragment.exits.0..fragment.exits.1 {
            self.exits[number as usize].next |= DEAD;
        }
        for at in fragment.map.0..fragment.map.1 {
            let guest = fragment.start + u32::from(self.map[at as usize].guest);
            self.starts[(guest / 64) as usize] &= !(1 << (guest % 64));
        }
    }

    /// Where in a fragment the code of a guest instruction is.
    fn offset_in(&self, fragment: &Fragment, guest: u32) -> Option<u32> {
        let distance = u16::try_from(guest.checked_sub(fragment.start)?).ok()?;
        let map = self.map_of(fragment);
        let found = map.binary_search_by_key(&distance, |entry| entry.guest).ok()?;
        Some(u32::from(map[found].code))
    }

    /// Guest addresses at which the instructions of a fragment begin.
    pub fn guest_addresses(&self, id: FragmentId) -> Vec<u32> {
        let fragment = self.get(id);
        self.map_of(fragment).iter().map(|entry| fragment.start + u32::from(entry.guest)).collect()
    }

    /// Pages that hold translated code, within a range of guest pages.
    pub fn pages_in(&self, first: u32, last: u32) -> Vec<u32> {
        if u64::from(last - first) < self.pages.len() as u64 {
            return (first..=last).filter(|page| self.pages.contains_key(page)).collect();
        }
        self.pages.keys().copied().filter(|page| (first..=last).contains(page)).collect()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.starts.clear();
        self.targets.clear();
        self.fragments.clear();
        self.map.clear();
        self.exits.clear();
        self.entries.clear();
        self.stubs.clear();
        self.pages.clear();
        self.incoming.clear();
        self.heads.clear();
    }
}

/// What [`Index::insert`] needs to know of a translation.
#[derive(Clone, Copy, Debug)]
pub struct Emitted<'a> {
    /// Guest address of the first instruction.
    pub start: u32,
    /// Guest address past the last.
    pub end: u32,
    /// Bytes emitted.
    pub length: u32,
    /// Bytes before the stubs.
    pub body: u32,
    /// See [`Fragment`].
    pub map: &'a [MapEntry],
    /// Its exits.
    pub exits: &'a [ExitSite],
    /// Its indirect entries: guest address, offset.
    pub entries: &'a [(u32, u32)],
    /// Whether others may link to it; false for code that is run once.
    pub shared: bool,
}

/// Guest addresses are hashed by one multiplication: they come from the guest, but only its own time is at stake.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        let mixed = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

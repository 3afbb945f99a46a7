//! Translations that outlive the process which made them.
//!
//! There is one file for each mapped file and each address it was mapped at, made by one build of Endo: a [`record`] for
//! every fragment, in a [`group`] for every guest page. What is taken from it is treated like a fresh
//! translation: the guest's bytes are compared with those it was made from, its addresses are filled in, the verifier
//! judges it. So the worst that a wrong file can do to the host is to be refused.
//!
//! What it could do to the *guest* is to replace its code by other confined code, and any guest may write files with its
//! user's rights. That is why every group is authenticated with a key that no guest knows, which is bound to the
//! build, the file and the address ([`identity`]).
//!
//! The process that began with the store writes it, once, when it ends or executes another program; forked children do not.

mod directory;
mod file;
mod group;
mod identity;
pub mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use endo_core::{CodeOrigin, StoreConfig};

use self::directory::Directory;
use self::file::StoredFile;
use self::group::Group;
use self::identity::{Build, ObjectKey};
use self::record::Parts;
use crate::fragments::PAGE;

/// New records of one file that are worth a new file, in bytes; and in relation to what it has already.
const WORTH_BYTES: usize = 4096;
const WORTH_SHARE: usize = 32;
/// What is kept in memory of new records of one file, in bytes.
const MAX_FRESH: usize = 32 << 20;

/// The store, as one process sees it.
#[derive(Debug)]
pub struct Store {
    directory: Directory,
    build: Build,
    objects: HashMap<CodeOrigin, Object>,
    /// The process that may write.
    owner: u32,
    /// Nothing is kept any more.
    is_closed: bool,
    /// Files that were refused.
    pub refused_files: u64,
    /// Groups that were refused.
    pub refused_groups: u64,
    /// Fragments written.
    pub saved: u64,
}

/// What is stored of one mapped file, and what is new.
#[derive(Debug)]
struct Object {
    key: ObjectKey,
    stored: Option<StoredFile>,
    /// Pages whose group has been taken, or that have none.
    visited: HashSet<u32>,
    /// New records by where their fragments start.
    fresh: BTreeMap<u32, Vec<u8>>,
    fresh_bytes: usize,
    /// Starts of fragments that are not worth keeping any more.
    dropped: HashSet<u32>,
}

impl Store {
    /// The store in a directory. `layout` is whatever emitted code takes for granted.
    pub fn new(config: &StoreConfig, layout: &[u8]) -> std::io::Result<Self> {
        Ok(Store {
            directory: Directory::new(std::sync::Arc::clone(&config.directory)),
            build: Build::of_this_program(config.key, layout)?,
            objects: HashMap::new(),
            owner: std::process::id(),
            is_closed: false,
            refused_files: 0,
            refused_groups: 0,
            saved: 0,
        })
    }

    /// Code of a file was mapped: looks for what is stored of it.
    pub fn admit(&mut self, origin: CodeOrigin, first_page: u32, last_page: u32) {
        if let Some(object) = self.objects.get_mut(&origin) {
            object.visited.retain(|page| !(first_page..=last_page).contains(page));
            return;
        }
        let object = self.open(&origin);
        self.objects.insert(origin, object);
    }

    fn open(&mut self, origin: &CodeOrigin) -> Object {
        let key = self.build.object_key(origin);
        let stored = match StoredFile::open(&self.directory, &key) {
            Ok(found) => found,
            Err(_refusal) => {
                self.refused_files += 1;
                None
            }
        };
        Object::new(key, stored)
    }

    /// What emitted code takes for granted has changed, before there was any: other files hold it.
    pub fn refine(&mut self, layout: &[u8]) {
        self.build.refine(layout);
        let admitted: Vec<CodeOrigin> = self.objects.keys().copied().collect();
        for origin in admitted {
            let object = self.open(&origin);
            self.objects.insert(origin, object);
        }
    }

    /// What is stored of a page of guest code; at most once until [`Store::forget_visits`] or the page is admitted again.
    pub fn take(&mut self, origin: &CodeOrigin, page: u32) -> Option<Group> {
        let object = self.objects.get_mut(origin)?;
        let stored = object.stored.as_ref()?;
        if !object.visited.insert(page) {
            return None;
        }
        let group = stored.group(page, &object.key)?;
        if group.is_none() {
            self.refused_groups += 1;
            object.stored.as_mut()?.disown(page);
        }
        group
    }

    /// The translation of a page was not what is there now.
    pub fn refuse(&mut self, origin: &CodeOrigin, page: u32) {
        self.refused_groups += 1;
        if let Some(stored) = self.objects.get_mut(origin).and_then(|object| object.stored.as_mut()) {
            stored.disown(page);
        }
    }

    /// Keeps a new fragment, to be written at the end.
    pub fn keep(&mut self, origin: &CodeOrigin, parts: &Parts<'_>) {
        let Some(object) = self.objects.get_mut(origin).filter(|_| !self.is_closed) else { return };
        let Some(bytes) = parts.to_bytes().filter(|bytes| object.fresh_bytes + bytes.len() <= MAX_FRESH)
        else {
            return;
        };
        object.fresh_bytes += bytes.len();
        object.dropped.remove(&parts.start);
        object.fresh.insert(parts.start, bytes);
    }

    /// The fragment that starts at a guest address is not to be kept.
    pub fn drop_fragment(&mut self, origin: &CodeOrigin, start: u32) {
        let Some(object) = self.objects.get_mut(origin) else { return };
        object.fresh.remove(&start);
        object.dropped.insert(start);
    }

    /// Everything has been dropped from the cache: it may be taken again.
    pub fn forget_visits(&mut self) {
        self.objects.values_mut().for_each(|object| object.visited.clear());
    }

    /// A forked child keeps nothing: what it does is seldom done again.
    pub fn forget_fresh(&mut self) {
        self.is_closed = true;
        self.objects.values_mut().for_each(|object| object.fresh.clear());
    }

    /// Whether this process writes.
    pub fn is_owner(&self) -> bool {
        std::process::id() == self.owner
    }

    /// Writes what is new where it is worth it. A directory that cannot be written costs what is new, nothing else.
    pub fn save(&mut self) {
        if !self.is_owner() {
            return;
        }
        for object in self.objects.values_mut() {
            if !object.is_worth_saving() {
                continue;
            }
            let count = object.fresh.len() as u64;
            if object.save(&self.directory) {
                self.saved += count;
            }
        }
    }
}

impl Object {
    fn new(key: ObjectKey, stored: Option<StoredFile>) -> Self {
        Object {
            key,
            stored,
            visited: HashSet::new(),
            fresh: BTreeMap::new(),
            fresh_bytes: 0,
            dropped: HashSet::new(),
        }
    }

    fn is_worth_saving(&self) -> bool {
        let stored = self.stored.as_ref().map_or(0, StoredFile::length);
        self.fresh_bytes >= WORTH_BYTES && self.fresh_bytes >= stored / WORTH_SHARE
    }

    fn save(&mut self, directory: &Directory) -> bool {
        let is_new = self.stored.is_none();
        let mut pages: BTreeMap<u32, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
        let dropped_pages = self.dropped.iter().map(|&start| start / PAGE);
        for page in dropped_pages {
            pages.entry(page).or_default();
        }
        for (start, record) in std::mem::take(&mut self.fresh) {
            pages.entry(start / PAGE).or_default().insert(start, record);
        }
        self.fresh_bytes = 0;
        let mut groups: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        if let Some(stored) = &self.stored {
            for page in stored.pages() {
                let Some(changes) = pages.get_mut(&page) else {
                    groups.extend(stored.raw(page).map(|raw| (page, raw)));
                    continue;
                };
                let Some(Some(old)) = stored.group(page, &self.key) else { continue };
                for record in old.records() {
                    if !self.dropped.contains(&record.start) {
                        changes.entry(record.start).or_insert_with(|| record.bytes.to_vec());
                    }
                }
            }
        }
        for (page, records) in pages.iter().filter(|(_, records)| !records.is_empty()) {
            groups.insert(*page, group::seal(*page, records.values(), &self.key));
        }
        self.dropped.clear();
        let Some(bytes) = file::assemble(&groups, &self.key) else { return false };
        if !directory.replace(&self.key.file_name(), &bytes) {
            return false;
        }
        if is_new {
            directory.sweep();
        }
        self.stored = StoredFile::open(directory, &self.key).ok().flatten();
        true
    }
}

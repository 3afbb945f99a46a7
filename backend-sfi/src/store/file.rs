//! A file of the store.
//!
//! ```text
//!   magic: 8 bytes
//!   pages: u32                 how many
//!   index                      for each page: its number, where its group begins, the group's length; u32 each
//!   tag                        of all before
//!   groups
//! ```
//!
//! It is mapped, and what is used of it is first copied and then authenticated: whoever changes it meanwhile changes
//! nothing that has been looked at. That it may become shorter the copy notices.

use std::collections::BTreeMap;

use endo_core::HostAddr;
use endo_core::copy::copy;

use super::directory::{Directory, Opened, Refusal};
use super::group::Group;
use super::identity::{ObjectKey, Purpose, TAG_BYTES};
use crate::window;

const HEAD_BYTES: usize = 12;
const ENTRY_BYTES: usize = 12;
/// No file is longer.
const MAX_BYTES: usize = 128 << 20;

/// A file that has been opened and whose index is authentic.
#[derive(Debug)]
pub(super) struct StoredFile {
    base: u64,
    length: usize,
    /// Where the groups of pages are: offset, length.
    index: BTreeMap<u32, (u32, u32)>,
}

impl StoredFile {
    /// Opens what is stored under a key, if there is anything.
    pub(super) fn open(directory: &Directory, key: &ObjectKey) -> Result<Option<StoredFile>, Refusal> {
        let Some(Opened { file, length }) = directory.open(&key.file_name(), MAX_BYTES)? else {
            return Ok(None);
        };
        if length < HEAD_BYTES + TAG_BYTES {
            return Err(Refusal);
        }
        let base = window::map_file(&file, length).map_err(|_| Refusal)?;
        let mut stored = StoredFile { base, length, index: BTreeMap::new() };
        stored.read_index(key).ok_or(Refusal)?;
        Ok(Some(stored))
    }

    fn read_index(&mut self, key: &ObjectKey) -> Option<()> {
        let head = self.read(0, HEAD_BYTES)?;
        let (_, count) = head.split_first_chunk::<8>()?;
        let count = u32::from_le_bytes(count.try_into().ok()?) as usize;
        let end = count.checked_mul(ENTRY_BYTES)?.checked_add(HEAD_BYTES + TAG_BYTES)?;
        if end > self.length {
            return None;
        }
        let bytes = self.read(0, end)?;
        let content = key.open(Purpose::Head, &bytes)?;
        for entry in content[HEAD_BYTES..].as_chunks::<ENTRY_BYTES>().0 {
            let word =
                |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
            self.index.insert(word(0), (word(4), word(8)));
        }
        Some(())
    }

    /// The pages that it has groups of.
    pub(super) fn pages(&self) -> impl Iterator<Item = u32> {
        self.index.keys().copied()
    }

    /// The group of a page: none, one that is not authentic, or one that is.
    #[expect(clippy::option_option, reason = "there is none, or it is refused, or it is good")]
    pub(super) fn group(&self, page: u32, key: &ObjectKey) -> Option<Option<Group>> {
        self.index.get(&page)?;
        Some(self.raw(page).and_then(|bytes| Group::open(page, bytes, key)))
    }

    /// The bytes of a group, whatever they are.
    pub(super) fn raw(&self, page: u32) -> Option<Vec<u8>> {
        let &(offset, length) = self.index.get(&page)?;
        self.read(offset as usize, length as usize)
    }

    /// Forgets the group of a page.
    pub(super) fn disown(&mut self, page: u32) {
        self.index.remove(&page);
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    fn read(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        if offset.checked_add(length)? > self.length {
            return None;
        }
        let mut bytes = vec![0; length];
        let from = HostAddr(self.base as usize + offset);
        // SAFETY: the destination has `length` bytes; the source lies in the mapping of the file, as was checked.
        let missing = unsafe { copy(HostAddr(bytes.as_mut_ptr() as usize), from, length) };
        (missing == 0).then_some(bytes)
    }
}

impl Drop for StoredFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it exists.
        unsafe { libc::munmap(self.base as *mut _, self.length) };
    }
}

/// The bytes of a file with these groups. `None` if it would be too long.
pub(super) fn assemble(groups: &BTreeMap<u32, Vec<u8>>, key: &ObjectKey) -> Option<Vec<u8>> {
    let mut offset = HEAD_BYTES + groups.len() * ENTRY_BYTES + TAG_BYTES;
    let total: usize = offset + groups.values().map(Vec::len).sum::<usize>();
    if total > MAX_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(Purpose::Head.word());
    bytes.extend_from_slice(&(groups.len() as u32).to_le_bytes());
    for (page, group) in groups {
        for word in [*page, offset as u32, group.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        offset += group.len();
    }
    key.seal(&mut bytes);
    groups.values().for_each(|group| bytes.extend_from_slice(group));
    Some(bytes)
}

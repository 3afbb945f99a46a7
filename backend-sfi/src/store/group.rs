//! All records of one guest page: what is authenticated, and taken, in one go.

use super::identity::{ObjectKey, Purpose};
use super::record::Record;
use crate::fragments::PAGE;

/// Purpose and page.
const HEAD_BYTES: usize = 12;

/// An authentic group: a copy that nobody else can change.
#[derive(Debug)]
pub struct Group {
    page: u32,
    bytes: Vec<u8>,
}

impl Group {
    /// Checks the copy of a stored group.
    pub(super) fn open(page: u32, mut bytes: Vec<u8>, key: &ObjectKey) -> Option<Group> {
        let content = key.open(Purpose::Group, &bytes)?;
        let (stored_page, _) = content[Purpose::Group.word().len()..].split_first_chunk()?;
        if u32::from_le_bytes(*stored_page) != page {
            return None;
        }
        let length = content.len();
        bytes.truncate(length);
        Some(Group { page, bytes })
    }

    /// Its records, up to the first that makes no sense.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &self.bytes[HEAD_BYTES..];
        let records = core::iter::from_fn(move || Record::take(&mut rest));
        records.filter(|record| record.start / PAGE == self.page)
    }
}

/// The bytes of a group.
pub(super) fn seal<'a>(page: u32, records: impl Iterator<Item = &'a Vec<u8>>, key: &ObjectKey) -> Vec<u8> {
    let mut bytes = Purpose::Group.word().to_vec();
    bytes.extend_from_slice(&page.to_le_bytes());
    records.for_each(|record| bytes.extend_from_slice(record));
    key.seal(&mut bytes);
    bytes
}

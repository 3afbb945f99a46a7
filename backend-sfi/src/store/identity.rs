//! What a stored translation depends on, and the keys that follow from it.

use endo_core::{CodeOrigin, StoreKey};

/// Changes with the format of the files.
const FORMAT: &[u8] = b"endo-sfi store 1";

/// The program that emits code: which build of Endo, and what its code takes for granted.
#[derive(Debug)]
pub(super) struct Build {
    key: ObjectKey,
}

/// A key that is bound to one build, one mapped file and one address.
#[derive(Clone, Copy)]
pub(super) struct ObjectKey([u8; 32]);

impl core::fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ObjectKey(…)")
    }
}

/// What tagged bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Name,
    Head,
    Group,
}

impl Purpose {
    /// What bytes of this purpose begin with.
    pub(super) fn word(self) -> &'static [u8; 8] {
        match self {
            Purpose::Name => b"endoname",
            Purpose::Head => b"endosfi1",
            Purpose::Group => b"endopage",
        }
    }
}

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 32;

impl Build {
    /// This process's program. Its file tells one build from another: whoever replaces it makes a new inode or changes
    /// the old one's times.
    pub(super) fn of_this_program(key: StoreKey, layout: &[u8]) -> std::io::Result<Build> {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::metadata("/proc/self/exe")?;
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(FORMAT);
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        for word in [file.dev(), file.ino(), file.size()] {
            hasher.update(&word.to_le_bytes());
        }
        for word in [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()] {
            hasher.update(&word.to_le_bytes());
        }
        hasher.update(layout);
        Ok(Build { key: ObjectKey(*hasher.finalize().as_bytes()) })
    }

    /// What its code takes for granted has changed.
    pub(super) fn refine(&mut self, layout: &[u8]) {
        self.key = ObjectKey(*blake3::keyed_hash(&self.key.0, layout).as_bytes());
    }

    /// The key of a file that was mapped.
    pub(super) fn object_key(&self, origin: &CodeOrigin) -> ObjectKey {
        let CodeOrigin { device, inode, length, modified, changed, base } = *origin;
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        for word in [device, inode, length, base] {
            hasher.update(&word.to_le_bytes());
        }
        for word in [modified.0, modified.1, changed.0, changed.1] {
            hasher.update(&word.to_le_bytes());
        }
        ObjectKey(*hasher.finalize().as_bytes())
    }
}

impl ObjectKey {
    /// The tag of some bytes, which begin with the word that tells their purpose. (In one call: the hash then takes four
    /// kibibytes at a time.) Comparing two tags takes the same time whatever they are.
    fn tag(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }

    /// The bytes before the tag that ends `bytes`, if the tag is theirs.
    pub(super) fn open<'a>(&self, purpose: Purpose, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (content, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        let is_good =
            content.starts_with(purpose.word()) && self.tag(content) == blake3::Hash::from_bytes(*tag);
        is_good.then_some(content)
    }

    /// Appends the tag of what is there, which begins with the word of its purpose.
    pub(super) fn seal(&self, bytes: &mut Vec<u8>) {
        let tag = self.tag(bytes);
        bytes.extend_from_slice(tag.as_bytes());
    }

    /// The name of the file in the store's directory.
    pub(super) fn file_name(&self) -> String {
        self.tag(Purpose::Name.word()).to_hex()[..32].to_owned()
    }
}

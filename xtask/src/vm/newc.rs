//! An archive for the kernel's first file system: cpio's "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Read, Write};

/// The kinds of entry, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes entries one after the other; a directory comes before what is in it.
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Archive { to, entries: 0 }
    }

    /// Adds a directory. Paths have no slash in front.
    pub(super) fn directory(&mut self, path: &[u8], mode: u32) -> io::Result<()> {
        self.head(path, DIRECTORY | mode, 0)
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.file_of_kind(path, LINK | 0o777, target.len() as u64, target)
    }

    /// Adds a file whose content is read: exactly `length` bytes.
    pub(super) fn file(&mut self, path: &[u8], mode: u32, length: u64, content: impl Read) -> io::Result<()> {
        self.file_of_kind(path, REGULAR | mode, length, content)
    }

    /// Marks the end and returns what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.head(b"TRAILER!!!", 0, 0)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn file_of_kind(&mut self, path: &[u8], mode: u32, length: u64, content: impl Read) -> io::Result<()> {
        self.head(path, mode, length)?;
        let copied = io::copy(&mut content.take(length), &mut self.to)?;
        if copied != length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter"));
        }
        self.pad(length)
    }

    fn head(&mut self, path: &[u8], mode: u32, length: u64) -> io::Result<()> {
        let length = u32::try_from(length)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "4 GiB or more in one file"))?;
        self.entries += 1;
        let name_length = path.len() as u32 + 1;
        // inode, mode, owner, group, links, time, size, device and its minor, that of a special file, name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.to.write_all(b"070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(path)?;
        self.to.write_all(&[0])?;
        self.pad(110 + u64::from(name_length))
    }

    /// Heads and contents end at a multiple of four.
    fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = length.wrapping_neg() % 4;
        self.to.write_all(&[0; 3][..rest as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_and_every_content_begins_at_a_multiple_of_four() {
        let mut archive = Archive::new(Vec::new());
        archive.directory(b"etc", 0o755).unwrap();
        archive.file(b"etc/a", 0o644, 5, b"hello".as_slice()).unwrap();
        archive.link(b"b", b"etc/a").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let heads: Vec<usize> =
            bytes.windows(6).enumerate().filter(|(_, six)| six == b"070701").map(|(at, _)| at).collect();
        assert_eq!(heads.len(), 4);
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
        let file = &bytes[heads[1]..heads[2]];
        assert_eq!(&file[14..22], b"000081a4");
        assert_eq!(&file[54..62], b"00000005");
        assert_eq!(&file[110..116], b"etc/a\0");
        assert_eq!(&file[116..121], b"hello");
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file(b"a", 0o644, 5, b"hell".as_slice()).is_err());
    }
}

//! perf's map of generated code (linux/tools/perf/Documentation/jit-interface.txt): one line a fragment.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// An open map.
#[derive(Debug)]
pub struct PerfMap {
    file: File,
}

impl PerfMap {
    /// Creates the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(PerfMap { file: File::create(path)? })
    }

    /// Adds a fragment. A full disk costs lines, not the guest.
    pub fn fragment(&mut self, code: u64, length: usize, guest: u32) {
        let _ = writeln!(self.file, "{code:x} {length:x} guest_{guest:x}");
    }
}

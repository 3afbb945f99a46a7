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

#[cfg(test)]
mod tests {
    use super::*;

    /// perf reads `START SIZE NAME` with both numbers in hexadecimal and without a prefix.
    #[test]
    fn a_line_holds_start_size_and_name() {
        let path = std::env::temp_dir().join(format!("endo-perf-test-{}.map", std::process::id()));
        let mut map = PerfMap::create(&path).unwrap();
        map.fragment(0x7f00_0000_1000, 0x2c, 0x40_1136);
        map.fragment(0x7f00_0000_102c, 17, 0x40_1150);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "7f0000001000 2c guest_401136\n7f000000102c 11 guest_401150\n");
    }
}

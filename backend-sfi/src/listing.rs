//! Fragments as text: guest and emitted instructions side by side, for people who look for the translator's mistakes.
//!
//! ```text
//! fragment 7f33f0001000: guest 401000..401008, 3 instructions, 8 bytes -> 17 bytes, verified
//!     401000: push   %rbp                                | +0000: push   %rbp
//!     401001: mov    (%rdi),%rax                         | +0001: addr32 mov (%edi),%rax
//! ```

use core::fmt;

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};

use crate::translate::{ExitSite, MapEntry};

/// Characters of the guest's column.
const GUEST_WIDTH: usize = 52;

/// What there is to say of a fragment.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// Guest address of its first instruction.
    pub start: u32,
    /// Guest address past its last.
    pub end: u32,
    /// Guest code from `start` on.
    pub source: &'a [u8],
    /// Where it runs.
    pub address: u64,
    /// The emitted code.
    pub code: &'a [u8],
    /// Bytes of it before the stubs.
    pub body: u32,
    /// Where each guest instruction begins, ascending.
    pub map: &'a [MapEntry],
    /// Its direct branches to other code.
    pub exits: &'a [ExitSite],
    /// Guest addresses that indirect branches enter at, and the offsets of these entries.
    pub entries: &'a [(u32, u32)],
    /// What the verifier says.
    pub verdict: &'a dyn fmt::Display,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fragment {:x}: guest {:x}..{:x}, {} instructions, {} bytes -> {} bytes, {}",
            self.address,
            self.start,
            self.end,
            self.map.len(),
            self.end - self.start,
            self.code.len(),
            self.verdict
        )?;
        let first = self.map.first().map_or(self.body, |entry| u32::from(entry.code));
        self.rows(f, String::new(), 0..first)?;
        for (index, entry) in self.map.iter().enumerate() {
            let next = self.map.get(index + 1).map_or(self.body, |next| u32::from(next.code));
            self.rows(f, self.guest(*entry), u32::from(entry.code)..next)?;
        }
        self.rows(f, "    (exit stubs)".to_owned(), self.body..self.code.len() as u32)?;
        for exit in self.exits {
            let state = match exit.stub {
                Some(stub) => format!("stub at +{stub:04x}"),
                None => "linked".to_owned(),
            };
            writeln!(f, "    exit at +{:04x} to guest {:x}, {state}", exit.site, exit.target)?;
        }
        for (guest, offset) in self.entries {
            writeln!(f, "    indirect entry for guest {guest:x} at +{offset:04x}")?;
        }
        Ok(())
    }
}

impl Listing<'_> {
    /// The guest's instruction at a map entry.
    fn guest(&self, entry: MapEntry) -> String {
        let bytes = self.source.get(usize::from(entry.guest)..).unwrap_or_default();
        let address = self.start + u32::from(entry.guest);
        let instruction = Decoder::with_ip(64, bytes, u64::from(address), DecoderOptions::NONE).decode();
        format!("{address:10x}: {}", text(&instruction))
    }

    /// One row for each emitted instruction, the guest's beside the first.
    fn rows(&self, f: &mut fmt::Formatter<'_>, guest: String, code: core::ops::Range<u32>) -> fmt::Result {
        let mut left = guest;
        let bytes = self.code.get(code.start as usize..code.end as usize).unwrap_or_default();
        let address = self.address + u64::from(code.start);
        if bytes.is_empty() && !left.is_empty() && !left.starts_with("    (") {
            writeln!(f, "{left:<GUEST_WIDTH$} |")?;
        }
        for instruction in Decoder::with_ip(64, bytes, address, DecoderOptions::NONE) {
            let offset = instruction.ip() - self.address;
            writeln!(f, "{left:<GUEST_WIDTH$} | +{offset:04x}: {}", text(&instruction))?;
            left.clear();
        }
        Ok(())
    }
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    GasFormatter::new().format(instruction, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_and_emitted_code_stand_side_by_side() {
        let listing = Listing {
            start: 0x40_1000,
            end: 0x40_1004,
            source: &[0x55, 0x48, 0x8b, 0x07],
            address: 0x7000_0000_1000,
            code: &[0x55, 0x67, 0x48, 0x8b, 0x07, 0xe9, 0, 0, 0, 0],
            body: 10,
            map: &[MapEntry { guest: 0, code: 0 }, MapEntry { guest: 1, code: 1 }],
            exits: &[ExitSite { site: 6, target: 0x40_1004, stub: None }],
            entries: &[(0x40_1000, 0)],
            verdict: &"verified",
        };
        let text = listing.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("guest 401000..401004, 2 instructions, 4 bytes -> 10 bytes, verified"));
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>().join(" "),
            "401000: push %rbp | +0000: push %rbp"
        );
        assert!(lines[2].contains("mov (%rdi),%rax") && lines[2].contains("(%edi),%rax"), "{text}");
        assert!(lines[3].trim_start().starts_with("| +0005: jmp"), "{text}");
        assert_eq!(lines[4], "    exit at +0006 to guest 401004, linked");
        assert_eq!(lines[5], "    indirect entry for guest 401000 at +0000");
    }
}

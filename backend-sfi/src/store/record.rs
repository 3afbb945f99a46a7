//! One fragment without the addresses of a process.
//!
//! All numbers are little-endian.
//!
//! ```text
//!   start: u32                guest address of its first instruction
//!   alignment: u16            its address modulo 16 when it was emitted: fields that are patched, and loops, are aligned
//!   lengths: 6 × u16          of the parts that follow
//!   source                    the guest's bytes
//!   body                      the emitted bytes without exit stubs; fields that lead out of it are zero
//!   map                       (guest, code) offsets of the instructions, u16 each
//!   exits                     offset of the rel32 field, u16, and guest address that it leads to, u32
//!   entries                   guest address, u32, and offset, u16
//!   gates                     offset of the rel32 field, u16, and number of the gate, u16
//! ```

use crate::cache::Gate;
use crate::translate::emit::ALIGNMENT;
use crate::translate::{ExitSite, MapEntry};

const PARTS: usize = 6;
const HEAD_BYTES: usize = 4 + 2 + 2 * PARTS;
/// Bytes of an element of each part.
const SIZES: [usize; PARTS] = [1, 1, 4, 6, 6, 4];

/// A fragment. What it was read from may hold anything: [`Record::take`] makes sure that it is consistent, the verifier
/// that it is confined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Guest address of its first instruction.
    pub start: u32,
    /// Its address modulo [`ALIGNMENT`].
    pub alignment: u16,
    /// The guest's bytes from `start` on.
    pub source: &'a [u8],
    /// The emitted bytes without stubs.
    pub body: &'a [u8],
    parts: [&'a [u8]; PARTS - 2],
    /// All of it.
    pub bytes: &'a [u8],
}

/// The parts of a record as the translator has them.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// See [`Record`].
    pub start: u32,
    /// Where it was emitted for.
    pub address: u64,
    /// The guest's bytes.
    pub source: &'a [u8],
    /// The emitted bytes without stubs.
    pub body: &'a [u8],
    /// Where each guest instruction begins.
    pub map: &'a [MapEntry],
    /// Its direct branches to other code.
    pub exits: &'a [ExitSite],
    /// Guest addresses and offsets of indirect entries.
    pub entries: &'a [(u32, u32)],
    /// Offsets of rel32 fields that lead to gates.
    pub gates: &'a [(u32, Gate)],
}

impl Parts<'_> {
    /// The record's bytes. `None` if it is larger than fragments are.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        let lengths = [
            self.source.len(),
            self.body.len(),
            self.map.len(),
            self.exits.len(),
            self.entries.len(),
            self.gates.len(),
        ];
        let total: usize = lengths.iter().zip(SIZES).map(|(length, size)| length * size).sum();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + total);
        bytes.extend_from_slice(&self.start.to_le_bytes());
        bytes.extend_from_slice(&((self.address % u64::from(ALIGNMENT)) as u16).to_le_bytes());
        for length in lengths {
            bytes.extend_from_slice(&u16::try_from(length).ok()?.to_le_bytes());
        }
        bytes.extend_from_slice(self.source);
        let body = bytes.len();
        bytes.extend_from_slice(self.body);
        let sites = self.exits.iter().map(|exit| exit.site);
        for site in sites.chain(self.gates.iter().map(|&(site, _)| site)) {
            let at = body + site as usize;
            bytes.get_mut(at..at + 4)?.fill(0);
        }
        for entry in self.map {
            bytes.extend_from_slice(&entry.guest.to_le_bytes());
            bytes.extend_from_slice(&entry.code.to_le_bytes());
        }
        for exit in self.exits {
            bytes.extend_from_slice(&u16::try_from(exit.site).ok()?.to_le_bytes());
            bytes.extend_from_slice(&exit.target.to_le_bytes());
        }
        for &(guest, offset) in self.entries {
            bytes.extend_from_slice(&guest.to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(offset).ok()?.to_le_bytes());
        }
        for &(site, gate) in self.gates {
            bytes.extend_from_slice(&u16::try_from(site).ok()?.to_le_bytes());
            bytes.extend_from_slice(&(gate as u16).to_le_bytes());
        }
        Some(bytes)
    }
}

impl<'a> Record<'a> {
    /// Takes a record off the front of `rest`. `None` if there is none, or one that makes no sense.
    pub fn take(rest: &mut &'a [u8]) -> Option<Record<'a>> {
        let (head, mut after) = rest.split_at_checked(HEAD_BYTES)?;
        let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let mut parts = [&head[..0]; PARTS];
        for (index, part) in parts.iter_mut().enumerate() {
            (*part, after) = after.split_at_checked(usize::from(word(6 + 2 * index)) * SIZES[index])?;
        }
        let start = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let [source, body, map, exits, entries, gates] = parts;
        let bytes = &rest[..rest.len() - after.len()];
        let parts = [map, exits, entries, gates];
        let record = Record { start, alignment: word(4), source, body, parts, bytes };
        if !record.is_consistent() {
            return None;
        }
        *rest = after;
        Some(record)
    }

    /// Guest address past its last instruction.
    pub fn end(&self) -> u32 {
        self.start + self.source.len() as u32
    }

    /// Where each guest instruction begins, ascending.
    pub fn map(&self) -> impl Iterator<Item = MapEntry> + use<'a> {
        elements::<4>(self.parts[0]).map(|bytes| MapEntry { guest: half(bytes, 0), code: half(bytes, 2) })
    }

    /// Offsets of the exits' rel32 fields and guest addresses that they lead to.
    pub fn exits(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        elements::<6>(self.parts[1]).map(|bytes| (half(bytes, 0).into(), full(bytes, 2)))
    }

    /// Guest addresses and offsets of indirect entries.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        elements::<6>(self.parts[2]).map(|bytes| (full(bytes, 0), half(bytes, 4).into()))
    }

    /// Offsets of rel32 fields and numbers of the gates that they lead to.
    pub fn gates(&self) -> impl Iterator<Item = (u32, u16)> + use<'a> {
        elements::<4>(self.parts[3]).map(|bytes| (half(bytes, 0).into(), half(bytes, 2)))
    }

    fn is_consistent(&self) -> bool {
        let body = self.body.len() as u32;
        let inside = |site: u32| site + 4 <= body;
        let ascends = self.map().zip(self.map().skip(1)).all(|(one, next)| one.guest < next.guest);
        self.start.checked_add(self.source.len() as u32).is_some()
            && u32::from(self.alignment) < ALIGNMENT
            && ascends
            && self.map().next().is_some_and(|first| first.guest == 0)
            && self
                .map()
                .all(|entry| usize::from(entry.guest) < self.source.len() && u32::from(entry.code) < body)
            && self.exits().all(|(site, _)| inside(site))
            && self.entries().all(|(_, offset)| offset < body)
            && self.gates().all(|(site, _)| inside(site))
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = &[u8; N]> {
    bytes.as_chunks::<N>().0.iter()
}

fn half<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn full<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

//! What needs no decoder: common forms, direct branches, dispatches and accesses of context slots, known by their bytes.

use super::{Branch, Walk};
use crate::verify::form::Check;
use crate::verify::kind::Kind;
use crate::verify::operand;
use crate::verify::short::{self, Short};

impl Walk<'_> {
    /// Steps over the common instruction that `bytes` begin with, `at` bytes from the fragment's start, as [`Walk::step`] would,
    /// and says how long it is. `None`, and nothing has changed, for all that is not common or not accepted.
    #[inline]
    pub(super) fn common(&mut self, bytes: &[u8], at: usize, address: u64) -> Option<usize> {
        let length = match short::take(bytes) {
            Some(Short { check, length }) => {
                self.findings.add(at);
                if check != Check::Keep {
                    self.index = None;
                }
                self.ends = false;
                length
            }
            None => self.branch_or_slot(bytes, at, address + at as u64)?,
        };
        (self.before, self.latest) = (self.latest, None);
        Some(length)
    }

    /// A direct branch, a dispatch, or an access of a context slot, at `address`.
    #[inline]
    fn branch_or_slot(&mut self, bytes: &[u8], at: usize, address: u64) -> Option<usize> {
        let target = |length: u64, distance: i32| (address + length).wrapping_add_signed(i64::from(distance));
        match *bytes {
            [0x70..=0x7f, distance, ..] => {
                self.direct(at, 2, target(2, i32::from(distance as i8)), Kind::Jcc)
            }
            [0x0f, 0x80..=0x8f, a, b, c, d, ..] => {
                self.direct(at, 6, target(6, i32::from_le_bytes([a, b, c, d])), Kind::Jcc)
            }
            [0xe9, a, b, c, d, ..] => {
                self.direct(at, 5, target(5, i32::from_le_bytes([a, b, c, d])), Kind::Jmp)
            }
            [0x64, ..] => self.slot(bytes, at),
            [0x65, ..] if bytes.starts_with(&operand::DISPATCH) => {
                // Nothing may lead to what follows the write of the index: not to this either.
                let index = self.index.take()?;
                self.findings.add(at);
                self.findings.seal(index, at);
                self.ends = true;
                Some(operand::DISPATCH.len())
            }
            _ => None,
        }
    }

    /// A direct branch without prefixes.
    fn direct(&mut self, at: usize, length: usize, target: u64, kind: Kind) -> Option<usize> {
        if target == self.layout.gates.syscall {
            return None;
        }
        self.findings.add(at);
        self.findings.branches.push(Branch { at, length, target, inside: false });
        if length > 4 {
            self.findings.sites.push(at + length - 4);
        }
        self.index = None;
        self.ends = kind == Kind::Jmp;
        Some(length)
    }

    /// A load or store of a context slot, of any register but rsp.
    fn slot(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let access = bytes.get(..9)?;
        operand::context_access(access, &self.layout.context).ok()?;
        let is_load = match *access {
            [_, 0x48, _, 0x24, ..] => return None,
            [_, _, 0x8b, ..] => true,
            _ => false,
        };
        if is_load {
            self.index = None;
        }
        self.findings.add(at);
        self.ends = false;
        Some(access.len())
    }
}

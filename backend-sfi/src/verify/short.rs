//! Common instruction forms, known by their bytes: most emitted instructions need no decoder.
//!
//! A form is an opcode of the one-byte or the 0F map with its mandatory prefix, REX.W, and the middle field of its ModRM byte.
//! `build.rs` asks the decoder once and for all which forms the allow-list has, how they are checked, and how long
//! they are. What is rare, unclear or refused is not in the table, and goes to the decoder: nothing is refused here.
//! A test compares every encoding that this takes with what the decoder says of it.

/// Row of [`FORMS`] by map, mandatory prefix, REX.W and opcode; 0 for none.
static ROWS: &[u8; 4096] = include_bytes!(concat!(env!("OUT_DIR"), "/verify_rows.bin"));
/// Forms by row, ModRM's middle field, and whether ModRM names a register: see [`form`].
static FORMS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/verify_forms.bin"));

use super::form::{self, Check};

/// One recognised instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Short {
    /// How it is checked, and what it does to what is known.
    pub(super) check: Check,
    /// Bytes of it.
    pub(super) length: usize,
}

const RSP: u8 = 4;
const R11: u8 = 11;
/// No register.
const NONE: u8 = 16;

/// Number of a mandatory prefix, as [`form::key`] counts them; 0 for other bytes.
static MANDATORY: [u8; 256] = {
    let mut table = [0; 256];
    table[0x66] = 1;
    table[0xf3] = 2;
    table[0xf2] = 3;
    table
};

/// Bytes of a ModRM byte and of what belongs to it, as [`form::memory_bytes`] says; 0 if that is relative to the instruction
/// pointer, [`LONGER`] if it may be longer by four.
static LENGTHS: [u8; 256] = {
    let mut table = [1; 256];
    let mut modrm = 0;
    while modrm < 0xc0 {
        table[modrm] = match form::memory_bytes(modrm as u8, 0) {
            Some(bytes) => bytes as u8,
            None => 0,
        };
        if modrm < 0x40 && modrm & 7 == 4 {
            table[modrm] |= LONGER;
        }
        modrm += 1;
    }
    table
};
const LONGER: u8 = 0x80;

/// The instruction that `bytes` begin with, if it has a common form, is confined, and neither writes rsp nor has a part
/// in a sequence of several instructions.
#[inline]
pub(super) fn take(bytes: &[u8]) -> Option<Short> {
    let short = match bytes.first_chunk::<16>() {
        Some(bytes) => look_at(bytes)?,
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len()].copy_from_slice(bytes);
            look_at(&padded)?
        }
    };
    (short.length <= bytes.len()).then_some(short)
}

/// Hardly a branch, for which one of them an instruction takes no processor can guess: that would cost more than the rest.
#[inline]
fn look_at(bytes: &[u8; 16]) -> Option<Short> {
    // Five bytes of prefixes and opcode, one or two that say where the operand is: all within.
    let at = |place: usize| bytes[place & 15];
    let is_narrow = at(0) == 0x67;
    let mut place = usize::from(is_narrow);
    let mandatory = MANDATORY[usize::from(at(place))];
    place += usize::from(mandatory != 0);
    let is_rex = at(place) & 0xf0 == 0x40;
    let rex = at(place) & 0x0f_u8.wrapping_mul(u8::from(is_rex));
    place += usize::from(is_rex);
    let is_second = at(place) == 0x0f;
    place += usize::from(is_second);
    let opcode = at(place);
    let (modrm, sib) = (at(place + 1), at(place + 2));
    let row = ROWS[form::key(usize::from(is_second), usize::from(mandatory), rex & 8 != 0, opcode)];
    // Without a ModRM byte all forms of a row are the same.
    let form = *FORMS.get(form::index(row, modrm))?;
    let check = Check::of(form)?;
    let has_modrm = form & form::MODRM != 0;
    let is_register = modrm >= 0xc0;
    let operand = LENGTHS[usize::from(modrm)];
    let is_longer = operand & LONGER != 0 && sib & 7 == 5;
    let length = place
        + 1
        + usize::from(has_modrm) * (usize::from(operand & !LONGER) + 4 * usize::from(is_longer))
        + form::immediate_bytes(form);
    let low = if has_modrm { modrm } else { opcode } & 7 | (rex & 1) << 3;
    let middle = modrm >> 3 & 7 | (rex & 4) << 1;
    let first = if has_modrm { middle } else { low };
    let second = if has_modrm & is_register { low } else { NONE };
    let names_memory = has_modrm & !is_register;
    let is_address = check == Check::Address;
    let is_confined = !names_memory | (operand != 0) & (is_narrow | is_address);
    let is_stack = (first == RSP) | (second == RSP);
    let is_sequence =
        ((check == Check::Move) | is_address) & ((first == R11) | (second == R11) | (first == second));
    (is_confined & !is_stack & !is_sequence & (length <= 15)).then_some(Short { check, length })
}

//! The table of common instruction forms: which encodings of the allow-list are known by their bytes.
//!
//! The decoder is asked about each form with all registers and addressing modes. It gets a place in the table if all are
//! of one kind, one shape, and as long as `form::memory_bytes` says.

use std::collections::HashMap;

use iced_x86::{Decoder, DecoderOptions, OpKind};

use crate::form::{self, Check};
use crate::kind::{ALLOWED, Kind};

/// The table.
pub(crate) struct Forms {
    /// Number of a row, by [`form::key`].
    pub(crate) rows: Vec<u8>,
    /// Rows of 16 forms, by [`form::index`]; the first has none.
    pub(crate) forms: Vec<u8>,
}

/// Bytes behind an opcode: enough for any operand.
const REST: usize = 15;

impl Forms {
    /// The forms of an allow-list.
    pub(crate) fn of(rules: &[u8]) -> Forms {
        let mut forms = Forms { rows: vec![0; 4096], forms: vec![0; 16] };
        let mut known = HashMap::from([(vec![0; 16], 0_u8)]);
        for key in 0..4096 {
            let opcode = (key & 0xff) as u8;
            let is_prefix =
                matches!(opcode, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
            let map = key >> 11;
            if map == 0 && (is_prefix || opcode == 0x0f) {
                continue;
            }
            let row: Vec<u8> = (0..16).map(|index| form_of(rules, key, index)).collect();
            let next = known.len();
            let number = *known.entry(row.clone()).or_insert_with(|| {
                forms.forms.extend(row);
                u8::try_from(next).expect("few rows are different")
            });
            forms.rows[key] = number;
        }
        forms
    }
}

/// The form of an opcode whose ModRM byte, if it has one, has this middle field and names a register or does not.
fn form_of(rules: &[u8], key: usize, index: usize) -> u8 {
    let is_register = index & 1 != 0;
    let middle = (index as u8 >> 1) << 3;
    let modes: &[u8] = if is_register { &[0xc0] } else { &[0x00, 0x40, 0x80] };
    let mut found = None;
    for mode in modes {
        for last in 0..8 {
            if *mode == 0 && last == 5 {
                continue;
            }
            for registers in 0..8 {
                let form = probe(rules, key, registers, mode | middle | last);
                if form == 0 || found.is_some_and(|found| found != form) {
                    return 0;
                }
                found = Some(form);
            }
        }
    }
    found.unwrap_or(0)
}

/// What the decoder says about one encoding.
fn probe(rules: &[u8], key: usize, registers: u8, modrm: u8) -> u8 {
    let (map, mandatory, wide, opcode) = (key >> 11, key >> 9 & 3, key >> 8 & 1, key as u8);
    let mut bytes = vec![0x67];
    bytes.extend([&[][..], &[0x66], &[0xf3], &[0xf2]][mandatory]);
    bytes.push(0x40 | (wide as u8) << 3 | registers);
    bytes.extend([&[][..], &[0x0f]][map]);
    bytes.push(opcode);
    let head = bytes.len();
    bytes.push(modrm);
    bytes.resize(head + REST, 0);
    let mut decoder = Decoder::new(64, &bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let Some(kind) = rules[instruction.code() as usize].checked_sub(ALLOWED).map(|rule| rule >> 2) else {
        return 0;
    };
    let Some(&(_, kind)) = Kind::ALL.get(usize::from(kind)) else { return 0 };
    let kinds: Vec<OpKind> =
        (0..instruction.op_count()).map(|operand| instruction.op_kind(operand)).collect();
    let is_explicit = |kind: &OpKind| {
        matches!(
            kind,
            OpKind::Register
                | OpKind::Memory
                | OpKind::Immediate8
                | OpKind::Immediate8_2nd
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    };
    let names_memory = kinds.contains(&OpKind::Memory);
    if instruction.is_invalid() || !kinds.iter().all(is_explicit) {
        return 0;
    }
    let check = match kind {
        Kind::Plain | Kind::Adjust => Check::Plain,
        Kind::Pop if kinds == [OpKind::Register] => Check::Plain,
        Kind::Mov if kinds[0] == OpKind::Memory => Check::Keep,
        Kind::Mov | Kind::Movzx => Check::Move,
        Kind::Push if kinds == [OpKind::Register] => Check::Keep,
        Kind::Lea | Kind::Nop => Check::Address,
        _ => return 0,
    };
    // What names memory has a ModRM byte, or is an offset, which is no common form.
    let is_offset = map == 0 && matches!(opcode, 0xa0..=0xa3);
    let has_modrm = has_modrm(&bytes[..head], modrm);
    if is_offset || names_memory && !has_modrm || has_modrm && names_memory != (modrm < 0xc0) {
        return 0;
    }
    let operand = match (has_modrm, modrm < 0xc0) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => form::memory_bytes(modrm, 0).expect("it is not relative"),
    };
    let Some(immediate) = instruction.len().checked_sub(head + operand) else { return 0 };
    pack(check, has_modrm, immediate).unwrap_or(0)
}

/// Whether an opcode has a ModRM byte: whether its length or its operands depend on what follows.
fn has_modrm(head: &[u8], modrm: u8) -> bool {
    let with = |next: u8| {
        let mut bytes = head.to_vec();
        bytes.push(next);
        bytes.resize(head.len() + REST, 0);
        Decoder::new(64, &bytes, DecoderOptions::NONE).decode()
    };
    // A ModRM byte that says "register" and one that says "memory and four bytes".
    let middle = modrm & 0x38;
    let (short, long) = (with(0xc0 | middle), with(0x80 | middle));
    short.code() != long.code() || short.len() != long.len()
}

/// A form's byte.
fn pack(check: Check, has_modrm: bool, immediate: usize) -> Option<u8> {
    let size = [0, 1, 2, 4, 8].iter().position(|&size| size == immediate)?;
    Some(check as u8 | if has_modrm { form::MODRM } else { 0 } | (size as u8) << 4)
}

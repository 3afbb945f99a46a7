//! Random encodings of a given instruction.
//!
//! Built from the opcode tables rather than by an encoder, so that redundant prefixes and unusual forms come up too;
//! the decoder then says whether it is the instruction that was wanted.

use iced_x86::{
    Code, Decoder, DecoderOptions, EncodingKind, Instruction, MandatoryPrefix, OpCodeInfo, OpCodeTableKind,
};

use super::random::Random;

/// Longest instruction in bytes.
pub const LONGEST: usize = 15;
/// Tries before an instruction is given up.
const TRIES: usize = 400;

/// A random encoding of `code` that decodes at `address`, or `None` if the decoder knows none.
pub fn random_encoding(code: Code, address: u64, random: &mut Random) -> Option<Vec<u8>> {
    let info = code.op_code();
    if !info.mode64() || !info.is_instruction() || info.fwait() {
        return None;
    }
    (0..TRIES).find_map(|_| {
        let mut bytes = attempt(info, random)?;
        let instruction = decode(&bytes, address);
        let wanted = instruction.code() == code && !instruction.is_invalid();
        bytes.truncate(instruction.len());
        wanted.then_some(bytes)
    })
}

/// The instruction that bytes are.
pub fn decode(bytes: &[u8], address: u64) -> Instruction {
    Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode()
}

fn attempt(info: &OpCodeInfo, random: &mut Random) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(40);
    if random.chance(12) {
        for _ in 0..=random.below(2) {
            bytes.push(random.pick(&[0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65, 0x67, 0x66, 0xf2, 0xf3]));
        }
    }
    if info.can_use_lock_prefix() && random.chance(25) {
        bytes.push(0xf0);
    }
    if (info.can_use_rep_prefix() || info.can_use_repne_prefix()) && random.chance(50) {
        bytes.push(random.pick(&[0xf2, 0xf3]));
    }
    if random.chance(6) {
        bytes.push(random.pick(&[0x64, 0x65]));
    }
    if info.address_size() == 32 || random.chance(4) {
        bytes.push(0x67);
    }
    match info.encoding() {
        EncodingKind::Legacy => legacy(info, random, &mut bytes),
        EncodingKind::VEX => vex(info, random, &mut bytes),
        EncodingKind::EVEX => evex(info, random, &mut bytes),
        EncodingKind::XOP => xop(info, random, &mut bytes),
        _ => return None,
    }
    tail(info, random, &mut bytes);
    Some(bytes)
}

fn legacy(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    if info.operand_size() == 16 {
        bytes.push(0x66);
    }
    match info.mandatory_prefix() {
        MandatoryPrefix::P66 => bytes.push(0x66),
        MandatoryPrefix::PF3 => bytes.push(0xf3),
        MandatoryPrefix::PF2 => bytes.push(0xf2),
        _ => {}
    }
    let wide = info.operand_size() == 64 && !info.default_op_size64() || info.w() == 1 || random.chance(5);
    if wide || random.chance(40) {
        bytes.push(0x40 | u8::from(wide) << 3 | random.byte() & 7);
    }
    match info.table() {
        OpCodeTableKind::T0F => bytes.push(0x0f),
        OpCodeTableKind::T0F38 => bytes.extend([0x0f, 0x38]),
        OpCodeTableKind::T0F3A => bytes.extend([0x0f, 0x3a]),
        _ => {}
    }
    opcode(info, random, bytes);
}

fn vex(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let map = map_number(info);
    let low = register_field(random) << 3 | vector_length(info, random) << 2 | mandatory(info);
    if map == 1 && info.w() == 0 && random.chance(30) {
        bytes.extend([0xc5, random.byte() & 0x80 | low]);
    } else {
        bytes.extend([0xc4, inverted_extension(random) | map, width(info, random) << 7 | low]);
    }
    opcode(info, random, bytes);
}

fn xop(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let low = register_field(random) << 3 | vector_length(info, random) << 2 | mandatory(info);
    bytes.extend([0x8f, inverted_extension(random) | map_number(info), width(info, random) << 7 | low]);
    opcode(info, random, bytes);
}

fn evex(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let first = inverted_extension(random) | random.byte() & 0x10 | map_number(info);
    let second = width(info, random) << 7 | register_field(random) << 3 | 4 | mandatory(info);
    let length = if random.chance(15) { random.byte() & 3 } else { vector_length(info, random) };
    let broadcast = u8::from(random.chance(25)) << 4;
    let zeroing = u8::from(random.chance(25)) << 7;
    let upper = u8::from(random.chance(75)) << 3;
    let mask = if random.chance(50) { 0 } else { random.byte() & 7 };
    bytes.extend([0x62, first, second, zeroing | length << 5 | broadcast | upper | mask]);
    opcode(info, random, bytes);
}

/// R, X and B, stored inverted.
fn inverted_extension(random: &mut Random) -> u8 {
    if random.chance(40) { 0xe0 } else { random.byte() & 0xe0 }
}

/// vvvv, stored inverted; all ones where it names no register.
fn register_field(random: &mut Random) -> u8 {
    if random.chance(50) { 0xf } else { random.byte() & 0xf }
}

fn width(info: &OpCodeInfo, random: &mut Random) -> u8 {
    if info.is_wig() { random.byte() & 1 } else { info.w() as u8 }
}

fn vector_length(info: &OpCodeInfo, random: &mut Random) -> u8 {
    if info.is_lig() { random.byte() & 1 } else { info.l() as u8 }
}

fn mandatory(info: &OpCodeInfo) -> u8 {
    match info.mandatory_prefix() {
        MandatoryPrefix::P66 => 1,
        MandatoryPrefix::PF3 => 2,
        MandatoryPrefix::PF2 => 3,
        _ => 0,
    }
}

fn map_number(info: &OpCodeInfo) -> u8 {
    match info.table() {
        OpCodeTableKind::T0F => 1,
        OpCodeTableKind::T0F38 => 2,
        OpCodeTableKind::T0F3A => 3,
        OpCodeTableKind::MAP5 => 5,
        OpCodeTableKind::MAP6 => 6,
        OpCodeTableKind::MAP8 => 8,
        OpCodeTableKind::MAP9 => 9,
        OpCodeTableKind::MAP10 => 10,
        _ => 0,
    }
}

fn opcode(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let opcode = info.op_code();
    if info.op_code_len() == 2 {
        bytes.push((opcode >> 8) as u8);
    }
    // Forms that keep a register in the opcode have its low three bits clear in the table.
    let embedded = info.op_kinds().iter().any(|kind| format!("{kind:?}").ends_with("_opcode"));
    bytes.push(opcode as u8 | if embedded { random.byte() & 7 } else { 0 });
}

/// ModRM, SIB, displacement and immediates, as far as there are any: random, but for the ModRM fields that select the
/// instruction.
fn tail(info: &OpCodeInfo, random: &mut Random, bytes: &mut Vec<u8>) {
    let mode = if random.chance(40) { 3 } else { random.byte() & 3 };
    let register = u8::try_from(info.group_index()).unwrap_or(random.byte() & 7);
    let (mode, rm) = match u8::try_from(info.rm_group_index()) {
        Ok(rm) => (3, rm),
        Err(_) => (mode, random.byte() & 7),
    };
    bytes.push(mode << 6 | register << 3 | rm);
    for _ in 0..14 {
        bytes.push(random.byte());
    }
}

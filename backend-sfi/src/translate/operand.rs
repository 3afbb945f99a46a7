//! Giving an instruction another memory operand, byte by byte.
//!
//! iced's encoder does this for every instruction; but at its first use it fills half a megabyte of tables, which costs every
//! process that starts 0.4 ms. So what the legacy opcode maps hold, nearly all there is, is rewritten here.

use iced_x86::{EncodingKind, Instruction};

use super::emit::{Operand, RSP};
use super::encoding::{has_memory_operand, is_legacy_prefix, layout};

/// Longest instruction that the processor accepts, in bytes.
pub(super) const MAX_LENGTH: usize = 15;

/// Bytes of an instruction, or of a part of one.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Bytes {
    bytes: [u8; 32],
    length: usize,
}

impl Bytes {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl core::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Operand {
    /// The bits by which a REX prefix extends the operand's registers.
    pub(super) fn rex(&self) -> u8 {
        self.index.map_or(0, |(number, _)| (number & 8) >> 2) | self.base.map_or(0, |base| (base & 8) >> 3)
    }

    /// ModRM, SIB and displacement, with `register` in the register field (SDM volume 2, 2.1.3).
    pub(super) fn encode(&self, register: u8) -> Bytes {
        let Operand { base, index, displacement } = *self;
        let (index_number, scale) = index.unwrap_or((RSP, 0));
        debug_assert!(index.is_none_or(|(number, _)| number != RSP), "rsp cannot be an index");
        let field = (register & 7) << 3;
        let mut to = Bytes::default();
        let Some(base) = base else {
            to.push(&[field | 4, scale << 6 | (index_number & 7) << 3 | 5]);
            to.push(&displacement.to_le_bytes());
            return to;
        };
        let signed = displacement as i32;
        let mode = match signed {
            0 if base & 7 != 5 => 0x00,
            -128..=127 => 0x40,
            _ => 0x80,
        };
        if index.is_some() || base & 7 == 4 {
            to.push(&[mode | field | 4, scale << 6 | (index_number & 7) << 3 | base & 7]);
        } else {
            to.push(&[mode | field | base & 7]);
        }
        match mode {
            0x00 => {}
            0x40 => to.push(&[signed as u8]),
            _ => to.push(&displacement.to_le_bytes()),
        }
        to
    }
}

/// The instruction with `operand` instead of its own memory operand and without a segment. `None` if it is not of the legacy
/// maps, has no memory operand that ModRM names, or would become too long.
pub(super) fn with_operand(original: &[u8], instruction: &Instruction, operand: Operand) -> Option<Bytes> {
    if instruction.encoding() != EncodingKind::Legacy || !has_memory_operand(instruction) {
        return None;
    }
    let prefixes = original.iter().take_while(|&&byte| is_legacy_prefix(byte)).count();
    let rex = layout(original, instruction).rex;
    let opcode = rex.map_or(prefixes, |at| at + 1);
    let modrm = opcode + opcode_bytes(&original[opcode..]);
    let tail = modrm + operand_bytes(&original[modrm..])?;
    let mut to = Bytes::default();
    to.push(&[0x67]);
    for &prefix in original[..prefixes].iter().filter(|byte| matches!(byte, 0x66 | 0xf0 | 0xf2 | 0xf3)) {
        to.push(&[prefix]);
    }
    let extended = rex.map_or(0, |at| original[at] & !0x03) | operand.rex();
    if extended != 0 {
        to.push(&[0x40 | extended]);
    }
    to.push(&original[opcode..modrm]);
    to.push(&operand.encode(original[modrm] >> 3));
    to.push(&original[tail..]);
    (to.len() <= MAX_LENGTH).then_some(to)
}

/// Bytes of an opcode of the legacy maps (SDM volume 2, 2.1.2).
fn opcode_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [0x0f, 0x38 | 0x3a, ..] => 3,
        [0x0f, ..] => 2,
        _ => 1,
    }
}

/// Bytes of ModRM, SIB and displacement; `None` if ModRM names a register.
fn operand_bytes(bytes: &[u8]) -> Option<usize> {
    let (&modrm, after) = bytes.split_first()?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let sib = (rm == 4).then(|| after.first()).flatten();
    let displacement = match mode {
        0 if rm == 5 || sib.is_some_and(|sib| sib & 7 == 5) => 4,
        0 => 0,
        1 => 1,
        2 => 4,
        _ => return None,
    };
    Some(1 + usize::from(rm == 4) + displacement)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, OpKind};

    use super::*;

    fn decode(bytes: &[u8]) -> Instruction {
        Decoder::with_ip(64, bytes, 0x40_0000, DecoderOptions::NONE).decode()
    }

    /// Instructions with the forms of operands, prefixes, opcodes and immediates that there are.
    const ORIGINALS: &[&[u8]] = &[
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], // mov rax, fs:[0]
        &[0x64, 0x89, 0x10],                         // mov fs:[rax], edx
        &[0x64, 0x48, 0x03, 0x50, 0x10],             // add rdx, fs:[rax + 16]
        &[0x64, 0x66, 0xc7, 0x44, 0x8a, 0x04, 0x34, 0x12], // mov word fs:[rdx + rcx * 4 + 4], 0x1234
        &[0x64, 0xd1, 0x20],                         // shl dword fs:[rax], 1
        &[0x64, 0xf0, 0x41, 0x0f, 0xb1, 0x8c, 0x24, 1, 2, 3, 4], // lock cmpxchg fs:[r12 + …], ecx
        &[0x65, 0x40, 0x88, 0x31],                   // mov gs:[rcx], sil
        &[0x64, 0x4c, 0x0f, 0xb6, 0x05, 1, 0, 0, 0], // movzx r8, byte fs:[rip + 1]
        &[0xf3, 0x64, 0x0f, 0x6f, 0x04, 0x05, 0, 1, 0, 0], // movdqu xmm0, fs:[rax + 0x100]
        &[0x66, 0x64, 0x0f, 0x3a, 0x0f, 0x0b, 0x08], // palignr xmm1, fs:[rbx], 8
        &[0x64, 0x66, 0x0f, 0x38, 0x00, 0x55, 0x00], // pshufb xmm2, fs:[rbp]
        &[0x64, 0x81, 0x7d, 0x80, 1, 2, 3, 4],       // cmp dword fs:[rbp - 128], …
        &[0x64, 0x67, 0x8b, 0x00],                   // mov eax, fs:[eax]
    ];

    const OPERANDS: &[Operand] = &[
        Operand { base: None, index: None, displacement: 0x8000_0001 },
        Operand { base: Some(0), index: None, displacement: 0 },
        Operand { base: Some(5), index: None, displacement: 0 },
        Operand { base: Some(13), index: Some((12, 3)), displacement: 0 },
        Operand { base: Some(12), index: None, displacement: 0xffff_ff80 },
        Operand { base: Some(4), index: Some((9, 1)), displacement: 0x7f },
        Operand { base: None, index: Some((3, 2)), displacement: 5 },
        Operand { base: Some(11), index: None, displacement: 0x80 },
    ];

    #[test]
    fn only_the_operand_changes() {
        for &bytes in ORIGINALS {
            let original = decode(bytes);
            for &operand in OPERANDS {
                let changed = with_operand(bytes, &original, operand).expect("it is of the legacy maps");
                let now = decode(&changed);
                assert_eq!(
                    (now.code(), now.len()),
                    (original.code(), changed.len()),
                    "{bytes:x?} {operand:?}"
                );
                assert_eq!(super::super::encoding::confined_operand(&now).map(flat), Some(flat(operand)));
                assert_eq!(now.segment_prefix(), iced_x86::Register::None);
                assert_eq!(now.has_lock_prefix(), original.has_lock_prefix());
                for at in (0..now.op_count()).filter(|&at| now.op_kind(at) != OpKind::Memory) {
                    assert_eq!(now.op_kind(at), original.op_kind(at));
                    assert_eq!(now.op_register(at), original.op_register(at));
                }
                assert_eq!(numbers(&now), numbers(&original), "{bytes:x?} {operand:?}");
            }
        }
    }

    fn numbers(instruction: &Instruction) -> Vec<u64> {
        (0..instruction.op_count()).filter_map(|at| instruction.try_immediate(at).ok()).collect()
    }

    fn flat(operand: Operand) -> (Option<u8>, Option<(u8, u8)>, u32) {
        (operand.base, operand.index, operand.displacement)
    }

    #[test]
    fn what_is_not_of_the_legacy_maps_is_left_alone() {
        let operand = OPERANDS[0];
        let vector = [0x64, 0xc5, 0xf8, 0x28, 0x00]; // vmovaps xmm0, fs:[rax]
        let register = [0x48, 0x89, 0xd8]; // mov rax, rbx
        for bytes in [&vector[..], &register] {
            assert!(with_operand(bytes, &decode(bytes), operand).is_none());
        }
    }

    #[test]
    fn what_would_become_too_long_is_left_alone() {
        let bytes = [0x64, 0x66, 0x66, 0x66, 0x48, 0x81, 0x40, 0x10, 1, 2, 3, 4]; // add qword fs:[rax + 16], …
        let long = Operand { base: Some(0), index: Some((1, 0)), displacement: 0x1234_5678 };
        assert!(with_operand(&bytes, &decode(&bytes), long).is_none());
    }
}

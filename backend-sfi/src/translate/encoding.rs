//! Reading an instruction's own encoding: where its ModRM byte is, which bits extend it, and what it addresses.

use iced_x86::{Instruction, OpKind, Register};

use super::emit::{Operand, RegisterNumber};

/// Where the parts of an instruction lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Offset of the last REX byte, if there is one.
    pub(super) rex: Option<usize>,
    /// Offset of the byte that opens a VEX (0xc5, 0xc4), EVEX (0x62) or XOP (0x8f) prefix.
    pub(super) vector_prefix: Option<usize>,
}

/// Finds the prefixes of a valid instruction in 64-bit mode.
pub(super) fn layout(bytes: &[u8], instruction: &Instruction) -> Layout {
    let mut at = 0;
    while is_legacy_prefix(bytes[at]) {
        at += 1;
    }
    let rex = (bytes[at] & 0xf0 == 0x40).then_some(at);
    if rex.is_some() {
        at += 1;
    }
    let vector = instruction.encoding() != iced_x86::EncodingKind::Legacy
        && instruction.encoding() != iced_x86::EncodingKind::D3NOW;
    Layout { rex, vector_prefix: vector.then_some(at) }
}

/// Whether a byte before the opcode is one of the eleven legacy prefixes (SDM volume 2, 2.1.1).
pub(super) fn is_legacy_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Clears the bit that would extend a SIB index, in whichever prefix holds it. False if there is no such encoding.
pub(super) fn clear_index_extension(bytes: &mut [u8], layout: Layout) {
    if let Some(rex) = layout.rex {
        bytes[rex] &= !0x02;
    }
    if let Some(prefix) = layout.vector_prefix {
        match bytes[prefix] {
            0xc4 | 0x62 | 0x8f => bytes[prefix + 1] |= 0x40, // stored inverted
            _ => {}
        }
    }
}

/// The memory operand of an instruction, as 32-bit addressing sees it; `None` if it has none or not of this form.
pub(super) fn confined_operand(instruction: &Instruction) -> Option<Operand> {
    if instruction.is_ip_rel_memory_operand() {
        return Some(Operand {
            displacement: instruction.ip_rel_memory_address() as u32,
            ..Operand::default()
        });
    }
    let number = |register: Register| match register {
        Register::None => Some(None),
        _ if register.is_gpr32() || register.is_gpr64() => Some(Some(register_number(register))),
        _ => None,
    };
    let base = number(instruction.memory_base())?;
    let index = number(instruction.memory_index())?;
    let scale = instruction.memory_index_scale().trailing_zeros() as u8;
    Some(Operand {
        base,
        index: index.map(|index| (index, scale)),
        displacement: instruction.memory_displacement64() as u32,
    })
}

/// A general register's number.
pub(super) fn register_number(register: Register) -> RegisterNumber {
    register.number() as u8
}

/// Whether the instruction has a memory operand that it may access.
pub(super) fn has_memory_operand(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}

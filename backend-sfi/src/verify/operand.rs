//! Checks of one instruction's prefixes and memory operands.

use super::{ContextSlots, Reason};
use iced_x86::{Instruction, OpKind, Register};

/// The legacy and REX prefixes of an instruction, read from its bytes and not from the decoder.
#[derive(Clone, Copy)]
pub(super) struct Prefixes(u8);

impl Prefixes {
    const ADDRESS_SIZE: u8 = 1;
    const FS_GS: u8 = 2;
    const NULL_SEGMENT: u8 = 4;
    const OTHER: u8 = 8;

    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Prefixes {
        let mut found = 0;
        for &byte in bytes {
            let prefix = TABLE[usize::from(byte)];
            if prefix == 0 {
                break;
            }
            found |= prefix;
        }
        Prefixes(found)
    }

    #[inline]
    pub(super) fn none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn address_size(self) -> bool {
        self.0 & Self::ADDRESS_SIZE != 0
    }

    #[inline]
    pub(super) fn fs_gs(self) -> bool {
        self.0 & Self::FS_GS != 0
    }

    #[inline]
    pub(super) fn segment(self) -> bool {
        self.0 & (Self::FS_GS | Self::NULL_SEGMENT) != 0
    }
}

static TABLE: [u8; 256] = {
    let mut table = [0; 256];
    let mut rex = 0x40;
    while rex < 0x50 {
        table[rex] = Prefixes::OTHER;
        rex += 1;
    }
    // Operand size, lock, repne, rep.
    table[0x66] = Prefixes::OTHER;
    table[0xf0] = Prefixes::OTHER;
    table[0xf2] = Prefixes::OTHER;
    table[0xf3] = Prefixes::OTHER;
    // es, cs, ss, ds: without effect on addresses in 64-bit mode.
    table[0x26] = Prefixes::NULL_SEGMENT;
    table[0x2e] = Prefixes::NULL_SEGMENT;
    table[0x36] = Prefixes::NULL_SEGMENT;
    table[0x3e] = Prefixes::NULL_SEGMENT;
    table[0x64] = Prefixes::FS_GS;
    table[0x65] = Prefixes::FS_GS;
    table[0x67] = Prefixes::ADDRESS_SIZE;
    table
};

/// Refuses an explicit memory operand that could name something outside the window.
#[inline]
pub(super) fn guarded(instruction: &Instruction, prefixes: Prefixes) -> Result<(), Reason> {
    let mut memory = false;
    for kind in
        [instruction.op0_kind(), instruction.op1_kind(), instruction.op2_kind(), instruction.op3_kind()]
    {
        match kind {
            OpKind::Memory => memory = true,
            OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemorySegDI
            | OpKind::MemorySegEDI
            | OpKind::MemorySegRDI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI => return Err(Reason::ImplicitMemory),
            _ => {}
        }
    }
    if !memory { Ok(()) } else { guarded_address(instruction, prefixes) }
}

#[inline]
fn guarded_address(instruction: &Instruction, prefixes: Prefixes) -> Result<(), Reason> {
    if relative(instruction) {
        return Err(Reason::InstructionRelative);
    }
    // The prefix alone decides; the decoder has to agree that no part of the address is 64 bits wide.
    let base = instruction.memory_base();
    let index = instruction.memory_index();
    if prefixes.address_size() && (base == Register::None || base.is_gpr32()) && !index.is_gpr64() {
        Ok(())
    } else {
        Err(Reason::Unguarded)
    }
}

/// Whether the memory operand is relative to the instruction pointer.
#[inline]
pub(super) fn relative(instruction: &Instruction) -> bool {
    matches!(instruction.memory_base(), Register::RIP | Register::EIP)
}

/// The three forms that may reach the thread's context through fs. Compared with the bytes, so no prefix or
/// addressing form of another spelling passes:
///
/// ```text
/// 64 REX.W 8b /r 25 disp32     mov r64, fs:[disp32]
/// 64 REX.W 89 /r 25 disp32     mov fs:[disp32], r64
/// 64 c7 04 25 disp32 imm32     mov dword ptr fs:[disp32], imm32
/// ```
pub(super) fn context_access(bytes: &[u8], slots: &ContextSlots) -> Result<(), Reason> {
    let displacement = |bytes: [u8; 4]| i32::from_le_bytes(bytes);
    let (slot, allowed) = match *bytes {
        [0x64, 0x48 | 0x4c, 0x8b, modrm, 0x25, a, b, c, d] if modrm & 0xc7 == 0x04 => {
            let slot = displacement([a, b, c, d]);
            (slot, is_slot(slot, &slots.spill) || is_slot(slot, &slots.guest_bases))
        }
        [0x64, 0x48 | 0x4c, 0x89, modrm, 0x25, a, b, c, d] if modrm & 0xc7 == 0x04 => {
            let slot = displacement([a, b, c, d]);
            (slot, is_slot(slot, &slots.spill))
        }
        [0x64, 0xc7, 0x04, 0x25, a, b, c, d, ..] if bytes.len() == 12 => {
            let slot = displacement([a, b, c, d]);
            (slot, slot == slots.exit_info)
        }
        _ => return Err(Reason::Segment),
    };
    if allowed { Ok(()) } else { Err(Reason::ContextSlot(slot)) }
}

/// Whether `displacement` names one of the 8-byte slots of `range`.
fn is_slot(displacement: i32, range: &std::ops::Range<i32>) -> bool {
    let offset = i64::from(displacement) - i64::from(range.start);
    offset >= 0 && offset % 8 == 0 && i64::from(displacement) + 8 <= i64::from(range.end)
}

/// `mov r11, fs:[slot]`, with which an indirect entry begins.
pub(super) fn reloads_r11(bytes: &[u8], slot: i32) -> bool {
    let [a, b, c, d] = slot.to_le_bytes();
    bytes.starts_with(&[0x64, 0x4c, 0x8b, 0x1c, 0x25, a, b, c, d])
}

/// `jmp qword ptr gs:[r11*8]`.
pub(super) const DISPATCH: [u8; 9] = [0x65, 0x42, 0xff, 0x24, 0xdd, 0, 0, 0, 0];

/// `movzx eax, al`: what is left of a mask of state components are those that guests have.
pub(super) const CUT_MASK: [u8; 3] = [0x0f, 0xb6, 0xc0];

/// `lea r11, [rip + 5]`: the address behind the `jmp rel32` that follows it.
pub(super) const LOAD_RETURN: [u8; 7] = [0x4c, 0x8d, 0x1d, 5, 0, 0, 0];

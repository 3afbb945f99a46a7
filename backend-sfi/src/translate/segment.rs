//! Memory operands relative to the guest's FS or GS base: a thread's own, which emitted code finds in the context.

use iced_x86::{Encoder, Instruction, Register};

use super::emit::{Operand, R11, RegisterNumber, SegmentBase};
use super::encoding::{confined_operand, is_legacy_prefix, layout, register_number};
use super::operand::{MAX_LENGTH, with_operand};
use super::plain::{displacement_offset, narrow, ordinary_form, writes_stack_pointer};
use super::{Flow, Translator};
use crate::context::{SPILL_R11, SPILL_SCRATCH};

/// The segment whose base an instruction's memory operand is relative to, if it has one.
pub fn segment_base(instruction: &Instruction) -> Option<SegmentBase> {
    match instruction.memory_segment() {
        Register::FS => Some(SegmentBase::Fs),
        Register::GS => Some(SegmentBase::Gs),
        _ => None,
    }
}

impl Translator {
    /// The base goes into a register that the instruction does not use: r11, whose value the context has anyway, or
    /// another one, parked meanwhile.
    ///
    /// ```text
    ///         mov fs:[scratch], rsi      only if it is not r11
    ///         mov r11, fs:[base]
    ///         lea r11d, [r11d + rbx]     only if the operand has a base and an index already
    ///         op  [r11d + …]
    ///         mov esp, esp               only if it writes the stack pointer
    ///         mov r11, fs:[parked]
    /// ```
    ///
    /// [`crate::recover`] knows this sequence.
    pub(super) fn copy_with_segment_base(&mut self, instruction: &Instruction, base: SegmentBase) -> Flow {
        let at = instruction.ip() as u32;
        let (original, length) = self.original(instruction);
        if uses_r11(instruction) || uses_high_byte(instruction) {
            let Some(scratch) = self.unused_register(instruction) else { return self.special(at) };
            let Some((added, bytes)) = rebased(&original[..length], instruction, scratch) else {
                return self.special(at);
            };
            self.emitter.spill(SPILL_SCRATCH, scratch);
            self.relative_to(base, scratch, added);
            self.emitter.bytes(&bytes);
            self.finish_with(instruction, SPILL_SCRATCH, scratch);
            return Flow::Continues;
        }
        if let Some((bytes, length)) = self.absolute_to_r11(instruction) {
            self.relative_to(base, R11, None);
            self.emitter.bytes(&bytes[..length]);
        } else {
            let Some((added, bytes)) = rebased(&original[..length], instruction, R11) else {
                return self.special(at);
            };
            self.relative_to(base, R11, added);
            self.emitter.bytes(&bytes);
        }
        self.finish_with(instruction, SPILL_R11, R11);
        Flow::Continues
    }

    fn relative_to(&mut self, base: SegmentBase, scratch: RegisterNumber, added: Option<RegisterNumber>) {
        self.emitter.load_base(base, scratch);
        if let Some(added) = added {
            let operand = Operand { base: Some(added), index: Some((scratch, 0)), displacement: 0 };
            self.emitter.with_operand(&[0x8d], scratch, operand);
        }
    }

    fn finish_with(&mut self, instruction: &Instruction, slot: usize, scratch: RegisterNumber) {
        if writes_stack_pointer(instruction) {
            self.emitter.truncate(super::emit::RSP);
        }
        self.emitter.reload(slot, scratch);
    }

    /// The common form, `fs:[disp32]`: the absolute operand becomes one relative to r11, the other bytes stay.
    ///
    /// ```text
    /// 64 [48] 8b 04 25 disp32      mov rax, fs:[disp32]
    /// 67  49  8b 83    disp32      mov rax, [r11d + disp32]
    /// ```
    fn absolute_to_r11(&self, instruction: &Instruction) -> Option<([u8; 16], usize)> {
        let (bytes, length) = self.original(instruction);
        let bytes = &bytes[..length];
        let parts = layout(bytes, instruction);
        let displacement = displacement_offset(bytes, instruction)?;
        let is_absolute = instruction.memory_base() == Register::None
            && instruction.memory_index() == Register::None
            && displacement >= 2
            && bytes[displacement - 2] & 0xc7 == 0x04
            && bytes[displacement - 1] & 0x3f == 0x25;
        let prefixes = bytes.iter().take_while(|&&byte| is_legacy_prefix(byte)).count();
        let is_plain = parts.vector_prefix.is_none()
            && matches!(bytes[0], 0x64 | 0x65)
            && !bytes[1..prefixes].iter().any(|&byte| matches!(byte, 0x64 | 0x65 | 0x67));
        if !is_absolute || !is_plain {
            return None;
        }
        let mut to = [0; 16];
        let mut end = 0;
        let mut push = |from: &[u8]| {
            to[end..end + from.len()].copy_from_slice(from);
            end += from.len();
        };
        let (opcode, rex) = match parts.rex {
            Some(at) => (at + 1, bytes[at] & !0x02),
            None => (prefixes, 0x40),
        };
        push(&[0x67]);
        push(&bytes[1..prefixes]);
        push(&[rex | 0x01]);
        push(&bytes[opcode..displacement - 2]);
        push(&[bytes[displacement - 2] & 0x38 | 0x83]);
        push(&bytes[displacement..]);
        (end <= MAX_LENGTH).then_some((to, end))
    }

    /// A register that the instruction has nothing to do with, and that can be named beside its others.
    pub(super) fn unused_register(&mut self, instruction: &Instruction) -> Option<RegisterNumber> {
        let used = self.info.info(instruction).used_registers();
        let is_unused =
            |candidate: &Register| !used.iter().any(|other| other.register().full_register() == *candidate);
        // None that needs a REX prefix: high bytes cannot be named beside one.
        let candidates = [
            Register::RSI,
            Register::RDI,
            Register::RBX,
            Register::RDX,
            Register::RCX,
            Register::RAX,
            Register::RBP,
        ];
        candidates.into_iter().find(is_unused).map(register_number)
    }
}

/// The instruction with its operand relative to `scratch`, and the register that has to be added to that first.
fn rebased(
    original: &[u8],
    instruction: &Instruction,
    scratch: RegisterNumber,
) -> Option<(Option<RegisterNumber>, Vec<u8>)> {
    let mut replacement = *instruction;
    replacement.set_code(ordinary_form(instruction.code()));
    replacement.set_segment_prefix(Register::None);
    let scratch = Register::EAX + u32::from(scratch);
    let wide = |register: Register| narrow(register).unwrap_or(register);
    let (base, index) = (wide(instruction.memory_base()), wide(instruction.memory_index()));
    let mut added = None;
    let mut displacement = instruction.memory_displacement64();
    if instruction.is_ip_rel_memory_operand() {
        displacement = instruction.ip_rel_memory_address();
        replacement.set_memory_base(scratch);
    } else if base == Register::None {
        replacement.set_memory_base(scratch);
        replacement.set_memory_index(index);
    } else if index == Register::None {
        // The stack pointer cannot be an index.
        replacement.set_memory_base(base);
        replacement.set_memory_index(scratch);
        replacement.set_memory_index_scale(1);
    } else {
        // `pop` counts its own increment into an address relative to rsp, which is computed too early here.
        if base == Register::ESP && instruction.is_stack_instruction() {
            return None;
        }
        added = Some(register_number(base));
        replacement.set_memory_base(scratch);
        replacement.set_memory_index(index);
    }
    replacement.set_memory_displacement64(u64::from(displacement as u32));
    replacement.set_memory_displ_size(4);
    if replacement.code() == instruction.code()
        && let Some(operand) = confined_operand(&replacement)
        && let Some(bytes) = with_operand(original, instruction, operand)
    {
        return Some((added, bytes.to_vec()));
    }
    let mut encoder = Encoder::new(64);
    let length = encoder.encode(&replacement, 0).ok()?;
    (length <= MAX_LENGTH).then(|| (added, encoder.take_buffer()))
}

fn uses_r11(instruction: &Instruction) -> bool {
    let is_r11 = |register: Register| register.full_register() == Register::R11;
    is_r11(instruction.memory_base())
        || is_r11(instruction.memory_index())
        || (0..instruction.op_count()).any(|operand| is_r11(instruction.op_register(operand)))
}

fn uses_high_byte(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        matches!(instruction.op_register(operand), Register::AH | Register::BH | Register::CH | Register::DH)
    })
}

//! Instructions that compute, load and store: copied, with their memory operand confined to 32-bit addressing.

use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpKind, Register};

use super::encoding::{
    clear_index_extension, confined_operand, has_memory_operand, is_legacy_prefix, layout, register_number,
};
use super::operand::{MAX_LENGTH, with_operand};
use super::segment::segment_base;
use super::{Flow, Translator};

/// The register that `rep` counts in.
const RCX: super::emit::RegisterNumber = 1;

impl Translator {
    /// An instruction without control flow and without implicit memory operands of its own kind.
    pub(super) fn plain(&mut self, instruction: &Instruction, following: &[Instruction]) -> Flow {
        if writes_stack_pointer(instruction) {
            return self.plain_to_stack_pointer(instruction, following);
        }
        self.copy_confined(instruction)
    }

    /// `lea`: only its result needs care.
    pub(super) fn address(&mut self, instruction: &Instruction, following: &[Instruction]) -> Flow {
        if instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address() as u32;
            let register = instruction.op0_register();
            if register.size() == 2 {
                return self.special(instruction.ip() as u32);
            }
            if register.size() == 8 && instruction.ip_rel_memory_address() > u64::from(u32::MAX) {
                // Nothing lies there, but the number may be of use. mov r64, imm64; a stack pointer is cut right behind.
                let number = register_number(register);
                self.emitter.bytes(&[0x48 | number >> 3, 0xb8 | number & 7]);
                self.emitter.bytes(&instruction.ip_rel_memory_address().to_le_bytes());
                if number == super::emit::RSP {
                    self.emitter.truncate(super::emit::RSP);
                }
                return Flow::Continues;
            }
            // mov r32, imm32: the address is below 4 GiB, and 32-bit moves zero-extend.
            let number = register_number(register);
            if number & 8 != 0 {
                self.emitter.bytes(&[0x41]);
            }
            self.emitter.bytes(&[0xb8 | number & 7]);
            self.emitter.bytes(&target.to_le_bytes());
            return Flow::Continues;
        }
        if writes_stack_pointer(instruction) {
            return self.plain_to_stack_pointer(instruction, following);
        }
        // A segment prefix has no effect on lea; it is dropped so that the verifier need not know.
        let (bytes, length) = self.original(instruction);
        self.emit_without_prefixes(&bytes[..length], |prefix| matches!(prefix, 0x64 | 0x65));
        Flow::Continues
    }

    /// movs, stos, cmps, scas, lods: the index registers are confined, the counter stays 64 bits wide.
    pub(super) fn string(&mut self, instruction: &Instruction) -> Flow {
        let (bytes, length) = self.original(instruction);
        let prefixes = bytes[..length].iter().take_while(|&&byte| is_legacy_prefix(byte));
        if prefixes.clone().any(|&byte| matches!(byte, 0x64 | 0x65)) {
            return self.special(instruction.ip() as u32);
        }
        // With 32-bit addresses the counter is ecx: truncated once, it counts the same, and the rest is what happens anyway.
        let counts = |byte: &u8| matches!(byte, 0xf2 | 0xf3);
        if prefixes.clone().any(|&byte| byte == 0x67) && prefixes.clone().any(counts) {
            self.emitter.truncate(RCX);
        }
        let uses = |kinds: [OpKind; 3]| {
            (0..instruction.op_count()).any(|at| kinds.contains(&instruction.op_kind(at)))
        };
        if uses([OpKind::MemorySegRSI, OpKind::MemorySegESI, OpKind::MemorySegSI]) {
            self.emitter.truncate(6);
        }
        if uses([OpKind::MemoryESRDI, OpKind::MemoryESEDI, OpKind::MemoryESDI]) {
            self.emitter.truncate(7);
        }
        // In 64-bit mode these segments have no base, and the registers are confined already.
        self.emit_without_prefixes(&bytes[..length], |prefix| {
            matches!(prefix, 0x26 | 0x2e | 0x36 | 0x3e | 0x67)
        });
        Flow::Continues
    }

    /// Copies an instruction, confining its memory operand if it has one.
    pub(super) fn copy_confined(&mut self, instruction: &Instruction) -> Flow {
        let (mut bytes, length) = self.original(instruction);
        if !has_memory_operand(instruction) {
            if implicit_data_pointer(instruction) {
                if segment_base(instruction).is_some() {
                    return self.special(instruction.ip() as u32);
                }
                self.emitter.bytes(&[0x67]);
            }
            self.emit_without_prefixes(&bytes[..length], |prefix| matches!(prefix, 0x64 | 0x65));
            return Flow::Continues;
        }
        if let Some(base) = segment_base(instruction) {
            return self.copy_with_segment_base(instruction, base);
        }
        if is_offset_form(instruction.code()) {
            return self.offset_form(instruction);
        }
        if instruction.is_ip_rel_memory_operand() {
            return self.copy_ip_relative(instruction, &mut bytes, length);
        }
        if instruction.memory_base().is_gpr32() || instruction.memory_index().is_gpr32() {
            // The program's own 0x67.
            self.emitter.bytes(&bytes[..length]);
        } else if length < MAX_LENGTH {
            self.emitter.bytes(&[0x67]);
            self.emitter.bytes(&bytes[..length]);
        } else {
            return self.reencode_confined(instruction);
        }
        Flow::Continues
    }

    /// Copies an instruction without prefixes that say nothing there and that the verifier does not want.
    fn emit_without_prefixes(&mut self, bytes: &[u8], is_unwanted: impl Fn(u8) -> bool) {
        let prefixes = bytes.iter().take_while(|&&byte| is_legacy_prefix(byte)).count();
        for &prefix in bytes[..prefixes].iter().filter(|&&prefix| !is_unwanted(prefix)) {
            self.emitter.bytes(&[prefix]);
        }
        self.emitter.bytes(&bytes[prefixes..]);
    }

    /// A RIP-relative operand becomes absolute: ModRM's rm selects a SIB byte without base and index.
    fn copy_ip_relative(&mut self, instruction: &Instruction, bytes: &mut [u8; 16], length: usize) -> Flow {
        let target = instruction.ip_rel_memory_address() as u32;
        let Some(displacement) = displacement_offset(&bytes[..length], instruction) else {
            return self.reencode_confined(instruction);
        };
        let own_prefix =
            bytes[..length].iter().take_while(|&&byte| is_legacy_prefix(byte)).any(|&byte| byte == 0x67);
        if length + 2 > MAX_LENGTH {
            return self.reencode_confined(instruction);
        }
        let parts = layout(&bytes[..length], instruction);
        clear_index_extension(&mut bytes[..length], parts);
        let modrm = displacement - 1;
        if !own_prefix {
            self.emitter.bytes(&[0x67]);
        }
        self.emitter.bytes(&bytes[..modrm]);
        self.emitter.bytes(&[bytes[modrm] & 0x38 | 0x04, 0x25]);
        self.emitter.bytes(&target.to_le_bytes());
        self.emitter.bytes(&bytes[displacement + 4..length]);
        Flow::Continues
    }

    /// `mov al, [imm64]` and its kin: re-encoded with an ordinary operand.
    fn offset_form(&mut self, instruction: &Instruction) -> Flow {
        let mut replacement = *instruction;
        replacement.set_code(ordinary_form(instruction.code()));
        self.reencode_absolute(instruction, replacement, instruction.memory_displacement64() as u32)
    }

    /// Encodes the instruction anew with a confined operand.
    pub(super) fn reencode_confined(&mut self, instruction: &Instruction) -> Flow {
        if instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address() as u32;
            return self.reencode_absolute(instruction, *instruction, target);
        }
        if instruction.memory_base() == Register::None && instruction.memory_index() == Register::None {
            let target = instruction.memory_displacement64() as u32;
            return self.reencode_absolute(instruction, *instruction, target);
        }
        let mut replacement = *instruction;
        replacement.set_segment_prefix(Register::None);
        if let Some(narrow) = narrow(instruction.memory_base()) {
            replacement.set_memory_base(narrow);
        }
        if let Some(narrow) = narrow(instruction.memory_index()) {
            replacement.set_memory_index(narrow);
        }
        let displacement = instruction.memory_displacement64() as u32;
        replacement.set_memory_displacement64(u64::from(displacement));
        let vector_index = instruction.is_vsib();
        replacement.set_memory_displ_size(if displacement == 0 && !vector_index { 0 } else { 4 });
        if instruction.memory_base() == Register::None && vector_index {
            // Without a base there is no register that says 32 bits; left to the runtime.
            return self.special(instruction.ip() as u32);
        }
        self.reencode(instruction, replacement)
    }

    fn reencode_absolute(
        &mut self,
        original: &Instruction,
        mut replacement: Instruction,
        target: u32,
    ) -> Flow {
        replacement.set_segment_prefix(Register::None);
        replacement.set_memory_base(Register::None);
        replacement.set_memory_index(Register::None);
        replacement.set_memory_displacement64(u64::from(target));
        replacement.set_memory_displ_size(4);
        self.reencode(original, replacement)
    }

    /// Emits `replacement`, or leaves `original` to the runtime if it cannot be encoded.
    fn reencode(&mut self, original: &Instruction, replacement: Instruction) -> Flow {
        let (bytes, length) = self.original(original);
        if replacement.code() == original.code()
            && let Some(operand) = confined_operand(&replacement)
            && let Some(bytes) = with_operand(&bytes[..length], original, operand)
        {
            self.emitter.bytes(&bytes);
            return Flow::Continues;
        }
        let mut encoder = Encoder::new(64);
        match encoder.encode(&replacement, self.emitter.address_of(self.emitter.offset())) {
            Ok(length) if length <= MAX_LENGTH => {
                let bytes = encoder.take_buffer();
                self.emitter.bytes(&bytes);
                Flow::Continues
            }
            _ => self.special(original.ip() as u32),
        }
    }
}

/// Offset of a 32-bit displacement in the encoding, or `None` where it is not where it should be.
pub(super) fn displacement_offset(bytes: &[u8], instruction: &Instruction) -> Option<usize> {
    let tail = immediate_bytes(instruction);
    let offset = bytes.len().checked_sub(tail + 4)?;
    let stored = u32::from_le_bytes(bytes[offset..offset + 4].try_into().ok()?);
    let expected = if instruction.is_ip_rel_memory_operand() {
        (instruction.ip_rel_memory_address()).wrapping_sub(instruction.next_ip()) as u32
    } else {
        instruction.memory_displacement64() as u32
    };
    (stored == expected).then_some(offset)
}

/// Bytes of immediates after the memory operand's displacement. 3DNow! puts its opcode there.
fn immediate_bytes(instruction: &Instruction) -> usize {
    let mut bytes = usize::from(instruction.encoding() == iced_x86::EncodingKind::D3NOW);
    for operand in 0..instruction.op_count() {
        bytes += match instruction.op_kind(operand) {
            OpKind::Immediate8 | OpKind::Immediate8_2nd => 1,
            OpKind::Immediate8to16 | OpKind::Immediate8to32 | OpKind::Immediate8to64 => 1,
            OpKind::Immediate16 => 2,
            OpKind::Immediate32 | OpKind::Immediate32to64 => 4,
            OpKind::Immediate64 => 8,
            _ => 0,
        };
    }
    bytes + usize::from(has_register_immediate(instruction))
}

/// Four-operand VEX and XOP forms without a number keep a register in an immediate byte (`is4`). Not asked of iced's
/// `OpCodeInfo`, whose first use costs a millisecond.
fn has_register_immediate(instruction: &Instruction) -> bool {
    matches!(instruction.encoding(), iced_x86::EncodingKind::VEX | iced_x86::EncodingKind::XOP)
        && instruction.op_count() == 4
        && !(0..4).any(|operand| instruction.op_kind(operand) == OpKind::Immediate8)
}

pub(super) fn narrow(register: Register) -> Option<Register> {
    register.is_gpr64().then(|| Register::EAX + register.number() as u32)
}

fn is_offset_form(code: Code) -> bool {
    ordinary_form(code) != code
}

/// A `mov` between the accumulator and a 64-bit address, with a ModRM operand instead; any other instruction as it is.
pub(super) fn ordinary_form(code: Code) -> Code {
    use Code as C;
    match code {
        C::Mov_AL_moffs8 => C::Mov_r8_rm8,
        C::Mov_AX_moffs16 => C::Mov_r16_rm16,
        C::Mov_EAX_moffs32 => C::Mov_r32_rm32,
        C::Mov_RAX_moffs64 => C::Mov_r64_rm64,
        C::Mov_moffs8_AL => C::Mov_rm8_r8,
        C::Mov_moffs16_AX => C::Mov_rm16_r16,
        C::Mov_moffs32_EAX => C::Mov_rm32_r32,
        C::Mov_moffs64_RAX => C::Mov_rm64_r64,
        other => other,
    }
}

/// maskmov and clzero address memory through rdi or rax without saying so; 0x67 confines them.
fn implicit_data_pointer(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu | Mnemonic::Clzero
    )
}

/// Whether the instruction may write all of rsp explicitly.
pub(super) fn writes_stack_pointer(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let is_rsp = |operand: u32| {
        instruction.op_count() > operand
            && instruction.op_kind(operand) == OpKind::Register
            && matches!(instruction.op_register(operand), Register::RSP | Register::SP)
    };
    if is_rsp(0) {
        return !matches!(instruction.mnemonic(), M::Cmp | M::Test | M::Bt);
    }
    is_rsp(1) && matches!(instruction.mnemonic(), M::Xchg | M::Xadd | M::Mulx)
}

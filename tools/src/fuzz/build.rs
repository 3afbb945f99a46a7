//! Makes cases: random instructions, with registers and memory such that they mostly do something.
//!
//! Every memory operand is aimed at a place in [`AREAS`], or just beside one, by solving its address for a register
//! or the displacement. So native addresses stay below 4 GiB, where confinement changes nothing.

use iced_x86::{
    Code, ConstantOffsets, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::case::{AREAS, CODE, Case, MAX_CODE, MAX_POKES, PAGE, STACKS, Use};
use super::encode::random_encoding;
use super::random::Random;
use endo_core::Registers;
use endo_core::arch::{Flags, Gpr};

/// The segment bases of all cases of a run: they are constants in translated code, and changing them drops all of it.
pub const FS_BASE: u64 = 0x2000_0940;
/// See [`FS_BASE`].
pub const GS_BASE: u64 = 0xe000_0ff0;

/// A case being made.
pub struct Builder<'a> {
    case: Case,
    random: &'a mut Random,
    /// Registers, by number, whose value an instruction relies on.
    pinned: u32,
    /// Registers that an instruction writes.
    written: u32,
}

/// An instruction of a case.
struct Piece {
    bytes: Vec<u8>,
    instruction: Instruction,
    offsets: ConstantOffsets,
}

impl Piece {
    fn new(bytes: Vec<u8>, address: u64) -> Piece {
        let mut decoder = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let offsets = decoder.get_constant_offsets(&instruction);
        Piece { bytes, instruction, offsets }
    }

    fn patch(&mut self, offset: usize, size: usize, value: u64) {
        self.bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
        *self = Piece::new(core::mem::take(&mut self.bytes), self.instruction.ip());
    }
}

impl<'a> Builder<'a> {
    /// A case without code.
    pub fn new(random: &'a mut Random) -> Self {
        let area = AREAS[random.pick(&CODE)];
        // At the page's end now and then, so that the code runs into the hole behind it.
        let at = if random.chance(4) {
            area.end() - random.below(24) - 1
        } else {
            area.start + 0x800 + random.below(64)
        };
        let mut registers = Registers { pc: at, fs_base: FS_BASE, gs_base: GS_BASE, ..Registers::default() };
        registers.flags = Flags(random.bits() & Flags::STATUS_AND_DIRECTION).sanitised();
        if random.chance(70) {
            registers.flags.0 &= !DIRECTION;
        }
        let mut case = Case {
            at,
            length: 0,
            code: [0; MAX_CODE],
            registers,
            vector_seed: random.bits(),
            index_register: 0xff,
            index_size: 8,
            mxcsr: 0x1f80,
            x87_control: 0x37f,
            pokes: [(0, 0); MAX_POKES],
        };
        if random.chance(12) {
            case.mxcsr = random.bits() as u32 & 0xffff;
            case.x87_control = random.bits() as u16 & 0x0f3f | 0x40;
        }
        let mut builder = Builder { case, random, pinned: 0, written: 0 };
        for number in 0..16 {
            builder.case.registers.gpr[number] = builder.value();
        }
        let stack = builder.stack();
        builder.case.registers.set_stack_pointer(stack);
        builder.pinned = 1 << Gpr::Rsp as u32;
        builder
    }

    /// The finished case.
    pub fn finish(self) -> Case {
        self.case
    }

    /// Appends an instruction. False if it has no encoding, no room, or operands that do not go with those before.
    pub fn push(&mut self, code: Code) -> bool {
        let address = self.case.at + self.case.length as u64;
        let Some(bytes) = random_encoding(code, address, self.random) else { return false };
        let saved = (self.case, self.pinned, self.written);
        let mut piece = Piece::new(bytes, address);
        let page_end = (self.case.at | (PAGE - 1)) + 1;
        if self.case.length + piece.bytes.len() > MAX_CODE || !self.aim(&mut piece) {
            (self.case, self.pinned, self.written) = saved;
            return false;
        }
        let room = (page_end - address.min(page_end)) as usize;
        let length = piece.bytes.len().min(room);
        let at = self.case.length;
        self.case.code[at..at + length].copy_from_slice(&piece.bytes[..length]);
        self.case.length += length;
        self.note_written(&piece.instruction);
        true
    }

    fn note_written(&mut self, instruction: &Instruction) {
        let mut factory = InstructionInfoFactory::new();
        for used in factory.info(instruction).used_registers() {
            let register = used.register().full_register();
            if register.is_gpr64()
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None)
            {
                self.written |= 1 << register.number();
            }
        }
    }

    /// A value that registers often hold, or that is at the edge of something.
    fn value(&mut self) -> u64 {
        const EDGES: [u64; 8] =
            [0, 0x7f, 0x80, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, (1 << 63) - 1];
        match self.random.below(10) {
            0 | 1 => self.random.below(256),
            2 => 0_u64.wrapping_sub(self.random.below(256)),
            3 => self.random.pick(&EDGES),
            4 | 5 => self.target(8),
            6 | 7 => self.random.bits() & 0xffff_ffff,
            _ => self.random.bits(),
        }
    }

    fn stack(&mut self) -> u64 {
        let area = AREAS[self.random.pick(&STACKS)];
        match self.random.below(20) {
            0 => area.start + self.random.below(24),
            1 => area.end() - self.random.below(24),
            2 => area.start + PAGE + self.random.below(64) - 32,
            3 => area.start + PAGE / 2 + self.random.below(256),
            _ => area.start + PAGE - 0x400 + 16 * self.random.below(0x80),
        }
    }

    /// Where an operand of so many bytes may lie.
    fn target(&mut self, size: u64) -> u64 {
        let index = self.random.below(AREAS.len() as u64) as usize;
        let area = AREAS[index];
        if area.purpose == Use::Code && !self.random.chance(20) {
            return self.target(size);
        }
        let bytes = area.end() - area.start;
        match self.random.below(20) {
            0..10 => area.start + 64 * self.random.below(bytes / 64),
            10..15 => area.start + self.random.below(bytes - size.min(64)),
            15 | 16 => {
                area.start + PAGE * self.random.below(area.pages) + PAGE - self.random.below(size.max(1) + 1)
            }
            17 | 18 => area.end() - self.random.below(size.max(1) + 1),
            _ => area.start - self.random.below(size.max(1) + 1),
        }
    }

    /// Where a branch may lead.
    fn code_target(&mut self) -> u64 {
        match self.random.below(10) {
            0 => self.target(1),
            1 => self.random.bits() & 0xffff_ffff,
            _ => {
                let area = AREAS[self.random.pick(&CODE)];
                area.start + self.random.below(0x700)
            }
        }
    }

    /// Sets a register that nothing relies on yet. False if something does.
    fn set(&mut self, number: usize, value: u64) -> bool {
        if (self.pinned | self.written) >> number & 1 != 0 {
            return false;
        }
        self.case.registers.gpr[number] = value;
        self.pinned |= 1 << number;
        true
    }

    /// Gives an instruction operands that make it do something.
    fn aim(&mut self, piece: &mut Piece) -> bool {
        let mnemonic = piece.instruction.mnemonic();
        if !self.aim_branch(piece) {
            return false;
        }
        let instruction = piece.instruction;
        match mnemonic {
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
                if instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register =>
            {
                let bit = self.random.below(4096).wrapping_sub(2048);
                if !self.set(instruction.op1_register().number(), bit) {
                    return false;
                }
            }
            Mnemonic::Div | Mnemonic::Idiv if self.random.chance(70) => {
                self.set(Gpr::Rdx as usize, 0);
            }
            Mnemonic::Clzero => {
                let target = self.target(64);
                self.set(Gpr::Rax as usize, target);
            }
            Mnemonic::Leave | Mnemonic::Enter => {
                let frame = self.stack();
                self.set(Gpr::Rbp as usize, frame);
            }
            Mnemonic::Popf | Mnemonic::Popfq => {
                // Not the ID flag: `rt_sigreturn` would leave it set for the native cases behind this one.
                let flags = self.random.bits() & Flags::STATUS_AND_DIRECTION | Flags::FIXED;
                self.case.poke(self.case.registers.stack_pointer(), flags);
            }
            Mnemonic::Xgetbv => {
                let register = self.random.below(2);
                self.set(Gpr::Rcx as usize, register);
            }
            Mnemonic::Ret => {
                let target = self.code_target();
                self.case.poke(self.case.registers.stack_pointer(), target);
            }
            _ => {}
        }
        if instruction.has_rep_prefix() || instruction.has_repne_prefix() {
            let count = match self.random.below(10) {
                0..7 => self.random.below(40),
                7 | 8 => self.random.below(0x1800),
                _ => u64::MAX,
            };
            self.set(Gpr::Rcx as usize, count);
        }
        (0..piece.instruction.op_count()).all(|operand| self.aim_operand(piece, operand))
    }

    fn aim_operand(&mut self, piece: &mut Piece, operand: u32) -> bool {
        let size = piece.instruction.memory_size().size() as u64;
        match piece.instruction.op_kind(operand) {
            OpKind::Memory => self.aim_memory(piece),
            OpKind::MemorySegRSI | OpKind::MemorySegESI => {
                let target = self.target(size).wrapping_sub(self.segment_base(&piece.instruction));
                self.set(Gpr::Rsi as usize, target)
            }
            OpKind::MemoryESRDI | OpKind::MemoryESEDI => {
                let target = self.target(size);
                self.set(Gpr::Rdi as usize, target)
            }
            OpKind::MemorySegRDI | OpKind::MemorySegEDI => {
                let target = self.target(size).wrapping_sub(self.segment_base(&piece.instruction));
                self.set(Gpr::Rdi as usize, target)
            }
            _ => true,
        }
    }

    fn aim_branch(&mut self, piece: &mut Piece) -> bool {
        let instruction = piece.instruction;
        if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64 {
            if piece.offsets.immediate_size() == 4 {
                let target = self.code_target();
                let distance = target.wrapping_sub(instruction.next_ip());
                if distance as i32 as i64 as u64 == distance {
                    piece.patch(piece.offsets.immediate_offset(), 4, distance);
                }
            }
            let target = piece.instruction.near_branch_target();
            // Not back into the case, or it may never end; and nowhere above the window.
            let back = (self.case.at..=instruction.ip()).contains(&target);
            return target < 0xffff_0000 && (!back || self.random.chance(2));
        }
        if instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect() {
            if instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_gpr64() {
                let target = self.code_target();
                return self.set(instruction.op0_register().number(), target);
            }
            return instruction.op0_kind() == OpKind::Memory;
        }
        true
    }

    fn segment_base(&self, instruction: &Instruction) -> u64 {
        match instruction.memory_segment() {
            Register::FS => FS_BASE,
            Register::GS => GS_BASE,
            _ => 0,
        }
    }

    /// Makes the memory operand lead to some place.
    fn aim_memory(&mut self, piece: &mut Piece) -> bool {
        let instruction = piece.instruction;
        let size = match instruction.mnemonic() {
            Mnemonic::Lea => 8,
            _ => (instruction.memory_size().size() as u64).max(1),
        };
        let found = (0..12).find_map(|_| {
            let mut target = self.target(size);
            if instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect() {
                // Translated code loads the half of the pointer that counts; only this keeps the other half mapped.
                target &= !7;
            }
            let offset = target.wrapping_sub(self.segment_base(&instruction));
            self.solve(piece, offset).then_some(target)
        });
        let Some(target) = found else { return false };
        if instruction.code().op_code().is_save_restore() {
            self.make_restorable(target);
        }
        if instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect() {
            let code = self.code_target();
            self.case.poke(target, code);
        }
        true
    }

    /// Makes an image that FXRSTOR and XRSTOR accept, but for its alignment (SDM volume 1, 13.8.1).
    fn make_restorable(&mut self, image: u64) {
        const MXCSR: u64 = 24;
        const HEADER: u64 = 512;
        self.case.poke(image + MXCSR, 0xffff_0000_1f80);
        let present = self.random.bits() & 7;
        self.case.poke(image + HEADER, present);
        for word in 1..8 {
            self.case.poke(image + HEADER + 8 * word, 0);
        }
    }

    /// Makes the operand's offset this one, or nearly so where a register is scaled.
    fn solve(&mut self, piece: &mut Piece, wanted: u64) -> bool {
        let instruction = piece.instruction;
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let scale = u64::from(instruction.memory_index_scale());
        let (displacement, displacement_size) =
            (piece.offsets.displacement_offset(), piece.offsets.displacement_size());
        if instruction.is_ip_rel_memory_operand() {
            let distance = wanted.wrapping_sub(instruction.next_ip());
            let fits = distance as i32 as i64 as u64 == distance;
            if fits {
                piece.patch(displacement, 4, distance);
            }
            return fits;
        }
        if base == Register::None && index == Register::None {
            let fits = displacement_size == 8 || wanted as i32 as i64 as u64 == wanted;
            if fits {
                piece.patch(displacement, displacement_size, wanted);
            }
            return fits;
        }
        let rest = wanted.wrapping_sub(instruction.memory_displacement64());
        if index.is_vector_register() {
            if self.case.index_register < 32 && usize::from(self.case.index_register) != index.number() {
                return false;
            }
            self.case.index_register = index.number() as u8;
            self.case.index_size = if instruction.is_vsib64() { 8 } else { 4 };
            if base == Register::None {
                let fits = wanted as i32 as i64 as u64 == wanted;
                if fits {
                    piece.patch(displacement, 4, wanted);
                }
                return fits;
            }
            return self.set_part(base, rest);
        }
        let index_value = match index {
            Register::None => 0,
            Register::AL => self.case.registers.get(Gpr::Rax) & 0xff,
            _ => self.case.registers.gpr[index.number()],
        };
        if base == Register::None {
            return self.set_part(index, rest / scale);
        }
        if index != Register::None && base.number() == index.number() && index != Register::AL {
            return self.set_part(base, rest / (1 + scale));
        }
        if index != Register::None && self.written >> index.full_register().number() & 1 != 0 {
            return false;
        }
        if base == Register::RSP || base == Register::ESP {
            // The stack pointer stays where it is; the index or the displacement makes up for it.
            let rest = rest.wrapping_sub(self.case.registers.stack_pointer());
            if index != Register::None {
                return self.set_part(index, rest / scale);
            }
            return self.random.chance(50);
        }
        let solved = self.set_part(base, rest.wrapping_sub(index_value.wrapping_mul(scale)));
        if solved && index != Register::None {
            self.pinned |= 1 << index.full_register().number();
        }
        solved
    }

    /// Sets a register as far as the operand uses it; what lies above 32 bits then does not matter.
    fn set_part(&mut self, register: Register, value: u64) -> bool {
        let number = register.number();
        if register.is_gpr32() {
            let upper = self.random.bits() & !0xffff_ffff;
            return self.set(number, value & 0xffff_ffff | upper);
        }
        self.set(number, value)
    }
}

const DIRECTION: u64 = 1 << 10;

//! Encoding of the instructions that the translator adds, and of memory operands that it rebuilds.

use crate::context::Context;
use core::mem::offset_of;

/// A general register's number, as instructions encode it.
pub type RegisterNumber = u8;
/// r11, the register that dispatch uses: of all registers the one that compilers keep values in least, so that parking it
/// in memory is hardly ever on a program's critical path.
pub const R11: RegisterNumber = 11;
/// rsp.
pub const RSP: RegisterNumber = 4;

/// A segment whose base a guest chooses. The numbers index [`Context::guest_bases`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentBase {
    /// FS.
    Fs = 0,
    /// GS.
    Gs = 1,
}

/// Compilers align loops and functions to this many bytes, for the processor fetches instructions in such blocks; so does
/// the translator where they did.
pub const ALIGNMENT: u32 = 16;

/// Length of [`Emitter::reload`].
pub const RELOAD_BYTES: u32 = 9;

/// Length of [`Emitter::arrive_by_return`].
pub const RETURN_BYTES: u32 = 4;

/// A confined memory operand: `[base + index * scale + displacement]` modulo 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operand {
    /// Base register.
    pub base: Option<RegisterNumber>,
    /// Index register and the power of two it is scaled by.
    pub index: Option<(RegisterNumber, u8)>,
    /// Added modulo 2^32.
    pub displacement: u32,
}

/// Instructions of zero to nine bytes that do nothing (SDM volume 2, NOP).
const NOPS: [&[u8]; 10] = [
    &[],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// Code being emitted, for a known address.
#[derive(Debug, Default)]
pub struct Emitter {
    code: Vec<u8>,
    address: u64,
    context: i32,
}

impl Emitter {
    /// `context` is the thread context's distance from the thread pointer.
    pub fn new(context: i32) -> Self {
        Emitter { code: Vec::with_capacity(16 << 10), address: 0, context }
    }

    /// Starts anew, for code that will run at `address`.
    pub fn restart(&mut self, address: u64) {
        self.code.clear();
        self.address = address;
    }

    /// The code so far.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// Bytes so far.
    pub fn offset(&self) -> u32 {
        self.code.len() as u32
    }

    /// Where an offset will run.
    pub fn address_of(&self, offset: u32) -> u64 {
        self.address + u64::from(offset)
    }

    /// Raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// Instructions that do nothing, up to where `ahead` bytes more would reach a multiple of [`ALIGNMENT`].
    pub fn align(&mut self, ahead: u32) {
        let past = (self.address_of(self.offset() + ahead) % u64::from(ALIGNMENT)) as usize;
        let mut missing = (ALIGNMENT as usize - past) % ALIGNMENT as usize;
        while missing > 0 {
            let length = missing.min(NOPS.len() - 1);
            self.bytes(NOPS[length]);
            missing -= length;
        }
    }

    /// `mov fs:[spill slot], register`.
    pub fn spill(&mut self, slot: usize, register: RegisterNumber) {
        self.context_access(0x89, slot, register);
    }

    /// `mov register, fs:[spill slot]`.
    pub fn reload(&mut self, slot: usize, register: RegisterNumber) {
        self.context_access(0x8b, slot, register);
    }

    /// `mov register, fs:[guest base]`.
    pub fn load_base(&mut self, base: SegmentBase, register: RegisterNumber) {
        self.context_slot(0x8b, offset_of!(Context, guest_bases) + 8 * base as usize, register);
    }

    fn context_access(&mut self, opcode: u8, slot: usize, register: RegisterNumber) {
        self.context_slot(opcode, offset_of!(Context, spill) + 8 * slot, register);
    }

    fn context_slot(&mut self, opcode: u8, offset: usize, register: RegisterNumber) {
        let displacement = self.context + offset as i32;
        let rex = 0x48 | if register & 8 != 0 { 4 } else { 0 };
        self.bytes(&[0x64, rex, opcode, 0x04 | (register & 7) << 3, 0x25]);
        self.bytes(&displacement.to_le_bytes());
    }

    /// `mov dword ptr fs:[exit_info], value`.
    pub fn set_exit_info(&mut self, value: u32) {
        let displacement = self.context + offset_of!(Context, exit_info) as i32;
        self.bytes(&[0x64, 0xc7, 0x04, 0x25]);
        self.bytes(&displacement.to_le_bytes());
        self.bytes(&value.to_le_bytes());
    }

    /// `mov r32, r32` with both the same: truncates the register to 32 bits.
    pub fn truncate(&mut self, register: RegisterNumber) {
        self.move32(register, register);
    }

    /// `mov to, from`, 32 bits.
    pub fn move32(&mut self, to: RegisterNumber, from: RegisterNumber) {
        if (to | from) & 8 != 0 {
            self.bytes(&[0x40 | (from & 8) >> 1 | (to & 8) >> 3]);
        }
        self.bytes(&[0x89, 0xc0 | (from & 7) << 3 | to & 7]);
    }

    /// `mov to, dword ptr [operand]`.
    pub fn load32(&mut self, to: RegisterNumber, operand: Operand) {
        self.with_operand(&[0x8b], to, operand);
    }

    /// An instruction without REX.W: opcode, register field, confined memory operand.
    pub fn with_operand(&mut self, opcode: &[u8], register: u8, operand: Operand) {
        let rex = (register & 8) >> 1 | operand.rex();
        self.bytes(&[0x67]);
        if rex != 0 {
            self.bytes(&[0x40 | rex]);
        }
        self.bytes(opcode);
        self.bytes(&operand.encode(register));
    }

    /// Pushes a guest address, zero-extended. Two forms, because `push imm32` sign-extends.
    pub fn push_address(&mut self, value: u32) {
        if value as i32 >= 0 {
            self.bytes(&[0x68]);
            self.bytes(&value.to_le_bytes());
            return;
        }
        self.bytes(&[0x8d, 0x64, 0x24, 0xf8]); // lea esp, [rsp - 8]
        self.store_halves(value);
    }

    fn store_halves(&mut self, value: u32) {
        for (displacement, half) in [(0, value), (4, 0)] {
            self.with_operand(&[0xc7], 0, Operand { base: Some(RSP), index: None, displacement });
            self.bytes(&half.to_le_bytes());
        }
    }

    /// `mov qword [esp], value`, zero-extended. Two forms, because the immediate of the first is sign-extended.
    pub fn store_at_stack_pointer(&mut self, value: u32) {
        if value as i32 >= 0 {
            self.bytes(&[0x67, 0x48, 0xc7, 0x04, 0x24]);
            self.bytes(&value.to_le_bytes());
            return;
        }
        self.store_halves(value);
    }

    /// `jmp gs:[r11 * 8]`: to where the dispatch table says.
    pub fn dispatch(&mut self) {
        self.bytes(&[0x65, 0x42, 0xff, 0x24, 0xdd, 0, 0, 0, 0]);
    }

    /// `lea esp, [r11 + 8]`: what a return arrives at, directly before an indirect entry.
    pub fn arrive_by_return(&mut self) {
        self.bytes(&[0x41, 0x8d, 0x63, 0x08]);
    }

    /// Returns to directly before the entry that the dispatch table has for r11, with rsp in r11.
    pub fn return_to_entry(&mut self) {
        self.bytes(&[0x65, 0x4e, 0x8b, 0x1c, 0xdd, 0, 0, 0, 0]); // mov r11, gs:[r11 * 8]
        self.bytes(&[0x4d, 0x8d, 0x5b, 0xfc]); // lea r11, [r11 - 4]
        self.context_slot(0x89, offset_of!(Context, return_target), R11);
        self.move32(R11, RSP);
        self.context_slot(0x8b, offset_of!(Context, return_stack), RSP);
        self.bytes(&[0xc3]);
    }

    /// `call rel32` to somewhere; returns the offset of the rel32 field.
    pub fn call(&mut self) -> u32 {
        self.bytes(&[0xe8]);
        self.relative(self.address)
    }

    /// Pads so that the rel32 field that comes `ahead` bytes from here can be patched by one atomic store: it lies within
    /// eight aligned bytes.
    pub fn align_link(&mut self, ahead: u32) {
        let into = (self.address_of(self.offset() + ahead) % 8) as usize;
        if into > 4 {
            self.bytes(NOPS[8 - into]);
        }
    }

    /// Whether the rel32 field at an offset can be patched by one atomic store.
    pub fn is_aligned_link(&self, site: u32) -> bool {
        self.address_of(site) % 8 <= 4
    }

    /// `jmp rel32` to an address; returns the offset of the rel32 field.
    pub fn jump(&mut self, target: u64) -> u32 {
        self.bytes(&[0xe9]);
        self.relative(target)
    }

    /// `jcc rel32` to an address; `condition` as instructions encode it. Returns the offset of the rel32 field.
    pub fn jump_if(&mut self, condition: u8, target: u64) -> u32 {
        self.bytes(&[0x0f, 0x80 | condition]);
        self.relative(target)
    }

    /// Makes the rel32 field at `site` lead to `target`.
    pub fn set_target(&mut self, site: u32, target: u64) {
        let displacement = (target as i64 - (self.address_of(site) as i64 + 4)) as i32;
        self.code[site as usize..site as usize + 4].copy_from_slice(&displacement.to_le_bytes());
    }

    /// `lea r11, [rip + …]`: the address `bytes` bytes after the end of this instruction.
    pub fn link_register(&mut self, bytes: u32) {
        self.bytes(&[0x4c, 0x8d, 0x1d]);
        self.bytes(&bytes.to_le_bytes());
    }

    fn relative(&mut self, target: u64) -> u32 {
        let site = self.offset();
        self.bytes(&[0; 4]);
        self.set_target(site, target);
        site
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};

    use super::*;

    #[test]
    fn each_padding_is_one_instruction_that_does_nothing() {
        for nop in &NOPS[1..] {
            let mut decoder = Decoder::new(64, nop, DecoderOptions::NONE);
            assert_eq!((decoder.decode().mnemonic(), decoder.position()), (Mnemonic::Nop, nop.len()));
        }
    }

    #[test]
    fn what_follows_the_padding_is_aligned_whatever_the_address() {
        for address in 0x1000..0x1020 {
            let mut emitter = Emitter::new(0);
            emitter.restart(address);
            emitter.align(RELOAD_BYTES);
            assert_eq!(emitter.address_of(emitter.offset() + RELOAD_BYTES) % 16, 0, "{address:#x}");
            assert!(emitter.offset() < ALIGNMENT);
        }
    }

    #[test]
    fn a_reload_is_as_long_as_it_says() {
        let mut emitter = Emitter::new(-1024);
        emitter.reload(crate::context::SPILL_R11, R11);
        assert_eq!(emitter.offset(), RELOAD_BYTES);
    }
}

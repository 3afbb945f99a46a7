//! `xrstor`: loads parts of the processor's state from memory, as edx:eax says which.

use iced_x86::{Code, Instruction, Register};

use super::emit::{Operand, RegisterNumber};
use super::encoding::confined_operand;
use super::segment::segment_base;
use super::{Flow, Translator};
use crate::context::{SPILL_ADDRESS, SPILL_SCRATCH};

const RAX: RegisterNumber = 0;

impl Translator {
    /// Guests are offered no part of the state beyond the first eight (x87, SSE, AVX, AVX-512); the rights of protection keys
    /// are the tenth, and must stay as they are. So the mask is cut, without touching flags:
    ///
    /// ```text
    ///         mov fs:[address], rsi         these only if the operand has a segment base or uses rax,
    ///         mov rsi, fs:[base]            which the mask is in: rsi is a register that the
    ///         lea esi, [esi + ecx]          instruction does not use, and becomes the address
    ///         lea esi, [esi + …]
    ///         mov fs:[scratch], rax
    ///         movzx eax, al
    ///         xrstor [ecx + …]              or [esi]
    ///         mov rax, fs:[scratch]
    ///         mov rsi, fs:[address]         likewise
    /// ```
    ///
    /// [`crate::recover`] knows this sequence.
    pub(super) fn restore_state(&mut self, instruction: &Instruction) -> Flow {
        let uses_mask = [instruction.memory_base(), instruction.memory_index()]
            .iter()
            .any(|register| register.full_register() == Register::RAX);
        if !uses_mask && segment_base(instruction).is_none() {
            self.cut_mask();
            let flow = self.copy_confined(instruction);
            self.emitter.reload(SPILL_SCRATCH, RAX);
            return flow;
        }
        let at = instruction.ip() as u32;
        let Some(operand) = confined_operand(instruction) else { return self.special(at) };
        let Some(address) = self.unused_register(instruction) else { return self.special(at) };
        self.emitter.spill(SPILL_ADDRESS, address);
        self.address_of_operand(instruction, operand, address);
        self.cut_mask();
        let place = Operand { base: Some(address), index: None, displacement: 0 };
        let opcode: &[u8] =
            if instruction.code() == Code::Xrstor64_mem { &[0x48, 0x0f, 0xae] } else { &[0x0f, 0xae] };
        self.emitter.with_operand(opcode, 5, place);
        self.emitter.reload(SPILL_SCRATCH, RAX);
        self.emitter.reload(SPILL_ADDRESS, address);
        Flow::Continues
    }

    fn cut_mask(&mut self) {
        self.emitter.spill(SPILL_SCRATCH, RAX);
        self.emitter.bytes(&[0x0f, 0xb6, 0xc0]);
    }

    /// Loads the address of a memory operand, segment base included, into a register.
    fn address_of_operand(&mut self, instruction: &Instruction, operand: Operand, to: RegisterNumber) {
        let mut operand = operand;
        if let Some(base) = segment_base(instruction) {
            self.emitter.load_base(base, to);
            if let Some(other) = operand.base {
                let sum = Operand { base: Some(other), index: Some((to, 0)), displacement: 0 };
                self.emitter.with_operand(&[0x8d], to, sum);
            }
            operand.base = Some(to);
        }
        self.emitter.with_operand(&[0x8d], to, operand);
    }
}

//! The stack pointer: at every instruction boundary it is below 4 GiB.

use iced_x86::{Instruction, Mnemonic, OpKind, Register, RflagsBits};

use super::emit::RSP;
use super::encoding::{has_memory_operand, layout};
use super::plain::writes_stack_pointer;
use super::{Flow, Translator};

const ALL_STATUS_FLAGS: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

impl Translator {
    /// push, pop: rsp moves by at most eight and is touched, so it stays inside or faults in a guard.
    pub(super) fn stack(&mut self, instruction: &Instruction) -> Flow {
        if instruction.mnemonic() == Mnemonic::Pop && writes_stack_pointer(instruction) {
            return match instruction.op0_register() {
                Register::RSP => self.pop_stack_pointer(),
                _ => self.special(instruction.ip() as u32),
            };
        }
        self.copy_confined(instruction)
    }

    /// An instruction that writes rsp: its 32-bit form where that is the same, else the instruction and a truncation.
    pub(super) fn plain_to_stack_pointer(
        &mut self,
        instruction: &Instruction,
        following: &[Instruction],
    ) -> Flow {
        let (mut bytes, length) = self.original(instruction);
        let narrow_is_exact = match instruction.mnemonic() {
            Mnemonic::Lea => instruction.op0_register() == Register::RSP,
            Mnemonic::Mov => {
                instruction.op0_register() == Register::RSP && instruction.op1_kind() == OpKind::Register
            }
            Mnemonic::Add | Mnemonic::Sub | Mnemonic::And => {
                instruction.op0_register() == Register::RSP
                    && instruction.op1_kind() != OpKind::Memory
                    && flags_are_dead(following)
            }
            _ => false,
        };
        if narrow_is_exact
            && !(instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand())
            && let Some(rex) = layout(&bytes[..length], instruction).rex
            // Beside REX.W it has no effect; without, it would make the form one of 16 bits.
            && !bytes[..rex].contains(&0x66)
        {
            bytes[rex] &= !0x08;
            self.emitter.bytes(&bytes[..length]);
            return Flow::Continues;
        }
        let flow = if has_memory_operand(instruction) && instruction.mnemonic() == Mnemonic::Lea {
            self.emitter.bytes(&bytes[..length]);
            Flow::Continues
        } else {
            self.copy_confined(instruction)
        };
        if flow == Flow::Continues {
            self.emitter.truncate(RSP);
        }
        flow
    }
}

/// Whether the status flags are all written before one of them is read, in the instructions that follow in a straight
/// line. (Seen from a signal in between, the sign and overflow of a 32-bit result could differ from the 64-bit one's; a
/// stack below 2 GiB, where the loader puts it, excludes that.)
pub(super) fn flags_are_dead(following: &[Instruction]) -> bool {
    let mut pending = ALL_STATUS_FLAGS;
    for instruction in following.iter().take(24) {
        if instruction.rflags_read() & pending != 0 {
            return false;
        }
        pending &= !instruction.rflags_modified();
        if pending == 0 {
            return true;
        }
        if instruction.flow_control() != iced_x86::FlowControl::Next {
            return false;
        }
    }
    false
}

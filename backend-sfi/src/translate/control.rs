//! Control transfers: direct branches and their links, calls, returns, indirect branches, system calls.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::calls::Callee;
use super::emit::{Operand, R11, RSP};
use super::encoding::{confined_operand, register_number};
use super::linkage::{self, Expectation};
use super::segment::segment_base;
use super::{Environment, ExitSite, Flow, Translator};
use crate::cache::Gate;
use crate::returns::Returns;

/// Length of `jmp rel32`.
const JUMP_BYTES: u32 = 5;
/// Length of `cmp dword [disp32], imm32` with 32-bit addressing.
const COMPARISON_BYTES: u32 = 12;

impl Translator {
    /// `jmp rel`
    pub(super) fn jump(&mut self, target: u32) -> Flow {
        self.emitter.align_link(1);
        let site = self.emitter.jump(0);
        self.forward.push((site, target));
        Flow::Ends
    }

    /// `jcc rel`
    pub(super) fn conditional_jump(&mut self, instruction: &Instruction) -> Flow {
        // iced numbers the conditions as instructions do, after a `None`.
        let condition = instruction.condition_code() as u8 - 1;
        self.emitter.align_link(2);
        let site = self.emitter.jump_if(condition, 0);
        self.forward.push((site, instruction.near_branch_target() as u32));
        Flow::Continues
    }

    /// `loop`, `jrcxz`…: they only come with an 8-bit displacement.
    ///
    /// ```text
    ///         loop taken
    ///         jmp on
    /// taken:  jmp target
    /// on:
    /// ```
    pub(super) fn counter_jump(&mut self, instruction: &Instruction) -> Flow {
        let opcode = match instruction.mnemonic() {
            Mnemonic::Loopne => 0xe0,
            Mnemonic::Loope => 0xe1,
            Mnemonic::Loop => 0xe2,
            _ => 0xe3,
        };
        self.emitter.align_link(5);
        self.emitter.bytes(&[opcode, 2, 0xeb, JUMP_BYTES as u8]);
        let site = self.emitter.jump(0);
        self.forward.push((site, instruction.near_branch_target() as u32));
        Flow::Continues
    }

    /// `call rel`: pushes the guest's return address and jumps.
    pub(super) fn call(&mut self, instruction: &Instruction) -> Flow {
        if self.returns == Returns::Predicted {
            return self.predicted_call(instruction, Callee::Known(instruction.near_branch_target() as u32));
        }
        let next = instruction.next_ip() as u32;
        self.emitter.push_address(next);
        self.jump(instruction.near_branch_target() as u32);
        self.indirect_entry(next);
        Flow::Continues
    }

    /// `jmp r/m`
    pub(super) fn indirect_jump(
        &mut self,
        instruction: &Instruction,
        environment: &impl Environment,
    ) -> Flow {
        if instruction.is_ip_rel_memory_operand() && instruction.segment_prefix() == Register::None {
            match linkage::expect(instruction, environment) {
                Expectation::Settled(target) => self.expected_jump(instruction, target),
                Expectation::Unsettled => return self.special(instruction.ip() as u32),
                Expectation::None => {}
            }
        }
        if !self.load_target(instruction) {
            return self.special(instruction.ip() as u32);
        }
        self.emitter.dispatch();
        Flow::Ends
    }

    /// `call r/m`
    pub(super) fn indirect_call(&mut self, instruction: &Instruction) -> Flow {
        if !self.load_target(instruction) {
            self.special(instruction.ip() as u32);
            return Flow::Ends;
        }
        if self.returns == Returns::Predicted {
            return self.predicted_call(instruction, Callee::InR11);
        }
        let next = instruction.next_ip() as u32;
        self.emitter.push_address(next);
        self.emitter.dispatch();
        self.indirect_entry(next);
        Flow::Continues
    }

    /// A jump through a linkage table: if the slot still holds what it held, a direct jump. Falls through otherwise.
    ///
    /// ```text
    ///         cmp dword [slot], expected     the flags are dead at the target
    ///         jne on
    ///         jmp expected                   linked like any direct branch
    /// on:     …
    /// ```
    fn expected_jump(&mut self, instruction: &Instruction, expected: u32) {
        let slot = instruction.ip_rel_memory_address() as u32;
        self.emitter.align_link(COMPARISON_BYTES + 3);
        let start = self.emitter.offset();
        self.emitter.with_operand(&[0x81], 7, Operand { displacement: slot, ..Operand::default() });
        self.emitter.bytes(&expected.to_le_bytes());
        debug_assert_eq!(self.emitter.offset() - start, COMPARISON_BYTES, "the jump is aligned");
        self.emitter.bytes(&[0x75, JUMP_BYTES as u8]);
        self.jump(expected);
    }

    /// Loads an indirect branch's target into r11d; the context holds what the guest has there. False for forms that are left to the runtime.
    fn load_target(&mut self, instruction: &Instruction) -> bool {
        match instruction.op0_kind() {
            OpKind::Register => {
                if instruction.op0_register().size() != 8 {
                    return false;
                }
                self.emitter.move32(R11, register_number(instruction.op0_register()));
            }
            _ => {
                if instruction.memory_size().size() != 8 {
                    return false;
                }
                let Some(operand) = confined_operand(instruction) else { return false };
                let Some(operand) = self.based_operand(instruction, operand) else { return false };
                self.emitter.load32(R11, operand);
            }
        }
        true
    }

    /// An indirect branch's memory operand, with the guest's segment base in r11 if it is relative to one. `None` for forms
    /// that hardly exist.
    fn based_operand(&mut self, instruction: &Instruction, operand: Operand) -> Option<Operand> {
        let Some(base) = segment_base(instruction) else { return Some(operand) };
        let with_base = match operand {
            Operand { base: None, index: None, .. } => Operand { base: Some(R11), ..operand },
            Operand { base: Some(other), index: None, .. } if other != RSP && other != R11 => {
                Operand { base: Some(R11), index: Some((other, 0)), ..operand }
            }
            _ => return None,
        };
        self.emitter.load_base(base, R11);
        Some(with_base)
    }

    /// `ret`, `ret imm16`
    pub(super) fn return_(&mut self, instruction: &Instruction) -> Flow {
        if matches!(instruction.code(), Code::Retnw | Code::Retnw_imm16) {
            return self.special(instruction.ip() as u32);
        }
        if self.returns == Returns::Predicted && instruction.op_count() == 0 {
            return self.predicted_return();
        }
        self.emitter.bytes(&[0x41, 0x5b]); // pop r11
        if instruction.op_count() == 1 {
            self.emitter.bytes(&[0x8d, 0xa4, 0x24]); // lea esp, [rsp + imm]
            self.emitter.bytes(&u32::from(instruction.immediate16()).to_le_bytes());
        }
        self.emitter.truncate(R11);
        self.emitter.dispatch();
        Flow::Ends
    }

    /// `syscall`: the gate finds where to go on in r11, which the instruction clobbers.
    pub(super) fn syscall(&mut self, instruction: &Instruction) -> Flow {
        self.emitter.set_exit_info(instruction.next_ip() as u32);
        self.emitter.link_register(JUMP_BYTES);
        let site = self.emitter.jump(self.constants.syscall);
        self.gates.push((site, Gate::Syscall));
        Flow::Continues
    }

    /// Leaves the instruction at `guest` to the runtime.
    pub(super) fn special(&mut self, guest: u32) -> Flow {
        self.emitter.set_exit_info(guest);
        let site = self.emitter.jump(self.constants.special);
        self.gates.push((site, Gate::Special));
        Flow::Ends
    }

    /// Goes on at a guest address that this fragment does not cover.
    pub(super) fn branch_out(&mut self, target: u32) {
        self.jump(target);
    }

    /// Gives every direct branch its target: inside the fragment, elsewhere in the cache, or a stub.
    pub(super) fn resolve_forward(&mut self, environment: &impl Environment) {
        let forward = core::mem::take(&mut self.forward);
        for &(site, target) in &forward {
            if let Some(offset) = self.offset_of_guest(target) {
                let address = self.emitter.address_of(offset);
                self.emitter.set_target(site, address);
                if offset <= site {
                    // The way back in a loop is an exit too: when the fragment is retired, who runs it must get out.
                    self.exits.push(ExitSite { site, target, stub: None });
                }
            } else if let Some(address) = environment.lookup(target) {
                self.emitter.set_target(site, address);
                self.exits.push(ExitSite { site, target, stub: None });
            } else {
                self.exits.push(ExitSite { site, target, stub: Some(0) });
            }
        }
        self.forward = forward;
    }

    /// The stubs of unlinked exits: each tells the gate its number.
    pub(super) fn emit_stubs(&mut self, environment: &impl Environment) {
        let first = environment.next_exit();
        for index in 0..self.exits.len() {
            let ExitSite { site, stub, .. } = self.exits[index];
            if stub.is_none() {
                continue;
            }
            let offset = self.emitter.offset();
            self.emit_stub(first + index as u32);
            let address = self.emitter.address_of(offset);
            self.emitter.set_target(site, address);
            self.exits[index].stub = Some(offset);
        }
    }

    /// The stub of an exit, by itself, to run at `address`. What was translated before is lost.
    pub fn stub(&mut self, address: u64, number: u32) -> &[u8] {
        self.emitter.restart(address);
        self.emit_stub(number);
        self.emitter.code()
    }

    fn emit_stub(&mut self, number: u32) {
        self.emitter.set_exit_info(number);
        let gate = self.constants.link;
        self.emitter.jump(gate);
    }

    pub(super) fn offset_of_guest(&self, guest: u32) -> Option<u32> {
        let distance = u16::try_from(guest.checked_sub(self.start)?).ok()?;
        let found = self.map.binary_search_by_key(&distance, |entry| entry.guest).ok()?;
        Some(u32::from(self.map[found].code))
    }

    /// `leave`: with rbp confined first, the instruction itself confines rsp.
    pub(super) fn leave(&mut self, instruction: &Instruction) -> Flow {
        let (bytes, length) = self.original(instruction);
        self.emitter.truncate(5);
        self.emitter.bytes(&bytes[..length]);
        Flow::Continues
    }

    /// `pop rsp`: the value popped replaces the incremented pointer, so a load does it.
    pub(super) fn pop_stack_pointer(&mut self) -> Flow {
        self.emitter.load32(RSP, Operand { base: Some(RSP), index: None, displacement: 0 });
        Flow::Continues
    }
}

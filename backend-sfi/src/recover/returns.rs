//! Exact guest state inside the calls and returns that the processor predicts: see `crate::translate::calls` for their
//! sequences.

use endo_core::Registers;
use endo_core::arch::Gpr;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{Spilled, Standing, dispatched};
use crate::context::SPILL_R11;
use crate::translate::classify::{Class, classify};

const NARROW: u64 = u32::MAX as u64;

/// A place in the thunk of a call.
pub(super) struct Thunk<'a> {
    /// The guest's return address.
    pub(super) back: u32,
    /// The thunk's instructions that have run.
    pub(super) done: &'a [Instruction],
}

/// If `here`, the instruction to come, is in a thunk, which `done` leads to: nothing else stores through esp behind a jump.
pub(super) fn in_thunk<'a>(done: &'a [Instruction], here: Option<&Instruction>) -> Option<Thunk<'a>> {
    let jump = done.iter().rposition(ends)?;
    let thunk = &done[jump + 1..];
    let first = thunk.first().or(here)?;
    let stores = first.mnemonic() == Mnemonic::Mov
        && first.op0_kind() == OpKind::Memory
        && first.memory_base() == Register::ESP
        && matches!(first.op1_kind(), OpKind::Immediate32 | OpKind::Immediate32to64);
    stores.then(|| Thunk { back: first.immediate32(), done: thunk })
}

fn ends(host: &Instruction) -> bool {
    host.is_jmp_near() || host.is_jmp_near_indirect() || host.mnemonic() == Mnemonic::Ret
}

/// In the thunk of `call`: the host's `call` has moved rsp, and the guest's return address is there or not.
pub(super) fn unwind_thunk(
    call: &Instruction,
    done: &[Instruction],
    spilled: &Spilled,
    registers: &mut Registers,
) -> Standing {
    let stored = done.iter().filter(|host| host.op0_kind() == OpKind::Memory).count();
    let wanted = match done.first() {
        Some(first) if first.op1_kind() == OpKind::Immediate32to64 => 1,
        // Two halves of four bytes.
        _ => 2,
    };
    let is_direct = classify(call) == Class::Call;
    if stored < wanted {
        registers.set_stack_pointer((registers.stack_pointer() + 8) & NARROW);
        if !is_direct {
            registers.set(Gpr::R11, spilled[SPILL_R11]);
        }
        return Standing::At(call.ip() as u32);
    }
    if is_direct { Standing::After(call.near_branch_target() as u32) } else { dispatched(spilled, registers) }
}

/// In the sequence of a return, some of which has run: nothing has happened yet that the guest could see.
pub(super) fn unwind_return(
    instruction: &Instruction,
    done: &[Instruction],
    spilled: &Spilled,
    registers: &mut Registers,
) -> Standing {
    let has_left_stack = done.iter().any(|host| host.op0_register() == Register::RSP);
    if has_left_stack {
        registers.set_stack_pointer(registers.get(Gpr::R11) & NARROW);
    }
    registers.set(Gpr::R11, spilled[SPILL_R11]);
    Standing::At(instruction.ip() as u32)
}

/// Before an indirect entry: if a return has just arrived, r11 is rsp as it was before it.
pub(super) fn arrive(here: Option<&Instruction>, registers: &mut Registers) {
    let arrives = here.is_some_and(|host| {
        host.mnemonic() == Mnemonic::Lea
            && host.op0_register() == Register::ESP
            && host.memory_base() == Register::R11
    });
    if arrives {
        registers.set_stack_pointer((registers.get(Gpr::R11) + 8) & NARROW);
    }
}

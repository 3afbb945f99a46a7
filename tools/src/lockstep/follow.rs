//! Lets the twin do natively what the guest has just done under translation, and says what came out differently.

use std::io::Result;

use endo_core::arch::Flags;
use endo_core::{Fault, FaultKind, Registers, ThreadState};
use endo_sfi::step::Stride;
use iced_x86::Instruction;

use super::compare;
use super::twin::{Stop, Twin};
use crate::fuzz::case::VECTOR_BYTES;

/// Steps of the twin after which it is taken to have lost its way through one fragment.
const MOST_STEPS: usize = 200_000;

/// Lets the twin do what the guest has just done.
pub(super) fn follow(
    twin: &Twin,
    stride: Stride,
    before: &ThreadState,
    after: &ThreadState,
    dead_flags: &mut u64,
) -> Result<Option<Vec<String>>> {
    let instruction = compare::instruction_at(before.registers.pc);
    if stride == Stride::Instruction && instruction.is_some_and(|at| compare::is_unrepeatable(&at)) {
        // What it stored, if it did: no more than the state of a processor.
        if let Some(address) = instruction.and_then(|at| compare::operand_address(&at, before)) {
            let _ = twin.copy_from_here(address, VECTOR_BYTES as u64);
        }
        twin.set_state(after)?;
        return Ok(None);
    }
    let mut native = before.registers;
    for _ in 0..MOST_STEPS {
        if compare::is_call(native.pc) {
            return Ok(Some(vec![format!(
                "native came to a system call at {:#x}, translated to {:#x}",
                native.pc, after.registers.pc
            )]));
        }
        if let Stop::Signal(signal, code, address) = twin.step()? {
            return Ok(Some(vec![format!(
                "native raised signal {signal} (code {code}) at address {address:#x}, translated went on to {:#x}",
                after.registers.pc
            )]));
        }
        native = twin.guest_registers()?;
        let arrived = match stride {
            // A repeated string instruction stays where it is until it is done.
            Stride::Instruction => {
                native.pc != before.registers.pc
                    || after.registers.pc == before.registers.pc
                    || !instruction.is_some_and(|at| at.has_rep_prefix() || at.has_repne_prefix())
            }
            Stride::Fragment => {
                native.pc == after.registers.pc && compare::registers(&native, &after.registers, 0).is_empty()
            }
        };
        if arrived {
            break;
        }
    }
    let mut found = flags(twin, stride, &native, after, instruction, dead_flags)?;
    found.extend(compare::registers(&native, &after.registers, 0));
    found.extend(compare::vectors(twin.vector()?.bytes(), after.vector.bytes()));
    if stride == Stride::Instruction {
        found.extend(instruction.and_then(|at| compare::operand(twin, &at, before)));
    }
    Ok((!found.is_empty()).then_some(found))
}

/// What is wrong with the flags. Those that the translator found dead may differ until they are written again; after
/// whole fragments, where nobody can tell which these are, the twin simply gets the translated ones.
fn flags(
    twin: &Twin,
    stride: Stride,
    native: &Registers,
    after: &ThreadState,
    instruction: Option<Instruction>,
    dead: &mut u64,
) -> Result<Vec<String>> {
    let unlike = (native.flags.0 ^ after.registers.flags.0) & Flags::STATUS_AND_DIRECTION;
    let (Stride::Instruction, Some(instruction)) = (stride, instruction) else {
        if unlike != 0 {
            twin.set_state(after)?;
        }
        return Ok(Vec::new());
    };
    if compare::flag_bits(instruction.rflags_read()) & *dead != 0 {
        return Ok(vec![format!("reads flags ({dead:#x}) that the translator took to be dead")]);
    }
    *dead |= compare::may_be_dead(&instruction);
    *dead &= unlike;
    let wrong = unlike & !*dead;
    let lines = [(native.flags.0, after.registers.flags.0)].into_iter().filter(|_| wrong != 0);
    Ok(lines.map(|(native, other)| format!("flags: native {native:#x}, translated {other:#x}")).collect())
}

/// Brings the twin to the system call at which the guest stands.
pub(super) fn arrive_at_call(
    twin: &Twin,
    stride: Stride,
    before: &ThreadState,
    after: &ThreadState,
) -> Result<Option<Vec<String>>> {
    let call = after.registers.pc.wrapping_sub(2);
    let mut native = twin.guest_registers()?;
    for _ in 0..MOST_STEPS {
        if native.pc == call || stride == Stride::Instruction {
            break;
        }
        if let Stop::Signal(signal, ..) = twin.step()? {
            return Ok(Some(vec![format!("native raised signal {signal} on the way to a system call")]));
        }
        native = twin.guest_registers()?;
    }
    if stride == Stride::Instruction {
        native = before.registers;
    }
    // The call clobbers these.
    let mut at_call = after.registers;
    (at_call.pc, at_call.gpr[1], at_call.gpr[11]) = (native.pc, native.gpr[1], native.gpr[11]);
    let found = compare::registers(&native, &at_call, 0);
    Ok((!found.is_empty()).then_some(found))
}

/// Lets the twin fault as the guest did.
pub(super) fn follow_fault(
    twin: &Twin,
    stride: Stride,
    before: &ThreadState,
    after: &ThreadState,
    fault: Fault,
) -> Result<Option<Vec<String>>> {
    let mut stop = Stop::Stepped;
    for _ in 0..MOST_STEPS {
        stop = twin.step()?;
        let native = twin.guest_registers()?;
        let more = stride == Stride::Fragment || native.pc == before.registers.pc;
        if stop != Stop::Stepped || !more {
            break;
        }
    }
    let Stop::Signal(_, _, address) = stop else {
        return Ok(Some(vec![format!("translated faulted ({fault:?}), native went on")]));
    };
    let mut found = compare::registers(&twin.guest_registers()?, &after.registers, 0);
    let has_address =
        matches!(fault.kind, FaultKind::Read { .. } | FaultKind::Write { .. } | FaultKind::Execute { .. });
    if has_address && address != fault.address.0 {
        found.push(format!("fault address: native {address:#x}, translated {:#x}", fault.address.0));
    }
    Ok((!found.is_empty()).then_some(found))
}

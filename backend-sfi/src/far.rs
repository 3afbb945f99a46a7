//! Accesses that a guest aimed past its window: what address the kernel would have named.
//!
//! Emitted code computes addresses modulo 2^32, so the fault of an access far away names the address where it wrapped
//! to. The guest's own registers still tell where it was meant to go.

use endo_core::arch::Gpr;
use endo_core::{Fault, FaultKind, GuestAddr, Registers};
use iced_x86::{Instruction, InstructionInfoFactory, MemorySize, Register};

use crate::recover::guest_instruction;

/// More than the area that `xsave` and its kin use in any processor (11,008 bytes with tiles): the decoder knows no size, and
/// some processors name the area's end in a fault.
const STATE_AREA: u64 = 0x4000;

/// `si_code` of a signal for which the kernel knows no address.
const SI_KERNEL: i32 = 0x80;

/// The fault with the whole of the address that the instruction named, if that explains it: `registers` are those
/// before the instruction.
pub(crate) fn in_full(fault: Fault, registers: &Registers) -> Fault {
    if !matches!(fault.kind, FaultKind::Read { .. } | FaultKind::Write { .. }) {
        return fault;
    }
    let instruction = u32::try_from(registers.pc).ok().and_then(guest_instruction);
    instruction.map_or(fault, |instruction| in_full_of(fault, &instruction, registers))
}

fn in_full_of(fault: Fault, instruction: &Instruction, registers: &Registers) -> Fault {
    let mut factory = InstructionInfoFactory::new();
    for memory in factory.info(instruction).used_memory() {
        // A mask or index of vectors has many addresses; the one that faulted is not known.
        let Some(start) = memory.virtual_address(0, |register, _, _| value(registers, register)) else {
            continue;
        };
        let into = (fault.address.0 as u32).wrapping_sub(start as u32);
        if u64::from(into) >= size(memory.memory_size()) {
            continue;
        }
        let address = start.wrapping_add(u64::from(into));
        let is_on_stack =
            matches!(memory.base(), Register::RSP | Register::RBP | Register::ESP | Register::EBP);
        return match (is_canonical(address), is_on_stack) {
            (true, _) => Fault { address: GuestAddr(address), ..fault },
            (false, false) => Fault { kind: FaultKind::Protection, address: GuestAddr(0) },
            (false, true) => Fault { kind: FaultKind::Bus { code: SI_KERNEL }, address: GuestAddr(0) },
        };
    }
    fault
}

/// How many bytes from its start an operand reaches at most.
fn size(operand: MemorySize) -> u64 {
    match operand {
        MemorySize::Xsave | MemorySize::Xsave64 => STATE_AREA,
        other => (other.size() as u64).max(1),
    }
}

fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// A register as iced asks for it: a general register of any width, or the base of a segment.
fn value(registers: &Registers, register: Register) -> Option<u64> {
    match register {
        Register::FS => Some(registers.fs_base),
        Register::GS => Some(registers.gs_base),
        _ if register.is_segment_register() => Some(0),
        _ if register.is_gpr64() => Some(registers.gpr[register.number()]),
        _ if register.is_gpr32() => Some(registers.gpr[register.number()] & u64::from(u32::MAX)),
        Register::AL => Some(registers.get(Gpr::Rax) & 0xff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    fn fault_of(bytes: &[u8], registers: &Registers, low: u64) -> Fault {
        let instruction = Decoder::with_ip(64, bytes, 0x40_0000, DecoderOptions::NONE).decode();
        let fault = Fault { kind: FaultKind::Read { mapped: true }, address: GuestAddr(low) };
        in_full_of(fault, &instruction, registers)
    }

    #[test]
    fn an_address_past_the_window_is_named_in_full() {
        let mut registers = Registers::default();
        registers.set(Gpr::Rdx, 0x7_1234_0000);
        // mov rax, [rdx + 8]
        let fault = fault_of(&[0x48, 0x8b, 0x42, 0x08], &registers, 0x1234_0008);
        assert_eq!(fault.address.0, 0x7_1234_0008);
    }

    #[test]
    fn the_end_of_a_state_area_is_named_in_full() {
        let mut registers = Registers::default();
        registers.set(Gpr::Rcx, 0x7_1234_0000);
        // xsave [rcx]
        let fault = fault_of(&[0x0f, 0xae, 0x21], &registers, 0x1234_033f);
        assert_eq!(fault.address.0, 0x7_1234_033f);
    }

    #[test]
    fn an_address_that_is_none_is_a_protection_fault() {
        let mut registers = Registers::default();
        registers.set(Gpr::Rdx, 0x8000_1234_0000);
        let fault = fault_of(&[0x48, 0x8b, 0x02], &registers, 0x1234_0000);
        assert_eq!(fault, Fault { kind: FaultKind::Protection, address: GuestAddr(0) });
    }

    #[test]
    fn an_address_inside_stays_as_it_is() {
        let mut registers = Registers::default();
        registers.set(Gpr::Rdx, 0x1234_0000);
        let fault = fault_of(&[0x48, 0x8b, 0x02], &registers, 0x1234_0000);
        assert_eq!(fault, Fault { kind: FaultKind::Read { mapped: true }, address: GuestAddr(0x1234_0000) });
    }
}

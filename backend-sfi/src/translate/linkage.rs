//! Jumps through a procedure linkage table: their targets hardly ever change once the dynamic linker has resolved them.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::Environment;
use super::stack::flags_are_dead;

/// Where a jump through a memory slot will lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// Where it leads now, and the flags are dead there.
    Settled(u32),
    /// Into the resolver: another look later is worth it.
    Unsettled,
    /// Nothing is known.
    None,
}

/// How many instructions at the target are looked at.
const LOOK_AHEAD: usize = 12;

/// Looks at the slot of `jmp [rip + …]` and at the code that it names.
pub fn expect(instruction: &Instruction, environment: &impl Environment) -> Expectation {
    let mut slot = [0; 8];
    if environment.read(instruction.ip_rel_memory_address() as u32, &mut slot) != slot.len() {
        return Expectation::None;
    }
    let Ok(target) = u32::try_from(u64::from_le_bytes(slot)) else { return Expectation::None };
    let mut bytes = [0; 64];
    let available = environment.read(target, &mut bytes);
    let mut code: Vec<Instruction> = Vec::with_capacity(LOOK_AHEAD);
    let mut decoder = Decoder::with_ip(64, &bytes[..available], u64::from(target), DecoderOptions::NONE);
    while decoder.can_decode() && code.len() < LOOK_AHEAD {
        let next = decoder.decode();
        if next.is_invalid() {
            break;
        }
        code.push(next);
    }
    if is_lazy_binding(&code) {
        let waits = environment.may_wait(instruction.ip() as u32);
        return if waits { Expectation::Unsettled } else { Expectation::None };
    }
    if flags_are_dead(&code) { Expectation::Settled(target) } else { Expectation::None }
}

/// Whether this is the entry of a linkage table that pushes a relocation's number for the resolver (psABI 5.2).
fn is_lazy_binding(code: &[Instruction]) -> bool {
    let first = code.iter().find(|instruction| instruction.mnemonic() != Mnemonic::Endbr64);
    first.is_some_and(|instruction| {
        instruction.mnemonic() == Mnemonic::Push
            && matches!(instruction.op0_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64)
    })
}

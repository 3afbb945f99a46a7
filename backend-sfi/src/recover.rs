//! Exact guest state at any emitted instruction.
//!
//! Where the guest was taken out of the cache, its registers are the processor's but for what a multi-instruction
//! sequence has moved. A guest instruction that has not done anything irreversible yet is rolled back; one that has is
//! rolled forward. Which of the two follows from how the instruction is lowered (see [`crate::translate`]) and from which
//! of the emitted instructions have run, which is read off the emitted code itself.

use endo_core::Registers;
use endo_core::arch::Gpr;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::context::{Context, SPILL_R11};
use crate::fragments::{Fragment, Index};
use crate::translate::classify::{Class, classify};

/// Where the guest stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Before the instruction at this guest address.
    At(u32),
    /// At a point where the instruction has been carried out; it goes on at this guest address.
    After(u32),
}

/// Corrects `registers`, which are the processor's at `host_pc` in `fragment`, and says where the guest stands.
/// `code` are the fragment's bytes; `spill_r11` is the context's slot.
pub fn recover(
    index: &Index,
    fragment: &Fragment,
    code: &[u8],
    host_pc: u64,
    spill_r11: u64,
    registers: &mut Registers,
) -> Option<Standing> {
    let offset = (host_pc - fragment.code) as u32;
    let map = index.map_of(fragment);
    if offset >= fragment.body || map.is_empty() {
        return stub(index, fragment, offset, code, spill_r11, registers);
    }
    let after = map.partition_point(|entry| u32::from(entry.code) <= offset);
    if after == 0 {
        // The reload that opens an indirect entry.
        registers.set(Gpr::R11, spill_r11);
        return Some(Standing::At(fragment.start));
    }
    let entry = map[after - 1];
    let guest = fragment.start + u32::from(entry.guest);
    let done =
        instructions(&code[entry.code as usize..offset as usize], fragment.code + u64::from(entry.code));
    let instruction = guest_instruction(guest)?;
    Some(unwind(&instruction, &done, spill_r11, registers))
}

/// In the exit stubs and thunks every register is the guest's, but for an entry thunk's r11.
fn stub(
    index: &Index,
    fragment: &Fragment,
    offset: u32,
    code: &[u8],
    spill_r11: u64,
    registers: &mut Registers,
) -> Option<Standing> {
    if index.map_of(fragment).is_empty() {
        if offset == 0 {
            registers.set(Gpr::R11, spill_r11);
        }
        return Some(Standing::At(fragment.start));
    }
    // mov dword ptr fs:[…], number; jmp gate
    const STUB: u32 = 17;
    let start = fragment.body + (offset - fragment.body) / STUB * STUB;
    let number = u32::from_le_bytes(code.get(start as usize + 8..start as usize + 12)?.try_into().ok()?);
    Some(Standing::At(index.exit(number).target))
}

fn instructions(code: &[u8], address: u64) -> Vec<Instruction> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().collect()
}

/// Decodes the guest's own instruction again: its page has been write-protected since it was translated.
pub fn guest_instruction(guest: u32) -> Option<Instruction> {
    let mut bytes = [0u8; 15];
    let to = endo_core::HostAddr(bytes.as_mut_ptr() as usize);
    // SAFETY: the destination has 15 bytes; the source lies in the guest's window or its guard.
    let missing = unsafe { endo_core::copy::copy(to, endo_core::HostAddr(guest as usize), bytes.len()) };
    let available = &bytes[..bytes.len() - missing];
    let instruction = Decoder::with_ip(64, available, u64::from(guest), DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

fn unwind(
    instruction: &Instruction,
    done: &[Instruction],
    spill_r11: u64,
    registers: &mut Registers,
) -> Standing {
    let at = Standing::At(instruction.ip() as u32);
    let after = Standing::After(instruction.next_ip() as u32);
    let loaded = done.iter().any(|host| host.op0_register() == Register::R11D);
    match classify(instruction) {
        Class::Return => {
            let popped = done.iter().any(|host| host.mnemonic() == Mnemonic::Pop);
            if !popped {
                return at;
            }
            let stack_is_final =
                instruction.op_count() == 0 || done.iter().any(|host| host.mnemonic() == Mnemonic::Lea);
            if !stack_is_final {
                let stack = registers.stack_pointer().wrapping_add(u64::from(instruction.immediate16()));
                registers.set_stack_pointer(stack & u64::from(u32::MAX));
            }
            dispatched(spill_r11, registers)
        }
        Class::IndirectJump => {
            if loaded {
                registers.set(Gpr::R11, spill_r11);
            }
            at
        }
        Class::IndirectCall | Class::Call
            if done.last().is_some_and(|host| host.is_jmp_near_indirect() || host.is_jmp_near()) =>
        {
            // Past its jump: at the entry for the return, where r11 is still parked.
            registers.set(Gpr::R11, spill_r11);
            after
        }
        Class::IndirectCall | Class::Call => {
            let pushed = done.iter().any(|host| host.mnemonic() == Mnemonic::Push);
            let lowered = done.iter().any(|host| host.mnemonic() == Mnemonic::Lea);
            let stored =
                done.iter().filter(|host| host.op0_kind() == OpKind::Memory && !stores_context(host)).count();
            if pushed || lowered && stored == 2 {
                return match classify(instruction) {
                    Class::Call => Standing::After(instruction.near_branch_target() as u32),
                    _ => dispatched(spill_r11, registers),
                };
            }
            if lowered {
                registers.set_stack_pointer((registers.stack_pointer() + 8) & u64::from(u32::MAX));
            }
            if loaded {
                registers.set(Gpr::R11, spill_r11);
            }
            at
        }
        Class::CounterJump if !done.is_empty() => {
            // The branch itself has been taken or not; what is left is one of two jumps.
            let taken = done.len() == 2;
            Standing::After(
                if taken { instruction.near_branch_target() } else { instruction.next_ip() } as u32
            )
        }
        // What is left is a truncation of rsp or a copy of r11; a store to the context instead leads to a gate.
        Class::Plain | Class::Address | Class::Stack
            if !done.is_empty() && !done.iter().any(stores_context) =>
        {
            registers.set_stack_pointer(registers.stack_pointer() & u64::from(u32::MAX));
            after
        }
        // One instruction with truncations before it, or an exit to a gate: nothing has happened yet.
        _ => at,
    }
}

fn dispatched(spill_r11: u64, registers: &mut Registers) -> Standing {
    let target = registers.get(Gpr::R11) as u32;
    registers.set(Gpr::R11, spill_r11);
    Standing::After(target)
}

fn stores_context(host: &Instruction) -> bool {
    host.memory_segment() == Register::FS && host.op0_kind() == OpKind::Memory
}

/// The parked r11 of a context.
pub fn parked_r11(context: &Context) -> u64 {
    context.spill[SPILL_R11]
}

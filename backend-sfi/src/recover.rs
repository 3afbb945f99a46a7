//! Exact guest state at any emitted instruction.
//!
//! Where the guest was taken out of the cache, its registers are the processor's but for what a multi-instruction
//! sequence has moved. A guest instruction that has not done anything irreversible yet is rolled back; one that has is
//! rolled forward. Which of the two follows from how the instruction is lowered (see [`crate::translate`]) and from which
//! of the emitted instructions have run, which is read off the emitted code itself.

use endo_core::Registers;
use endo_core::arch::Gpr;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::context::{SPILL_ADDRESS, SPILL_R11, SPILL_SCRATCH, SPILL_SLOTS};
use crate::fragments::{Fragment, Index};
use crate::translate::MapEntry;
use crate::translate::classify::{Class, classify};
use crate::translate::segment::segment_base;

mod returns;

/// What the context's spill slots hold.
pub type Spilled = [u64; SPILL_SLOTS];

/// Where the guest stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Before the instruction at this guest address.
    At(u32),
    /// At a point where the instruction has been carried out; it goes on at this guest address.
    After(u32),
}

/// Corrects `registers`, which are the processor's at `host_pc` in `fragment`, and says where the guest stands.
/// `code` are the fragment's bytes; `spilled` is what the context's slots hold.
pub fn recover(
    index: &Index,
    fragment: &Fragment,
    code: &[u8],
    host_pc: u64,
    spilled: &Spilled,
    registers: &mut Registers,
) -> Option<Standing> {
    let offset = (host_pc - fragment.code) as u32;
    let map = index.map_of(fragment);
    if offset >= fragment.body || map.is_empty() {
        return stub(index, fragment, offset, code, spilled, registers);
    }
    let after = map.partition_point(|entry| u32::from(entry.code) <= offset);
    if after == 0 {
        // What opens an indirect entry: where a return arrives, and the reload.
        let first = instructions(&code[offset as usize..], host_pc).into_iter().next();
        returns::arrive(first.as_ref(), registers);
        registers.set(Gpr::R11, spilled[SPILL_R11]);
        return Some(Standing::At(fragment.start));
    }
    let entry = map[after - 1];
    let done =
        instructions(&code[entry.code as usize..offset as usize], fragment.code + u64::from(entry.code));
    let here = instructions(&code[offset as usize..fragment.body as usize], host_pc).into_iter().next();
    if let Some(thunk) = returns::in_thunk(&done, here.as_ref()) {
        let before = map.partition_point(|entry| fragment.start + u32::from(entry.guest) < thunk.back);
        let call = guest_at(fragment, map.get(before.checked_sub(1)?)?)?;
        return Some(returns::unwind_thunk(&call, thunk.done, spilled, registers));
    }
    let instruction = guest_at(fragment, &entry)?;
    match classify(&instruction) {
        Class::Return if done.first().is_some_and(|host| host.mnemonic() == Mnemonic::Mov) => {
            Some(returns::unwind_return(&instruction, &done, spilled, registers))
        }
        Class::Call | Class::IndirectCall if done.iter().any(Instruction::is_call_near) => {
            returns::arrive(here.as_ref(), registers);
            registers.set(Gpr::R11, spilled[SPILL_R11]);
            Some(Standing::After(instruction.next_ip() as u32))
        }
        _ => Some(unwind(&instruction, &done, spilled, registers)),
    }
}

/// The guest's instruction that an entry of a fragment's map is for.
fn guest_at(fragment: &Fragment, entry: &MapEntry) -> Option<Instruction> {
    let guest = fragment.start + u32::from(entry.guest);
    match &fragment.source {
        Some(source) => decode(guest, &source[usize::from(entry.guest)..]),
        None => guest_instruction(guest),
    }
}

/// In the exit stubs and thunks every register is the guest's, but for an entry thunk's r11.
fn stub(
    index: &Index,
    fragment: &Fragment,
    offset: u32,
    code: &[u8],
    spilled: &Spilled,
    registers: &mut Registers,
) -> Option<Standing> {
    if index.map_of(fragment).is_empty() {
        if offset == 0 {
            registers.set(Gpr::R11, spilled[SPILL_R11]);
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
    decode(guest, &bytes[..bytes.len() - missing])
}

fn decode(guest: u32, bytes: &[u8]) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, u64::from(guest), DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

fn unwind(
    instruction: &Instruction,
    done: &[Instruction],
    spilled: &Spilled,
    registers: &mut Registers,
) -> Standing {
    let at = Standing::At(instruction.ip() as u32);
    let after = Standing::After(instruction.next_ip() as u32);
    let class = classify(instruction);
    let in_scratch = done.iter().any(|host| host.op0_register().full_register() == Register::R11);
    match class {
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
            dispatched(spilled, registers)
        }
        Class::IndirectJump => {
            if in_scratch {
                registers.set(Gpr::R11, spilled[SPILL_R11]);
            }
            at
        }
        Class::IndirectCall | Class::Call | Class::Syscall
            if done.iter().any(|host| host.is_jmp_near_indirect() || host.is_jmp_near()) =>
        {
            // Past its jump: at the entry for the return, where r11 is still parked, or at the way out behind that. A system
            // call has gone through the gate and come back.
            if class != Class::Syscall {
                registers.set(Gpr::R11, spilled[SPILL_R11]);
            }
            after
        }
        Class::IndirectCall | Class::Call => {
            let pushed = done.iter().any(|host| host.mnemonic() == Mnemonic::Push);
            let lowered = done.iter().any(|host| host.mnemonic() == Mnemonic::Lea);
            let stored =
                done.iter().filter(|host| host.op0_kind() == OpKind::Memory && !stores_context(host)).count();
            if pushed || lowered && stored == 2 {
                return match class {
                    Class::Call => Standing::After(instruction.near_branch_target() as u32),
                    _ => dispatched(spilled, registers),
                };
            }
            if lowered {
                registers.set_stack_pointer((registers.stack_pointer() + 8) & u64::from(u32::MAX));
            }
            if in_scratch {
                registers.set(Gpr::R11, spilled[SPILL_R11]);
            }
            at
        }
        Class::CounterJump if done.iter().any(|host| host.op0_kind() == OpKind::NearBranch64) => {
            // The branch itself has been taken or not; what is left is one of two jumps, and maybe the way out behind them.
            let jumps = done.iter().filter(|host| host.op0_kind() == OpKind::NearBranch64).count();
            let taken = jumps == 2;
            Standing::After(
                if taken { instruction.near_branch_target() } else { instruction.next_ip() } as u32
            )
        }
        Class::Plain | Class::Stack if segment_base(instruction).is_some() => {
            unwind_based(instruction, done, spilled, registers)
        }
        // What was parked gets its own value back, whether it has been overwritten or not.
        Class::RestoreState => {
            let parked = |host: &&Instruction| stores_context(host) && host.op1_kind() == OpKind::Register;
            for register in done.iter().filter(parked).map(Instruction::op1_register) {
                let slot = if register == Register::RAX { SPILL_SCRATCH } else { SPILL_ADDRESS };
                registers.gpr[register.number()] = spilled[slot];
            }
            if done.iter().any(|host| host.mnemonic() == instruction.mnemonic()) { after } else { at }
        }
        // The way out behind it: it has been carried out.
        Class::Leave | Class::String if done.iter().any(|host| host.mnemonic() == instruction.mnemonic()) => {
            after
        }
        // What is left is a truncation of rsp or a copy of r11; a store to the context instead leads to a gate.
        Class::Plain | Class::Address | Class::Stack
            if done.iter().any(|host| host.mnemonic() != Mnemonic::Nop)
                && !done.iter().any(sets_exit_info) =>
        {
            registers.set_stack_pointer(registers.stack_pointer() & u64::from(u32::MAX));
            after
        }
        // One instruction with truncations before it, or an exit to a gate: nothing has happened yet.
        _ => at,
    }
}

/// An operand relative to a segment base: see [`crate::translate::segment`] for the sequence. Done or not, the register
/// that the base was loaded into gets its own value back.
fn unwind_based(
    instruction: &Instruction,
    done: &[Instruction],
    spilled: &Spilled,
    registers: &mut Registers,
) -> Standing {
    let is_done =
        |host: &&Instruction| host.memory_segment() != Register::FS && host.mnemonic() != Mnemonic::Lea;
    let loads_base =
        |host: &&Instruction| host.memory_segment() == Register::FS && host.op1_kind() == OpKind::Memory;
    let loaded = done.iter().find(loads_base).map(Instruction::op0_register);
    match loaded {
        Some(Register::R11) => registers.set(Gpr::R11, spilled[SPILL_R11]),
        Some(scratch) => registers.gpr[scratch.number()] = spilled[SPILL_SCRATCH],
        None => {}
    }
    if !done.iter().any(|host| is_done(&host)) {
        return Standing::At(instruction.ip() as u32);
    }
    registers.set_stack_pointer(registers.stack_pointer() & u64::from(u32::MAX));
    Standing::After(instruction.next_ip() as u32)
}

fn dispatched(spilled: &Spilled, registers: &mut Registers) -> Standing {
    let target = registers.get(Gpr::R11) as u32;
    registers.set(Gpr::R11, spilled[SPILL_R11]);
    Standing::After(target)
}

fn stores_context(host: &Instruction) -> bool {
    host.memory_segment() == Register::FS && host.op0_kind() == OpKind::Memory
}

fn sets_exit_info(host: &Instruction) -> bool {
    stores_context(host) && host.op1_kind() == OpKind::Immediate32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragments::Emitted;
    use crate::returns::Returns;
    use crate::translate::{Alone, Constants, Source, Translator};

    const CACHE: u64 = 0x7f00_0000_0000;
    const PLACE: u64 = CACHE + 0x2000;
    const GUEST: u32 = 0x40_0000;
    const CONTEXT: i32 = -0x400;

    /// Where the guest stands at each emitted instruction of one guest instruction, and r11 then. The processor's r11 is 1, the
    /// context's copy 2.
    fn standings(guest: &[u8]) -> Vec<(Standing, u64)> {
        states(guest, Returns::Dispatched).into_iter().map(|(standing, r11, _)| (standing, r11)).collect()
    }

    /// The same, and rsp then. The processor's is 0x1000.
    fn states(guest: &[u8], returns: Returns) -> Vec<(Standing, u64, u64)> {
        let constants = Constants { link: CACHE, special: CACHE + 0x10, syscall: CACHE + 0x20 };
        let mut translator = Translator::new(CONTEXT, constants);
        translator.set_returns(returns);
        translator.source_mut().extend_from_slice(guest);
        translator.translate(
            Source { start: GUEST, limit: 1, indirect: true, overlap: 0 },
            PLACE,
            &Alone::default(),
        );
        let mut index = Index::new(CACHE).unwrap();
        let emitted = Emitted {
            start: GUEST,
            end: translator.end(),
            length: translator.code().len() as u32,
            body: translator.body(),
            map: translator.map(),
            exits: translator.exits(),
            entries: translator.indirect_entries(),
            shared: true,
        };
        let id = index.insert(PLACE, emitted);
        index.keep_source(id, guest);
        let starts: Vec<u64> = instructions(&translator.code()[..translator.body() as usize], PLACE)
            .iter()
            .map(Instruction::ip)
            .collect();
        let at = |pc| {
            let mut registers = Registers::default();
            registers.set(Gpr::R11, 1);
            registers.set_stack_pointer(0x1000);
            let fragment = index.get(id);
            let standing = recover(&index, fragment, translator.code(), pc, &[2, 3, 0, 0], &mut registers);
            let standing = standing.expect("a state is known everywhere");
            (standing, registers.get(Gpr::R11), registers.stack_pointer())
        };
        starts.into_iter().map(at).collect()
    }

    #[test]
    fn a_state_is_loaded_or_not() {
        // xrstor [rcx]: parked, cut, loaded, whole again, way out; before that the entry.
        let guest = [0x0f, 0xae, 0x29];
        let (at, after) = (Standing::At(GUEST), Standing::After(GUEST + 3));
        let found: Vec<Standing> = standings(&guest).into_iter().map(|(standing, _)| standing).collect();
        assert!(found.ends_with(&[at, at, at, after, after]), "{found:?}");
        // xrstor fs:[rax]: another register parked, base, base and operand added, none; then the same; whole again in two steps.
        let guest = [0x64, 0x0f, 0xae, 0x28];
        let after = Standing::After(GUEST + 4);
        let found: Vec<Standing> = standings(&guest).into_iter().map(|(standing, _)| standing).collect();
        assert!(found.ends_with(&[at, at, at, at, at, at, at, after, after, after]), "{found:?}");
    }

    /// The way out behind an instruction: the last jump of its fragment's body.
    fn way_out(guest: &[u8]) -> (Standing, u64) {
        *standings(guest).last().unwrap()
    }

    #[test]
    fn what_has_been_carried_out_is_not_repeated_at_the_way_out() {
        let next = |guest: &[u8]| Standing::After(GUEST + guest.len() as u32);
        // movsb; rep stosb; leave; syscall; push rax; add rax, 1; mov rsp, rax; loop +0
        let guests: [&[u8]; 8] = [
            &[0xa4],
            &[0xf3, 0xaa],
            &[0xc9],
            &[0x0f, 0x05],
            &[0x50],
            &[0x48, 0x83, 0xc0, 0x01],
            &[0x48, 0x89, 0xc4],
            &[0xe2, 0x00],
        ];
        for guest in guests {
            assert_eq!(way_out(guest), (next(guest), 1), "{guest:02x?}");
        }
    }

    #[test]
    fn behind_a_call_the_copy_of_r11_counts() {
        // call rax; call [rax]
        for guest in [[0xff, 0xd0], [0xff, 0x10]] {
            assert_eq!(way_out(&guest), (Standing::After(GUEST + 2), 2), "{guest:02x?}");
        }
    }

    /// What comes first in each fragment here: padding, where a return arrives, the entry.
    const ENTRY: [(Standing, u64, u64); 3] =
        [(Standing::At(GUEST), 2, 0x1000), (Standing::At(GUEST), 2, 9), (Standing::At(GUEST), 2, 0x1000)];

    #[test]
    fn a_predicted_return_is_not_begun_until_it_is_done() {
        let at = |r11, rsp| (Standing::At(GUEST), r11, rsp);
        let sequence = [
            at(1, 0x1000),
            at(2, 0x1000),
            at(2, 0x1000),
            at(2, 0x1000),
            at(2, 0x1000),
            at(2, 0x1000),
            at(2, 0x1000),
            at(2, 1),
        ];
        assert_eq!(states(&[0xc3], Returns::Predicted), [&ENTRY[..], &sequence].concat());
    }

    #[test]
    fn a_predicted_call_is_done_when_its_return_address_is_stored() {
        let (at, after, there) =
            (Standing::At(GUEST), Standing::After(GUEST + 5), Standing::After(GUEST + 0x15));
        // call; where the return arrives, entry, way out; the thunk's store and jump.
        let found = states(&[0xe8, 0x10, 0, 0, 0], Returns::Predicted);
        let sequence =
            [(at, 1, 0x1000), (after, 2, 9), (after, 2, 0x1000), (after, 2, 0x1000), (at, 1, 0x1008)];
        assert!(found.starts_with(&[&ENTRY[..], &sequence].concat()), "{found:?}");
        assert!(found[ENTRY.len() + sequence.len()..].iter().all(|&state| state == (there, 1, 0x1000)));
        assert!(found.len() > ENTRY.len() + sequence.len());
    }

    #[test]
    fn a_predicted_indirect_call_goes_where_r11_says() {
        let (at, after, there) = (Standing::At(GUEST), Standing::After(GUEST + 2), Standing::After(1));
        // call rax: load, call; where the return arrives, entry, padding, way out; the thunk's store, truncation and dispatch.
        let sequence = [
            (at, 1, 0x1000),
            (at, 2, 0x1000),
            (after, 2, 9),
            (after, 2, 0x1000),
            (after, 2, 0x1000),
            (after, 2, 0x1000),
            (at, 2, 0x1008),
            (there, 2, 0x1000),
            (there, 2, 0x1000),
        ];
        assert_eq!(states(&[0xff, 0xd0], Returns::Predicted), [&ENTRY[..], &sequence].concat());
    }

    #[test]
    fn an_operand_with_a_segment_base_is_done_or_not() {
        // mov rax, fs:[0x28]: base, load, reload, way out; before that the entry.
        let guest = [0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0];
        let (at, after) = (Standing::At(GUEST), Standing::After(GUEST + 9));
        let found = standings(&guest);
        assert!(found.ends_with(&[(at, 1), (at, 2), (after, 2), (after, 2)]), "{found:?}");
    }
}

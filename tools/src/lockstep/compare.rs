//! What differs between the two after a step, and how it is told.

use endo_core::arch::Flags;
use endo_core::{Registers, ThreadState};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register, RflagsBits};

use super::guest_bytes;
use super::twin::Twin;
use crate::fuzz::judge::GPR_NAMES;
use crate::fuzz::vector;

/// The guest's instruction at an address.
pub(super) fn instruction_at(pc: u64) -> Option<Instruction> {
    let room = (pc | 0xfff) + 1 - pc;
    let bytes = guest_bytes(pc, 15).or_else(|| guest_bytes(pc, room.min(15) as usize))?;
    let instruction = Decoder::with_ip(64, &bytes, pc, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether its results differ from run to run, or from machine to guest.
pub(super) fn is_unrepeatable(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        instruction.mnemonic(),
        M::Rdtsc
            | M::Rdtscp
            | M::Rdrand
            | M::Rdseed
            | M::Rdpid
            | M::Cpuid
            | M::Xgetbv
            | M::Rdsspd
            | M::Rdsspq
    ) || instruction.code().op_code().is_save_restore()
}

/// Whether anything that a fragment at this address may hold is unrepeatable.
pub(super) fn may_hold_unrepeatable(pc: u64) -> bool {
    let span = u64::from(endo_sfi::translate::MAX_SPAN);
    let rest = (pc | 0xfff) + 1 - pc;
    let bytes = guest_bytes(pc, span as usize).or_else(|| guest_bytes(pc, rest as usize)).unwrap_or_default();
    let mut decoder = Decoder::with_ip(64, &bytes, pc, DecoderOptions::NONE);
    decoder.iter().any(|instruction| is_unrepeatable(&instruction))
}

/// Registers that differ, one line each; of the flags only these.
pub(super) fn registers(native: &Registers, translated: &Registers, flags: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut number = |name: &str, native: u64, translated: u64| {
        if native != translated {
            found.push(format!("{name}: native {native:#x}, translated {translated:#x}"));
        }
    };
    number("pc", native.pc, translated.pc);
    for ((name, native), translated) in GPR_NAMES.iter().zip(native.gpr).zip(translated.gpr) {
        number(name, native, translated);
    }
    number("flags", native.flags.0 & flags, translated.flags.0 & flags);
    number("fs base", native.fs_base, translated.fs_base);
    number("gs base", native.gs_base, translated.gs_base);
    found
}

/// Whether a system call instruction lies at an address: the twin must not carry it out.
pub(super) fn is_call(pc: u64) -> bool {
    guest_bytes(pc, 2).is_some_and(|bytes| bytes == [0x0f, 0x05])
}

/// The processor's bits of a set of flags as the decoder names them.
pub(super) fn flag_bits(named: u32) -> u64 {
    const NAMES: [(u32, u64); 7] = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::DF, 1 << 10),
        (RflagsBits::OF, 1 << 11),
    ];
    NAMES.iter().filter(|(name, _)| named & name != 0).fold(0, |all, (_, bit)| all | bit)
}

/// The flags that translated code may leave otherwise where it finds them dead: behind a jump through a linkage table, whose
/// slot it compares, and behind arithmetic on the stack pointer.
pub(super) fn may_be_dead(instruction: &Instruction) -> u64 {
    let linkage = instruction.is_jmp_near_indirect() && instruction.op0_kind() == OpKind::Memory;
    let stack = instruction.op0_register() == Register::RSP
        && matches!(instruction.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::And);
    if linkage || stack { Flags::STATUS_AND_DIRECTION & !(1 << 10) } else { 0 }
}

/// The first vector register that differs.
pub(super) fn vectors(native: &[u8], translated: &[u8]) -> Option<String> {
    let (native, translated) = (vector::canonical(native), vector::canonical(translated));
    let offset = native.iter().zip(&translated).position(|(native, translated)| native != translated)?;
    let shown = |bytes: &[u8]| crate::fuzz::report::hex(&bytes[offset & !7..(offset & !7) + 8]);
    let name = vector::register_at(offset);
    Some(format!("{name}: native {}, translated {}", shown(&native), shown(&translated)))
}

/// The memory operand of the instruction that was run, if the two differ there.
pub(super) fn operand(twin: &Twin, instruction: &Instruction, before: &ThreadState) -> Option<String> {
    let address = operand_address(instruction, before)?;
    let size = instruction.memory_size().size();
    if size == 0 {
        return None;
    }
    let ours = guest_bytes(address, size)?;
    let mut theirs = vec![0; size];
    (twin.read(address, &mut theirs) && ours != theirs).then(|| {
        let hex = crate::fuzz::report::hex;
        format!("memory at {address:#x}: native {}, translated {}", hex(&theirs), hex(&ours))
    })
}

/// Where the instruction's memory operand lies, if it has one in the window.
pub(super) fn operand_address(instruction: &Instruction, before: &ThreadState) -> Option<u64> {
    let registers = &before.registers;
    let operand = (0..instruction.op_count()).find(|&at| instruction.op_kind(at) == OpKind::Memory)?;
    let address = instruction.virtual_address(operand, 0, |register, _, _| match register {
        Register::FS => Some(registers.fs_base),
        Register::GS => Some(registers.gs_base),
        Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
        _ if register.is_gpr64() => Some(registers.gpr[register.number()]),
        _ if register.is_gpr32() => Some(registers.gpr[register.number()] & 0xffff_ffff),
        _ => None,
    })?;
    (address < 1 << 32).then_some(address)
}

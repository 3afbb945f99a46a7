//! Instructions that emitted code does not hold: emulated, or answered by a fault.

use endo_core::arch::{Flags, Gpr};
use endo_core::copy::copy;
use endo_core::{Fault, FaultKind, GuestAddr, HostAddr, Registers};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::cpuid::cpuid;

mod strings;

/// What an emulated instruction leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emulated {
    /// The program counter is at the next instruction.
    Next,
    /// Likewise, and a segment base has changed.
    BasesChanged,
    /// The program counter is where a jump through a linkage table leads.
    Jumped,
}

/// Carries out the instruction at the program counter.
pub fn emulate(registers: &mut Registers) -> Result<Emulated, Fault> {
    let mut bytes = [0u8; 15];
    let missing = read(registers.pc, &mut bytes);
    let available = &bytes[..bytes.len() - missing];
    let instruction = Decoder::with_ip(64, available, registers.pc, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return Err(if is_too_long(registers.pc) { PROTECTION } else { illegal(registers.pc) });
    }
    let next = instruction.next_ip();
    let mut emulated = Emulated::Next;
    match instruction.mnemonic() {
        Mnemonic::Jmp if instruction.is_jmp_near_indirect() && instruction.is_ip_rel_memory_operand() => {
            let mut slot = [0; 8];
            load(instruction.ip_rel_memory_address(), &mut slot)?;
            registers.pc = u64::from_le_bytes(slot);
            return Ok(Emulated::Jumped);
        }
        Mnemonic::Cpuid => {
            let answer = cpuid(registers.get(Gpr::Rax) as u32, registers.get(Gpr::Rcx) as u32);
            for (register, value) in [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx].into_iter().zip(answer) {
                registers.set(register, u64::from(value));
            }
        }
        Mnemonic::Pushfq | Mnemonic::Pushf => push_flags(registers, &instruction)?,
        Mnemonic::Popfq | Mnemonic::Popf => pop_flags(registers, &instruction)?,
        Mnemonic::Xlatb => {
            let offset = registers.get(Gpr::Rbx).wrapping_add(registers.get(Gpr::Rax) & 0xff);
            let base = match instruction.memory_segment() {
                Register::FS => registers.fs_base,
                Register::GS => registers.gs_base,
                _ => 0,
            };
            let address = base.wrapping_add(offset);
            let mut byte = [0];
            load(address, &mut byte)?;
            registers.set(Gpr::Rax, registers.get(Gpr::Rax) & !0xff | u64::from(byte[0]));
        }
        Mnemonic::Pop if instruction.op0_register() == Register::SP => {
            let stack = registers.stack_pointer();
            let mut bytes = [0; 2];
            load(stack, &mut bytes)?;
            let high = (stack + 2) & u64::from(u32::MAX) & !0xffff;
            registers.set_stack_pointer(high | u64::from(u16::from_le_bytes(bytes)));
        }
        Mnemonic::Enter if instruction.code() == Code::Enterq_imm16_imm8 => enter(registers, &instruction)?,
        Mnemonic::Rdfsbase => set(registers, instruction.op0_register(), registers.fs_base),
        Mnemonic::Rdgsbase => set(registers, instruction.op0_register(), registers.gs_base),
        Mnemonic::Wrfsbase => {
            registers.fs_base = new_base(registers, &instruction)?;
            emulated = Emulated::BasesChanged;
        }
        Mnemonic::Wrgsbase => {
            registers.gs_base = new_base(registers, &instruction)?;
            emulated = Emulated::BasesChanged;
        }
        Mnemonic::Jecxz => return Ok(branch_on_counter(registers, &instruction)),
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne => {
            return Ok(branch_on_counter(registers, &instruction));
        }
        Mnemonic::Mov if instruction.op0_register().is_segment_register() => {
            load_data_segment(registers, &instruction)?
        }
        _ if instruction.is_string_instruction() && !is_port_access(instruction.mnemonic()) => {
            if !strings::run(registers, &instruction)? {
                return Ok(Emulated::Next);
            }
        }
        Mnemonic::Lea => lea16(registers, &instruction)?,
        Mnemonic::Int3 => {
            registers.pc = next;
            return Err(Fault { kind: FaultKind::Breakpoint, address: GuestAddr(0) });
        }
        Mnemonic::Int1 => {
            registers.pc = next;
            return Err(Fault { kind: FaultKind::Step, address: GuestAddr(next) });
        }
        // What the kernel answers for instructions that user code may not run: a general-protection fault.
        Mnemonic::Hlt | Mnemonic::Cli | Mnemonic::Sti | Mnemonic::In | Mnemonic::Out | Mnemonic::Rdpmc => {
            return Err(PROTECTION);
        }
        Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => {
            return Err(PROTECTION);
        }
        Mnemonic::Int | Mnemonic::Into | Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => {
            return Err(PROTECTION);
        }
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => return Err(illegal(registers.pc)),
        _ if instruction.is_privileged() => return Err(PROTECTION),
        mnemonic => {
            unknown(registers.pc, mnemonic, available);
            return Err(illegal(registers.pc));
        }
    }
    registers.pc = next;
    Ok(emulated)
}

/// A general-protection fault: the kernel names no address for it.
const PROTECTION: Fault = Fault { kind: FaultKind::Protection, address: GuestAddr(0) };

fn illegal(pc: u64) -> Fault {
    Fault { kind: FaultKind::IllegalInstruction, address: GuestAddr(pc) }
}

/// Whether it is one prefix that makes the instruction longer than 15 bytes, for which there is a general-protection
/// fault instead of an undefined opcode (SDM volume 3, 6.15).
fn is_too_long(pc: u64) -> bool {
    let mut bytes = [0u8; 15];
    read(pc.wrapping_add(1), &mut bytes) == 0
        && Decoder::new(64, &bytes, DecoderOptions::NONE).decode().len() == bytes.len()
}

/// The engine corrects `mapped`, which it knows better.
fn memory_fault(kind: FaultKind, address: u64, done: usize) -> Fault {
    Fault { kind, address: GuestAddr(address.wrapping_add(done as u64) & u64::from(u32::MAX)) }
}

/// Says once for each mnemonic that it is not offered.
fn unknown(pc: u64, mnemonic: Mnemonic, bytes: &[u8]) {
    use std::sync::Mutex;
    static SAID: Mutex<Vec<Mnemonic>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().expect("nothing panics while it is held");
    if !said.contains(&mnemonic) {
        said.push(mnemonic);
        crate::report::report(format_args!(
            "{mnemonic:?} at {pc:#x} ({bytes:02x?}) is not offered to guests: SIGILL"
        ));
    }
}

fn is_port_access(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd)
}

fn push_flags(registers: &mut Registers, instruction: &Instruction) -> Result<(), Fault> {
    let length = if instruction.code() == Code::Pushfw { 2 } else { 8 };
    let stack = registers.stack_pointer().wrapping_sub(length as u64) & u64::from(u32::MAX);
    store(stack, &registers.flags.0.to_le_bytes()[..length])?;
    registers.set_stack_pointer(stack);
    Ok(())
}

/// The alignment check is what programs look for an old processor with: it is remembered, and checks nothing.
fn pop_flags(registers: &mut Registers, instruction: &Instruction) -> Result<(), Fault> {
    let stack = registers.stack_pointer();
    let (length, kept) =
        if instruction.code() == Code::Popfw { (2, registers.flags.0 & !0xffff) } else { (8, 0) };
    let mut bytes = [0; 8];
    load(stack, &mut bytes[..length])?;
    let popped = u64::from_le_bytes(bytes) | kept;
    registers.flags = Flags(Flags(popped).sanitised().0 | popped & Flags::ALIGNMENT);
    registers.set_stack_pointer((stack + length as u64) & u64::from(u32::MAX));
    Ok(())
}

/// `enter`: SDM volume 2, with a nesting level.
fn enter(registers: &mut Registers, instruction: &Instruction) -> Result<(), Fault> {
    let level = instruction.immediate8_2nd() % 32;
    let mut stack = registers.stack_pointer();
    let mut push = |value: u64| {
        stack = stack.wrapping_sub(8) & u64::from(u32::MAX);
        store(stack, &value.to_le_bytes())
    };
    push(registers.get(Gpr::Rbp))?;
    let frame = registers.stack_pointer().wrapping_sub(8) & u64::from(u32::MAX);
    for nested in 1..u64::from(level) {
        let mut link = [0; 8];
        load(registers.get(Gpr::Rbp).wrapping_sub(8 * nested), &mut link)?;
        push(u64::from_le_bytes(link))?;
    }
    if level > 0 {
        push(frame)?;
    }
    let stack = stack.wrapping_sub(u64::from(instruction.immediate16())) & u64::from(u32::MAX);
    // The processor makes sure that the new top of the stack can be written before it commits.
    let mut top = [0];
    load(stack, &mut top)
        .and_then(|()| store(stack, &top))
        .map_err(|fault| Fault { kind: FaultKind::Write { mapped: false }, ..fault })?;
    registers.set(Gpr::Rbp, frame);
    registers.set_stack_pointer(stack);
    Ok(())
}

fn new_base(registers: &Registers, instruction: &Instruction) -> Result<u64, Fault> {
    let register = instruction.op0_register();
    let value =
        registers.gpr[register.number()] & if register.size() == 4 { u64::from(u32::MAX) } else { u64::MAX };
    let canonical = (value as i64) << 16 >> 16 == value as i64;
    if canonical { Ok(value) } else { Err(PROTECTION) }
}

/// Loading a null selector into DS, ES, FS or GS does nothing that 64-bit code sees; others do not exist.
fn load_data_segment(registers: &Registers, instruction: &Instruction) -> Result<(), Fault> {
    let harmless = instruction.op1_kind() == OpKind::Register
        && registers.gpr[instruction.op1_register().number()] & 0xfffc == 0
        && matches!(instruction.op0_register(), Register::DS | Register::ES);
    if harmless { Ok(()) } else { Err(PROTECTION) }
}

/// `lea r16, [rip + …]`, which has no short absolute form.
fn lea16(registers: &mut Registers, instruction: &Instruction) -> Result<(), Fault> {
    if !instruction.is_ip_rel_memory_operand() || instruction.op0_register().size() != 2 {
        return Err(illegal(registers.pc));
    }
    let slot = &mut registers.gpr[instruction.op0_register().number()];
    *slot = *slot & !0xffff | instruction.ip_rel_memory_address() & 0xffff;
    Ok(())
}

/// jecxz and the loop forms that count in ecx.
fn branch_on_counter(registers: &mut Registers, instruction: &Instruction) -> Emulated {
    const ZERO: u64 = 1 << 6;
    let zero_flag = registers.flags.0 & ZERO != 0;
    let count = registers.get(Gpr::Rcx) as u32;
    let taken = match instruction.mnemonic() {
        Mnemonic::Jecxz => count == 0,
        mnemonic => {
            let left = count.wrapping_sub(1);
            registers.set(Gpr::Rcx, u64::from(left));
            left != 0
                && match mnemonic {
                    Mnemonic::Loope => zero_flag,
                    Mnemonic::Loopne => !zero_flag,
                    _ => true,
                }
        }
    };
    registers.pc = if taken { instruction.near_branch_target() } else { instruction.next_ip() };
    Emulated::Next
}

fn set(registers: &mut Registers, register: Register, value: u64) {
    registers.gpr[register.number()] = if register.size() == 4 { value & u64::from(u32::MAX) } else { value };
}

/// Bytes of guest memory that could not be read.
fn read(address: u64, to: &mut [u8]) -> usize {
    let from = HostAddr((address & u64::from(u32::MAX)) as usize);
    // SAFETY: the destination is a slice; the source lies in the guest's window or the guard past it.
    unsafe { copy(HostAddr(to.as_mut_ptr() as usize), from, to.len()) }
}

fn load(address: u64, to: &mut [u8]) -> Result<(), Fault> {
    let missing = read(address, to);
    if missing == 0 {
        Ok(())
    } else {
        Err(memory_fault(FaultKind::Read { mapped: false }, address, to.len() - missing))
    }
}

/// Stores at most eight bytes: all of them, or none if one cannot be.
fn store(address: u64, from: &[u8]) -> Result<(), Fault> {
    let to = HostAddr((address & u64::from(u32::MAX)) as usize);
    let mut before = [0; 8];
    let unread = read(address, &mut before[..from.len()]);
    // SAFETY: the source is a slice; the destination lies in the guest's window or the guard past it.
    let missing = unsafe { copy(to, HostAddr(from.as_ptr() as usize), from.len()) };
    if missing == 0 {
        return Ok(());
    }
    let stored = (from.len() - missing).min(from.len() - unread);
    // SAFETY: as above; these bytes have just been read and written.
    unsafe { copy(to, HostAddr(before.as_ptr() as usize), stored) };
    Err(memory_fault(FaultKind::Write { mapped: false }, address, from.len() - missing))
}

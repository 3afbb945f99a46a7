//! One instruction at a time: of pages that never run in place.
//!
//! Branches, calls and returns are done here. Anything else is copied into a slot of the thread's, with `ud2` behind it, and run
//! there with the guest's rights: when that `ud2` faults, or the instruction, the program counter is put right. An operand that
//! is relative to the program counter, or whose encoding holds what a scan looks for, is reached through a register that
//! the instruction does not use. What cannot be made harmless is an illegal instruction.
//!
//! A slot is memory of the monitor that guests can run and not touch.

use std::io;
use std::ptr;

use endo_core::arch::Gpr;
use endo_core::{Exit, Fault, FaultKind, GuestAddr, HostAddr, PAGE_SIZE, ThreadState};
use iced_x86::{
    Code as Opcode, ConditionCode, Decoder, DecoderOptions, Encoder, FlowControl, Instruction,
    InstructionInfoFactory, OpKind, Register,
};

use super::code::Code;
use super::user::User;
use super::xrstor;
use crate::scan;

/// Bytes of the longest instruction.
pub(super) const LONGEST: usize = 15;
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Memory for one instruction, of one guest thread.
#[derive(Debug)]
pub(super) struct Slot(HostAddr);

/// An instruction that is in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Where it stands in the guest.
    pc: u64,
    /// What follows it there.
    next: u64,
    /// Where it stands in the slot, and its length.
    slot: u64,
    length: u64,
    /// A register that holds an address meanwhile, and what it held.
    scratch: Option<(Gpr, u64)>,
}

/// How far [`begin`] came.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is done.
    Done,
    /// It is to be run where the program counter now points, and then to be finished.
    InSlot(Step),
    /// It needs the monitor.
    Exit(Exit),
}

impl Slot {
    pub(super) fn new() -> io::Result<Self> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a mapping wherever the kernel likes touches nothing that exists. Its key is the monitor's.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_SIZE as usize, rights, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Slot(HostAddr(page as usize)))
        }
    }

    /// Where the instruction stands: not at the page's start, which may follow other code.
    const fn code(&self) -> HostAddr {
        HostAddr(self.0.0 + 64)
    }

    /// Puts an instruction in. Nobody runs the page meanwhile, so that nobody meets a mixture of two.
    fn fill(&self, code: &[u8]) -> io::Result<()> {
        self.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the page is ours, writable and longer than an instruction.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), self.code().as_ptr(), code.len()) };
        self.protect(libc::PROT_READ | libc::PROT_EXEC)
    }

    fn protect(&self, rights: libc::c_int) -> io::Result<()> {
        // SAFETY: the page is ours.
        match unsafe { libc::mprotect(self.0.as_ptr(), PAGE_SIZE as usize, rights) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the page is ours.
        unsafe { libc::munmap(self.0.as_ptr(), PAGE_SIZE as usize) };
    }
}

impl Step {
    /// Puts registers right when the slot has been left, and says whether the instruction is done.
    pub(super) fn finish(self, state: &mut ThreadState, exit: Exit) -> Option<Exit> {
        let registers = &mut state.registers;
        let end = self.slot + self.length;
        let pc = match registers.pc {
            pc if pc == self.slot => self.pc,
            // `int3` leaves the program counter behind it, too.
            pc if pc == end => self.next,
            _ => return Some(exit),
        };
        let is_done = registers.pc == end;
        registers.pc = pc;
        if let Some((register, value)) = self.scratch {
            registers.set(register, value);
        }
        match exit {
            Exit::Fault(Fault { kind: FaultKind::IllegalInstruction, .. }) if is_done => None,
            Exit::Fault(fault) if fault.address.0 == self.slot => {
                Some(Exit::Fault(Fault { address: GuestAddr(self.pc), ..fault }))
            }
            other => Some(other),
        }
    }
}

/// Begins the instruction at the program counter.
pub(super) fn begin(state: &mut ThreadState, slot: &Slot, code: &Code, user: User) -> Begun {
    match try_begin(state, slot, code, user) {
        Ok(begun) => begun,
        Err(fault) => Begun::Exit(Exit::Fault(fault)),
    }
}

fn try_begin(state: &mut ThreadState, slot: &Slot, code: &Code, user: User) -> Result<Begun, Fault> {
    let pc = state.registers.pc;
    let mut bytes = [0; LONGEST];
    let length = fetch(pc, &mut bytes, code, user)?;
    let instruction = decode(&bytes[..length], pc);
    if instruction.is_invalid() {
        return Err(match length {
            LONGEST => illegal(pc),
            _ => unfetchable(pc + length as u64),
        });
    }
    let next = instruction.next_ip();
    match (instruction.flow_control(), instruction.code()) {
        (_, Opcode::Syscall) => {
            state.registers.set(Gpr::Rcx, next);
            state.registers.set(Gpr::R11, state.registers.flags.0);
            state.registers.pc = next;
            Ok(Begun::Exit(Exit::Syscall))
        }
        (_, Opcode::Wrpkru) => Err(illegal(pc)),
        (_, Opcode::Xrstor_mem | Opcode::Xrstor64_mem) => {
            restore(state, &instruction, user)?;
            state.registers.pc = next;
            Ok(Begun::Done)
        }
        (FlowControl::Next, _) => in_slot(state, &instruction, &bytes[..instruction.len()], slot),
        (FlowControl::Interrupt, Opcode::Int3) => {
            state.registers.pc = next;
            Err(Fault { kind: FaultKind::Breakpoint, address: GuestAddr(0) })
        }
        (FlowControl::Interrupt, _) => Err(Fault { kind: FaultKind::Protection, address: GuestAddr(0) }),
        _ => {
            state.registers.pc = branch(state, &instruction, user)?;
            Ok(Begun::Done)
        }
    }
}

/// Decodes an XRSTOR at the program counter, which a scan has patched, and does it.
pub(super) fn restore_patched(state: &mut ThreadState, user: User) -> Result<(), Fault> {
    let pc = state.registers.pc;
    let mut bytes = [0; LONGEST];
    let length = user.load_some(pc, &mut bytes);
    // Where a REX prefix stands before it, the program counter is at that.
    let at = usize::from(bytes[0] & 0xf0 == 0x40);
    bytes[at + 1] = 0xae;
    let instruction = decode(&bytes[..length], pc);
    if !matches!(instruction.code(), Opcode::Xrstor_mem | Opcode::Xrstor64_mem) {
        return Err(illegal(pc));
    }
    restore(state, &instruction, user)?;
    state.registers.pc = instruction.next_ip();
    Ok(())
}

fn restore(state: &mut ThreadState, instruction: &Instruction, user: User) -> Result<(), Fault> {
    let address = operand_address(state, instruction, 0)?;
    let (low, high) = (state.registers.get(Gpr::Rax) as u32, state.registers.get(Gpr::Rdx) as u32);
    xrstor::emulate(&mut state.vector, user, address, u64::from(high) << 32 | u64::from(low))
}

/// Reads what is there of an instruction, as far as it may run.
fn fetch(pc: u64, bytes: &mut [u8; LONGEST], code: &Code, user: User) -> Result<usize, Fault> {
    let to_border = (PAGE_SIZE - pc % PAGE_SIZE) as usize;
    let length = match pc.checked_add(to_border as u64) {
        Some(border) if to_border < LONGEST && !code.may_run(GuestAddr(border)) => to_border,
        _ => LONGEST,
    };
    match user.load_some(pc, &mut bytes[..length]) {
        0 => Err(unfetchable(pc)),
        length => Ok(length),
    }
}

fn in_slot(
    state: &mut ThreadState,
    instruction: &Instruction,
    bytes: &[u8],
    slot: &Slot,
) -> Result<Begun, Fault> {
    let pc = state.registers.pc;
    let has_hit = scan::hits(bytes).next().is_some();
    let mut scratch = None;
    let code = if instruction.is_ip_rel_memory_operand() || has_hit {
        if move_immediate(state, instruction) {
            return Ok(Begun::Done);
        }
        let register = unused_register(instruction).ok_or(illegal(pc))?;
        let address = operand_offset(state, instruction)?;
        scratch = Some((register, address));
        encode_through(instruction, register, slot.code().0 as u64).ok_or(illegal(pc))?
    } else {
        bytes.to_vec()
    };
    let mut whole = code.clone();
    whole.extend(UD2);
    whole.resize(LONGEST + UD2.len() + scan::LENGTH, 0xcc);
    if scan::hits(&whole).next().is_some() {
        return Err(illegal(pc));
    }
    slot.fill(&whole).map_err(|_| illegal(pc))?;
    let scratch = scratch.map(|(register, address)| {
        let before = state.registers.get(register);
        state.registers.set(register, address);
        (register, before)
    });
    state.registers.pc = slot.code().0 as u64;
    let (slot, length) = (slot.code().0 as u64, code.len() as u64);
    Ok(Begun::InSlot(Step { pc, next: instruction.next_ip(), slot, length, scratch }))
}

/// `mov register, imm`, whose immediate may be what a scan looks for. Whether it was one.
fn move_immediate(state: &mut ThreadState, instruction: &Instruction) -> bool {
    let is_move = matches!(
        instruction.code(),
        Opcode::Mov_r64_imm64 | Opcode::Mov_r32_imm32 | Opcode::Mov_rm64_imm32 | Opcode::Mov_rm32_imm32
    );
    if !is_move || instruction.op0_kind() != OpKind::Register {
        return false;
    }
    let Some(register) = gpr(instruction.op0_register().full_register()) else { return false };
    let value = instruction.immediate(1);
    let is_half = instruction.op0_register().size() == 4;
    state.registers.set(register, if is_half { value & 0xffff_ffff } else { value });
    state.registers.pc = instruction.next_ip();
    true
}

/// The instruction with its memory operand at `[register]`, encoded to stand at `at`.
fn encode_through(instruction: &Instruction, register: Gpr, at: u64) -> Option<Vec<u8>> {
    let has_memory = (0..instruction.op_count()).any(|op| instruction.op_kind(op) == OpKind::Memory);
    if !has_memory || instruction.is_vsib() {
        return None;
    }
    let mut changed = *instruction;
    changed.set_memory_base(REGISTERS[register as usize]);
    changed.set_memory_index(Register::None);
    changed.set_memory_index_scale(1);
    changed.set_memory_displacement64(0);
    changed.set_memory_displ_size(0);
    let mut encoder = Encoder::new(64);
    encoder.encode(&changed, at).ok()?;
    Some(encoder.take_buffer())
}

fn unused_register(instruction: &Instruction) -> Option<Gpr> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let is_used = |candidate: Register| {
        info.used_registers().iter().any(|used| used.register().full_register() == candidate)
    };
    REGISTERS
        .iter()
        .filter(|&&register| register != Register::RSP && !is_used(register))
        .find_map(|&register| gpr(register))
}

/// Where a branch, a call or a return goes; does what it does besides.
fn branch(state: &mut ThreadState, instruction: &Instruction, user: User) -> Result<u64, Fault> {
    let next = instruction.next_ip();
    let target = match instruction.flow_control() {
        FlowControl::UnconditionalBranch if is_near(instruction) => instruction.near_branch_target(),
        FlowControl::ConditionalBranch if is_taken(state, instruction) => instruction.near_branch_target(),
        FlowControl::ConditionalBranch => next,
        FlowControl::Call if is_near(instruction) => {
            push(state, next, user)?;
            instruction.near_branch_target()
        }
        FlowControl::IndirectBranch if instruction.is_jmp_near_indirect() => {
            target(state, instruction, user)?
        }
        FlowControl::IndirectCall if instruction.is_call_near_indirect() => {
            let target = target(state, instruction, user)?;
            push(state, next, user)?;
            target
        }
        FlowControl::Return if matches!(instruction.code(), Opcode::Retnq | Opcode::Retnq_imm16) => {
            let stack = state.registers.stack_pointer();
            let target = user.load_word(stack)?;
            let dropped = if instruction.op_count() == 1 { instruction.immediate(0) } else { 0 };
            state.registers.set_stack_pointer(stack.wrapping_add(8 + dropped));
            target
        }
        _ => return Err(illegal(state.registers.pc)),
    };
    Ok(target)
}

fn is_near(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::NearBranch64
}

fn push(state: &mut ThreadState, word: u64, user: User) -> Result<(), Fault> {
    let stack = state.registers.stack_pointer().wrapping_sub(8);
    user.store_word(stack, word)?;
    state.registers.set_stack_pointer(stack);
    Ok(())
}

/// The target of an indirect branch.
fn target(state: &ThreadState, instruction: &Instruction, user: User) -> Result<u64, Fault> {
    match instruction.op0_kind() {
        OpKind::Register => {
            let register = gpr(instruction.op0_register()).ok_or(illegal(state.registers.pc))?;
            Ok(state.registers.get(register))
        }
        _ => user.load_word(operand_address(state, instruction, 0)?),
    }
}

fn is_taken(state: &mut ThreadState, instruction: &Instruction) -> bool {
    let registers = &mut state.registers;
    let flag = |bit: u32| registers.flags.0 >> bit & 1 != 0;
    let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    let counter_after = |registers: &mut endo_core::Registers| {
        let mask = if is_long_loop(instruction) { u64::MAX } else { 0xffff_ffff };
        let count = registers.get(Gpr::Rcx).wrapping_sub(1) & mask;
        registers.set(Gpr::Rcx, count);
        count
    };
    match instruction.code() {
        Opcode::Jrcxz_rel8_64 => return registers.get(Gpr::Rcx) == 0,
        Opcode::Jecxz_rel8_64 => return registers.get(Gpr::Rcx) as u32 == 0,
        Opcode::Loop_rel8_64_RCX | Opcode::Loop_rel8_64_ECX => return counter_after(registers) != 0,
        Opcode::Loope_rel8_64_RCX | Opcode::Loope_rel8_64_ECX => {
            return counter_after(registers) != 0 && zero;
        }
        Opcode::Loopne_rel8_64_RCX | Opcode::Loopne_rel8_64_ECX => {
            return counter_after(registers) != 0 && !zero;
        }
        _ => {}
    }
    match instruction.condition_code() {
        ConditionCode::None => false,
        ConditionCode::o => overflow,
        ConditionCode::no => !overflow,
        ConditionCode::b => carry,
        ConditionCode::ae => !carry,
        ConditionCode::e => zero,
        ConditionCode::ne => !zero,
        ConditionCode::be => carry || zero,
        ConditionCode::a => !carry && !zero,
        ConditionCode::s => sign,
        ConditionCode::ns => !sign,
        ConditionCode::p => parity,
        ConditionCode::np => !parity,
        ConditionCode::l => sign != overflow,
        ConditionCode::ge => sign == overflow,
        ConditionCode::le => zero || sign != overflow,
        ConditionCode::g => !zero && sign == overflow,
    }
}

fn is_long_loop(instruction: &Instruction) -> bool {
    matches!(
        instruction.code(),
        Opcode::Loop_rel8_64_RCX | Opcode::Loope_rel8_64_RCX | Opcode::Loopne_rel8_64_RCX
    )
}

/// The linear address of a memory operand.
fn operand_address(state: &ThreadState, instruction: &Instruction, operand: u32) -> Result<u64, Fault> {
    let address =
        instruction.virtual_address(operand, 0, |register, _, _| Some(register_value(state, register)));
    address.ok_or(illegal(state.registers.pc))
}

/// The address of the memory operand before the segment's base is added.
fn operand_offset(state: &ThreadState, instruction: &Instruction) -> Result<u64, Fault> {
    let operand = (0..instruction.op_count()).find(|&op| instruction.op_kind(op) == OpKind::Memory);
    let operand = operand.ok_or(illegal(state.registers.pc))?;
    let offset = instruction.virtual_address(operand, 0, |register, _, _| {
        Some(if register.is_segment_register() { 0 } else { register_value(state, register) })
    });
    offset.ok_or(illegal(state.registers.pc))
}

fn register_value(state: &ThreadState, register: Register) -> u64 {
    match register {
        Register::FS => state.registers.fs_base,
        Register::GS => state.registers.gs_base,
        other => {
            let value = gpr(other.full_register()).map_or(0, |register| state.registers.get(register));
            if other.size() == 4 { value & 0xffff_ffff } else { value }
        }
    }
}

/// In the order of [`Gpr`].
const REGISTERS: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

const ORDER: [Gpr; 16] = [
    Gpr::Rax,
    Gpr::Rcx,
    Gpr::Rdx,
    Gpr::Rbx,
    Gpr::Rsp,
    Gpr::Rbp,
    Gpr::Rsi,
    Gpr::Rdi,
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::R12,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
];

fn gpr(register: Register) -> Option<Gpr> {
    let index = REGISTERS.iter().position(|&candidate| candidate == register)?;
    Some(ORDER[index])
}

fn decode(bytes: &[u8], pc: u64) -> Instruction {
    Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE).decode()
}

fn illegal(pc: u64) -> Fault {
    Fault { kind: FaultKind::IllegalInstruction, address: GuestAddr(pc) }
}

fn unfetchable(at: u64) -> Fault {
    Fault { kind: FaultKind::Execute { mapped: true }, address: GuestAddr(at) }
}

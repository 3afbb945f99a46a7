//! The x86-64 signal frame (arch/x86/kernel/signal_64.c, arch/x86/kernel/fpu/signal.c):
//!
//! ```text
//! handler's rsp                                   64-byte aligned
//! | return address | ucontext | siginfo | padding | XSAVE area, standard format | MAGIC2 | ... old stack
//! 0                8          312       440
//! ```

use std::sync::OnceLock;

use endo_core::arch::xsave::{self, Software};
use endo_core::arch::{Flags, Gpr};
use endo_core::{Fault, FaultKind, GuestAddr, IsolationBackend, Registers, ThreadState, VectorState};

use super::{Delivery, Restored};
use crate::errno::Errno;
use crate::memory::user::UserMemory;
use crate::signal::altstack::AlternateStack;
use crate::signal::info::SigInfo;
use crate::signal::set::SigSet;

/// Offsets into the frame. The order of the registers is `struct sigcontext_64`'s.
mod offset {
    pub(super) const UC_FLAGS: usize = 8;
    pub(super) const UC_STACK: usize = 24;
    pub(super) const REGISTERS: usize = 48;
    pub(super) const PC: usize = REGISTERS + 16 * 8;
    pub(super) const FLAGS: usize = PC + 8;
    pub(super) const SEGMENTS: usize = FLAGS + 8;
    pub(super) const ERROR: usize = SEGMENTS + 8;
    pub(super) const TRAP: usize = ERROR + 8;
    pub(super) const OLD_MASK: usize = TRAP + 8;
    pub(super) const CR2: usize = OLD_MASK + 8;
    pub(super) const FPSTATE: usize = CR2 + 8;
    pub(super) const MASK: usize = FPSTATE + 8 + 64;
    pub(super) const INFO: usize = MASK + 8;
    pub(super) const END: usize = INFO + 128;
}

/// General registers in the order of `struct sigcontext_64`.
const ORDER: [Gpr; 16] = [
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::R12,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
    Gpr::Rdi,
    Gpr::Rsi,
    Gpr::Rbp,
    Gpr::Rbx,
    Gpr::Rdx,
    Gpr::Rax,
    Gpr::Rcx,
    Gpr::Rsp,
];

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;
/// cs 0x33, gs and fs 0, ss 0x2b: what every 64-bit program has.
const SEGMENTS: u64 = 0x002b_0000_0000_0033;
/// Bytes below the stack pointer that belong to the interrupted function (psABI 3.2.2).
const RED_ZONE: u64 = 128;
/// `si_code` of the two integer exceptions, both the processor's divide error.
const FPE_INTDIV: i32 = 1;
const FPE_INTOVF: i32 = 2;

/// What the kernel keeps of a thread's last fault (`thread.trap_nr`, `error_code`, `cr2`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::signal) struct Trap {
    number: u64,
    error: u64,
    address: u64,
}

impl Trap {
    /// What the processor and the kernel report for this fault (SDM volume 3, table 6-1 and 4.7).
    pub(in crate::signal) fn of_fault(fault: &Fault, before: Trap) -> Self {
        const USER: u64 = 4;
        let page_fault = |error| Trap { number: 14, error: error | USER, address: fault.address.0 };
        let other = |number| Trap { number, error: 0, address: before.address };
        match fault.kind {
            // A mapped page that cannot be read has no rights at all: for the processor it is absent.
            FaultKind::Read { .. } => page_fault(0),
            FaultKind::Write { mapped } => page_fault(2 | u64::from(mapped)),
            FaultKind::Execute { mapped } => page_fault(16 | u64::from(mapped)),
            FaultKind::Bus { .. } => page_fault(0),
            FaultKind::Protection => other(13),
            FaultKind::Alignment => other(17),
            FaultKind::Arithmetic { code: FPE_INTDIV | FPE_INTOVF } => other(0),
            FaultKind::Arithmetic { .. } => other(19),
            FaultKind::IllegalInstruction => other(6),
            FaultKind::Breakpoint => other(3),
            FaultKind::Step => other(1),
        }
    }
}

/// To be called before there is a second thread: a fork must not find the layout half computed by another.
pub(crate) fn prepare_for_threads() {
    XsaveLayout::of_machine();
}

/// Puts a thread that stands after a system call instruction back onto it: `syscall` and `int 0x80` have two bytes. The
/// registers still hold the call.
pub(in crate::signal) fn rewind_syscall(registers: &mut Registers) {
    registers.pc = registers.pc.wrapping_sub(2);
}

/// Puts it there with `restart_syscall` for the call: the kernel knows the rest.
pub(in crate::signal) fn rewind_to_restart(registers: &mut Registers) {
    rewind_syscall(registers);
    registers.set(Gpr::Rax, libc::SYS_restart_syscall as u64);
}

/// The register that a system call's result is in.
pub(in crate::signal) fn result_register(registers: &Registers) -> u64 {
    registers.get(Gpr::Rax)
}

/// A frame, ready to be stored. What it holds of vector state stays in the thread's own until then.
pub(in crate::signal) struct Frame {
    /// Where it goes: the handler's stack pointer.
    pub(in crate::signal) at: GuestAddr,
    context: [u8; offset::END],
    fpstate: GuestAddr,
}

impl Frame {
    /// Stores it.
    pub(in crate::signal) fn store<B: IsolationBackend>(
        &self,
        user: UserMemory<'_, B>,
        state: &ThreadState,
    ) -> Result<(), Errno> {
        let size = XsaveLayout::of_machine().size;
        user.write_bytes(self.at, &self.context)?;
        user.write_bytes(self.fpstate, &state.vector.bytes()[..size])?;
        user.write(GuestAddr(self.fpstate.0.wrapping_add(size as u64)), &xsave::MAGIC2)
    }
}

/// The frame of a delivery; vector state is put into a frame's dress. EFAULT where the kernel finds that it cannot be: no
/// restorer, or the alternate stack is full.
pub(in crate::signal) fn build(state: &mut ThreadState, delivery: &Delivery<'_>) -> Result<Frame, Errno> {
    if delivery.action.flags & crate::signal::Action::RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    let layout = XsaveLayout::of_machine();
    let (top, is_on_alternate) = stack_top(state.registers.stack_pointer(), delivery);
    let fpstate = top.wrapping_sub((layout.size + size_of_val(&xsave::MAGIC2)) as u64) & !63;
    let at = (fpstate.wrapping_sub(offset::END as u64) & !15).wrapping_sub(8);
    if is_on_alternate && !delivery.alternate.holds(at) {
        return Err(Errno::EFAULT);
    }
    let mut context = [0; offset::END];
    fill_context(&mut context, state, delivery, fpstate);
    context[offset::INFO..].copy_from_slice(delivery.info.as_bytes());
    dress(&mut state.vector, layout);
    Ok(Frame { at: GuestAddr(at), context, fpstate: GuestAddr(fpstate) })
}

/// Where the frame goes below, and whether that is the alternate stack (`get_sigframe`).
fn stack_top(stack_pointer: u64, delivery: &Delivery<'_>) -> (u64, bool) {
    let below_red_zone = stack_pointer.wrapping_sub(RED_ZONE);
    let enters = delivery.action.has(libc::SA_ONSTACK) && delivery.alternate.state(below_red_zone) == 0;
    if enters {
        (delivery.alternate.top(), true)
    } else {
        (below_red_zone, delivery.alternate.is_in_use(stack_pointer))
    }
}

fn fill_context(bytes: &mut [u8], state: &ThreadState, delivery: &Delivery<'_>, fpstate: u64) {
    let registers = &state.registers;
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(0, delivery.action.restorer);
    put(offset::UC_FLAGS, UC_FLAGS);
    for (index, gpr) in ORDER.into_iter().enumerate() {
        put(offset::REGISTERS + index * 8, registers.get(gpr));
    }
    put(offset::PC, registers.pc);
    put(offset::FLAGS, registers.flags.0);
    put(offset::SEGMENTS, SEGMENTS);
    put(offset::ERROR, delivery.trap.error);
    put(offset::TRAP, delivery.trap.number);
    put(offset::OLD_MASK, delivery.saved_mask.0);
    put(offset::CR2, delivery.trap.address);
    put(offset::FPSTATE, fpstate);
    put(offset::MASK, delivery.saved_mask.0);
    bytes[offset::UC_STACK..offset::UC_STACK + AlternateStack::SIZE]
        .copy_from_slice(&delivery.alternate.to_bytes());
}

/// Adds what the kernel says in a frame about vector state.
fn dress(vector: &mut VectorState, layout: &XsaveLayout) {
    let bytes = vector.bytes_mut();
    Software::new(layout.components, layout.size as u32).write(bytes);
    let in_use = u64_at(bytes, xsave::HEADER) & layout.components | xsave::LEGACY_COMPONENTS;
    set_in_use(vector, in_use);
}

/// Makes a thread run the handler whose frame has been stored.
pub(in crate::signal) fn enter(state: &mut ThreadState, frame: &Frame, delivery: &Delivery<'_>) {
    let registers = &mut state.registers;
    let at = frame.at.0;
    registers.set(Gpr::Rdi, delivery.signal.number() as u64);
    registers.set(Gpr::Rsi, at + offset::INFO as u64);
    registers.set(Gpr::Rdx, at + offset::UC_FLAGS as u64);
    registers.set(Gpr::Rax, 0);
    registers.set_stack_pointer(at);
    registers.pc = delivery.handler.0;
    const DIRECTION: u64 = 1 << 10;
    const RESUME: u64 = 1 << 16;
    registers.flags = Flags(registers.flags.0 & !(DIRECTION | RESUME | Flags::TRAP));
    state.vector.reset();
}

/// Undoes a delivery: `rt_sigreturn` with the stack pointer above the frame's return address. The mask is handed to
/// `set_mask` as soon as it is known, as the kernel sets it even if the rest turns out to be unusable; if that fails,
/// nothing has changed.
///
/// Of the segment registers those for code and stack must be a 64-bit program's, to which alone a return can lead; the
/// others are ignored. Flags are those that a program may set, and vector state is checked as XRSTOR checks it. Program
/// counter and stack pointer are guest values and stay whatever they are.
pub(in crate::signal) fn restore<B: IsolationBackend>(
    user: UserMemory<'_, B>,
    state: &mut ThreadState,
    set_mask: impl FnOnce(SigSet) -> Result<(), Errno>,
) -> Result<Restored, Errno> {
    let at = GuestAddr(state.registers.stack_pointer().wrapping_sub(8));
    let mut frame = [0; offset::INFO];
    user.read_into(at, &mut frame)?;
    set_mask(SigSet(u64_at(&frame, offset::MASK)))?;
    let fpstate = GuestAddr(u64_at(&frame, offset::FPSTATE));
    restore_fpstate(user, &mut state.vector, fpstate).inspect_err(|_| state.vector.reset())?;
    let registers = &mut state.registers;
    for (index, gpr) in ORDER.into_iter().enumerate() {
        registers.set(gpr, u64_at(&frame, offset::REGISTERS + index * 8));
    }
    registers.pc = u64_at(&frame, offset::PC);
    let flags = u64_at(&frame, offset::FLAGS) & Flags::STATUS_AND_DIRECTION;
    registers.flags = Flags(flags | registers.flags.0 & Flags::ID).sanitised();
    if !has_own_segments(&frame) || !is_canonical(registers.pc) {
        return Err(Errno::EFAULT);
    }
    let alternate = frame[offset::UC_STACK..offset::UC_STACK + AlternateStack::SIZE].try_into();
    Ok(Restored { alternate: alternate.expect("the length is the slice's") })
}

/// Whether an address is one on processors with 48-bit addresses. IRET faults on any other.
fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// Whether the return leads to 64-bit user code: with any other selectors IRET faults, but the kernel corrects the stack's
/// unless the frame says that it is meant (`UC_STRICT_RESTORE_SS`).
fn has_own_segments(frame: &[u8]) -> bool {
    const PRIVILEGE: u64 = 3;
    const STRICT_RESTORE_SS: u64 = 4;
    let (wanted, own) = (u64_at(frame, offset::SEGMENTS), SEGMENTS);
    let has_code = wanted & 0xffff | PRIVILEGE == own & 0xffff;
    let has_stack = wanted >> 48 | PRIVILEGE == own >> 48;
    has_code && (has_stack || u64_at(frame, offset::UC_FLAGS) & STRICT_RESTORE_SS == 0)
}

/// Loads the vector state at `fpstate` (`fpu__restore_sig`): what XRSTOR would refuse is EFAULT, and then `vector` must not
/// be used.
fn restore_fpstate<B: IsolationBackend>(
    user: UserMemory<'_, B>,
    vector: &mut VectorState,
    fpstate: GuestAddr,
) -> Result<(), Errno> {
    vector.reset();
    if fpstate.0 == 0 {
        return Ok(());
    }
    let layout = XsaveLayout::of_machine();
    user.read_into(fpstate, &mut vector.bytes_mut()[..xsave::HEADER])?;
    let Some(described) = described_area(user, fpstate, vector.bytes(), layout)? else {
        // Without a valid description the kernel takes the first 512 bytes alone, by FXRSTOR.
        set_in_use(vector, xsave::LEGACY_COMPONENTS);
        return check_legacy(vector, fpstate, 16, layout);
    };
    user.read_into(fpstate, &mut vector.bytes_mut()[..described.size])?;
    let bytes = vector.bytes();
    let in_use = u64_at(bytes, xsave::HEADER);
    let is_compacted = bytes[xsave::HEADER + 8..xsave::HEADER + 24].iter().any(|&byte| byte != 0);
    if in_use & !layout.components != 0 || is_compacted {
        return Err(Errno::EFAULT);
    }
    set_in_use(vector, in_use & described.components);
    check_legacy(vector, fpstate, 64, layout)
}

/// Checks what was loaded of the first 512 bytes, and clears what software or nobody defines there.
fn check_legacy(
    vector: &mut VectorState,
    fpstate: GuestAddr,
    alignment: u64,
    layout: &XsaveLayout,
) -> Result<(), Errno> {
    let bytes = vector.bytes_mut();
    if u32_at(bytes, xsave::MXCSR) & !layout.mxcsr_bits != 0 || !fpstate.0.is_multiple_of(alignment) {
        return Err(Errno::EFAULT);
    }
    bytes[xsave::MXCSR_MASK].copy_from_slice(&layout.mxcsr_bits.to_le_bytes());
    bytes[xsave::RESERVED..xsave::HEADER].fill(0);
    Ok(())
}

struct Described {
    size: usize,
    components: u64,
}

/// What `sw_reserved` says, if it is to be believed (`check_xstate_in_sigframe`).
fn described_area<B: IsolationBackend>(
    user: UserMemory<'_, B>,
    fpstate: GuestAddr,
    legacy: &[u8],
    layout: &XsaveLayout,
) -> Result<Option<Described>, Errno> {
    let Some(software) = Software::read(legacy) else { return Ok(None) };
    let size = software.size as usize;
    if !(xsave::EXTENDED..=layout.size).contains(&size) || software.size > software.extended_size {
        return Ok(None);
    }
    let magic2 = fpstate.checked_add(size as u64).ok_or(Errno::EFAULT)?;
    let is_whole = user.read::<u32>(magic2)? == xsave::MAGIC2;
    let components = software.components & layout.components;
    Ok(is_whole.then_some(Described { size, components }))
}

/// Writes the area's header: these components, standard format.
fn set_in_use(vector: &mut VectorState, components: u64) {
    let bytes = vector.bytes_mut();
    bytes[xsave::HEADER..xsave::HEADER_RESERVED.start].copy_from_slice(&components.to_le_bytes());
    bytes[xsave::HEADER_RESERVED].fill(0);
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Which vector state signal frames hold on this machine.
struct XsaveLayout {
    /// Bytes of the area.
    size: usize,
    /// State components, numbered as in XCR0.
    components: u64,
    /// Bits that MXCSR may have.
    mxcsr_bits: u32,
}

impl XsaveLayout {
    /// AMX state is in frames only after a program asked for it, which guests cannot; protection keys belong to the
    /// monitor.
    const NEVER: u64 = xsave::PKRU | xsave::AMX;

    fn of_machine() -> &'static Self {
        static LAYOUT: OnceLock<XsaveLayout> = OnceLock::new();
        // Each CPUID costs a VM exit: ask once.
        LAYOUT.get_or_init(|| {
            let components = xsave::enabled_components() & !Self::NEVER;
            let size = xsave::area_length(components).min(VectorState::area_length());
            XsaveLayout { size, components, mxcsr_bits: xsave::mxcsr_bits() }
        })
    }
}

const _: () = assert!(offset::END == 440 && offset::INFO == 312 && SigInfo::SIZE == 128);

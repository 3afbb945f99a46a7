//! What a host signal means to a guest in the code cache or in a gate. Async-signal-safe throughout.

use core::sync::atomic::{Ordering, compiler_fence};

use endo_core::arch::xsave::{self, Software};
use endo_core::arch::{Flags, Gpr};
use endo_core::fault::fault_from_signal;
use endo_core::{Registers, SignalRoute};

use crate::SfiBackend;
use crate::context::{self, Context};
use crate::gate::{self, Leave, Place, Reason};
use crate::threads::is_interruption;

/// Where an instruction fetch at address zero comes from: a dispatch through an entry that was never filled.
pub(crate) const UNFILLED_ENTRY: u64 = 0;
/// The same of a predicted return, which leads four bytes before an entry (see [`crate::translate`]).
pub(crate) const UNFILLED_RETURN: u64 = UNFILLED_ENTRY.wrapping_sub(4);

/// See [`endo_core::IsolationBackend::on_signal`].
pub(crate) fn route(
    backend: &SfiBackend,
    synchronous: bool,
    info: &libc::siginfo_t,
    frame: &mut libc::ucontext_t,
) -> SignalRoute {
    // SAFETY: this thread's own context; the code that the signal interrupted does not run meanwhile.
    let context = unsafe { &mut *context::current() };
    if !synchronous {
        context.exit_requested = 1;
    }
    if context.backend != core::ptr::from_ref(backend) as u64 {
        return SignalRoute::Outside;
    }
    let pc = frame.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    if backend.emitted_code().contains(&pc) || synchronous && matches!(pc, UNFILLED_ENTRY | UNFILLED_RETURN) {
        let fault = synchronous.then(|| fault_from_signal(info, frame));
        context.leave.write(Leave { host_pc: pc, fault });
        save_registers(context, frame);
        return leave(context, frame, Reason::Signal);
    }
    match gate::place(pc) {
        Place::Elsewhere => SignalRoute::Outside,
        // It will look at `exit_requested` once more.
        Place::Tail => resume_at(frame, gate::tail()),
        _ if synchronous => SignalRoute::Outside,
        Place::BeforeSyscall => {
            save_preserved(context, frame);
            restore_flags(context, frame);
            leave(context, frame, Reason::BeforeSyscall)
        }
        // It was about to make the call when it was interrupted, and nobody but the backend wanted it: nothing has
        // happened that the guest may learn of.
        Place::AfterSyscall if is_interruption(info) && was_cut_short(frame) => {
            save_preserved(context, frame);
            restore_flags(context, frame);
            leave(context, frame, Reason::BeforeSyscall)
        }
        Place::AfterSyscall => {
            // EINTR is a result like any other: what is to be restarted the kernel has put back onto the instruction.
            // The stack pointer and the second argument are the gate's own.
            let [stack, second] = [Gpr::Rsp, Gpr::Rsi].map(|register| context.registers.get(register));
            save_registers(context, frame);
            context.registers.set_stack_pointer(stack);
            context.registers.set(Gpr::Rsi, second);
            context.registers.set(Gpr::Rcx, u64::from(context.exit_info));
            leave(context, frame, Reason::AfterSyscall)
        }
        Place::Answered => {
            save_preserved(context, frame);
            restore_flags(context, frame);
            leave(context, frame, Reason::AfterSyscall)
        }
    }
}

/// Whether the call that has just been made was interrupted.
fn was_cut_short(frame: &libc::ucontext_t) -> bool {
    frame.uc_mcontext.gregs[libc::REG_RAX as usize] == -i64::from(libc::EINTR)
}

fn resume_at(frame: &mut libc::ucontext_t, pc: u64) -> SignalRoute {
    frame.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as i64;
    SignalRoute::Leaving
}

/// Makes the handler's return continue in the gate that ends `enter`.
fn leave(context: &mut Context, frame: &mut libc::ucontext_t, reason: Reason) -> SignalRoute {
    save_vector(context, frame);
    compiler_fence(Ordering::SeqCst);
    let registers = &mut frame.uc_mcontext.gregs;
    registers[libc::REG_RSP as usize] = context.host_stack as i64;
    registers[libc::REG_R15 as usize] = reason as i64;
    resume_at(frame, gate::leave());
    SignalRoute::LeavingByJump
}

/// All general registers, as interrupted.
fn save_registers(context: &mut Context, frame: &libc::ucontext_t) {
    let from = &frame.uc_mcontext.gregs;
    for (register, index) in REGISTERS {
        context.registers.set(register, from[index as usize] as u64);
    }
    context.registers.flags = Flags(from[libc::REG_EFL as usize] as u64);
}

/// The registers that a fast path preserves; the gate has put the others into the context.
fn save_preserved(context: &mut Context, frame: &libc::ucontext_t) {
    let from = &frame.uc_mcontext.gregs;
    for (register, index) in REGISTERS {
        if matches!(register, Gpr::Rbx | Gpr::Rbp | Gpr::R12 | Gpr::R13 | Gpr::R14 | Gpr::R15) {
            context.registers.set(register, from[index as usize] as u64);
        }
    }
    context.registers.set(Gpr::Rcx, u64::from(context.exit_info));
}

/// The status flags that the gate keeps as LAHF and SETO left them: AH, and OF in AL. It leaves the others alone.
fn restore_flags(context: &mut Context, frame: &libc::ucontext_t) {
    const STATUS: u64 = 0x8d5;
    const OVERFLOW: u64 = 1 << 11;
    let others = frame.uc_mcontext.gregs[libc::REG_EFL as usize] as u64 & !STATUS;
    let status = context.fast_flags >> 8 & 0xd5;
    let overflow = if context.fast_flags & 1 != 0 { OVERFLOW } else { 0 };
    context.registers.flags = Flags(others | status | overflow).sanitised();
    context.registers.set(Gpr::R11, context.registers.flags.0);
}

/// The vector state: the kernel has put it into the signal frame, in the format of the thread's own area.
fn save_vector(context: &mut Context, frame: &libc::ucontext_t) {
    let from = frame.uc_mcontext.fpregs.cast::<u8>();
    let to = context.vector as *mut u8;
    // SAFETY: the frame's area begins with an FXSAVE image, the kernel's words included.
    let legacy = unsafe { core::slice::from_raw_parts(from, xsave::SOFTWARE.end) };
    let bytes = Software::read(legacy).map_or(legacy.len(), |software| software.size as usize);
    let bytes = bytes.min(endo_core::VectorState::area_length());
    // SAFETY: both areas have `bytes` bytes and do not overlap: one is on the signal stack.
    unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
}

const REGISTERS: [(Gpr, i32); 16] = [
    (Gpr::Rax, libc::REG_RAX),
    (Gpr::Rcx, libc::REG_RCX),
    (Gpr::Rdx, libc::REG_RDX),
    (Gpr::Rbx, libc::REG_RBX),
    (Gpr::Rsp, libc::REG_RSP),
    (Gpr::Rbp, libc::REG_RBP),
    (Gpr::Rsi, libc::REG_RSI),
    (Gpr::Rdi, libc::REG_RDI),
    (Gpr::R8, libc::REG_R8),
    (Gpr::R9, libc::REG_R9),
    (Gpr::R10, libc::REG_R10),
    (Gpr::R11, libc::REG_R11),
    (Gpr::R12, libc::REG_R12),
    (Gpr::R13, libc::REG_R13),
    (Gpr::R14, libc::REG_R14),
    (Gpr::R15, libc::REG_R15),
];

/// The registers that `context` holds when a guest was taken out of emitted code.
pub(crate) fn interrupted(context: &Context) -> (Leave, Registers) {
    // SAFETY: `route` wrote it before it made the guest leave with `Reason::Signal`, the only way to get here.
    (unsafe { context.leave.assume_init() }, context.registers)
}

//! The signal frame that enters the guest.
//!
//! Layouts follow arch/x86/include/uapi/asm/sigcontext.h and uapi/asm/ucontext.h of Linux.

use crate::ThreadState;
use crate::arch::Flags;
use crate::native::frame::{FRAME_ORDER, USER_CS, USER_SS, VectorFrame};

/// What `rt_sigreturn` reads, from the word below the stack pointer on.
#[derive(Debug)]
#[repr(C)]
pub(super) struct SignalFrame {
    return_address: u64,
    flags: u64,
    link: u64,
    alternate_stack: AlternateStack,
    machine: MachineContext,
    /// The signals that are blocked while the guest runs.
    pub(super) signal_mask: u64,
}

#[derive(Debug)]
#[repr(C)]
struct AlternateStack {
    start: u64,
    mode: i32,
    size: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
struct MachineContext {
    gpr: [u64; 16],
    pc: u64,
    flags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    fault_address: u64,
    vector_state: u64,
    reserved: [u64; 8],
}

/// The frame holds an extended state behind the FXSAVE area.
const UC_FP_XSTATE: u64 = 1;
/// The frame's SS is to be used.
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Neither SS_ONSTACK, SS_DISABLE nor 0: the kernel finds the mode bad, ignores that, and leaves the alternate stack
/// as it is (`restore_altstack`: "squash all but EFAULT").
const KEEP_ALTERNATE_STACK: i32 = 4;
impl SignalFrame {
    pub(super) const fn new() -> Self {
        SignalFrame {
            return_address: 0,
            flags: UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            link: 0,
            alternate_stack: AlternateStack { start: 0, mode: KEEP_ALTERNATE_STACK, size: 0 },
            machine: MachineContext {
                gpr: [0; 16],
                pc: 0,
                flags: Flags::FIXED,
                cs: USER_CS,
                gs: 0,
                fs: 0,
                ss: USER_SS,
                error: 0,
                trap: 0,
                old_mask: 0,
                fault_address: 0,
                vector_state: 0,
                reserved: [0; 8],
            },
            signal_mask: 0,
        }
    }

    /// Makes `rt_sigreturn` load this state.
    pub(super) fn set(&mut self, state: &ThreadState, vector: &mut VectorFrame) {
        for (slot, register) in self.machine.gpr.iter_mut().zip(FRAME_ORDER) {
            *slot = state.registers.get(register);
        }
        self.machine.pc = state.registers.pc;
        self.machine.flags = state.registers.flags.sanitised().0;
        self.machine.vector_state = vector.set(&state.vector) as u64;
    }
}

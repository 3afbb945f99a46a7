//! What can go wrong at a guest instruction, in guest terms.

#[cfg(target_arch = "x86_64")]
mod x86_64;

use crate::GuestAddr;
#[cfg(target_arch = "x86_64")]
pub use x86_64::fault_from_signal;

/// `si_code` of a SIGSYS that Syscall User Dispatch raised.
pub const SYS_USER_DISPATCH: i32 = 2;
/// `si_code` of a SIGSYS that a seccomp filter raised.
pub const SYS_SECCOMP: i32 = 1;

/// Whether the interrupted instruction itself raised this signal, rather than a sender or a timer: what
/// [`IsolationBackend::on_signal`](crate::IsolationBackend::on_signal) takes as `synchronous`. Async-signal-safe.
pub fn is_synchronous(info: &libc::siginfo_t) -> bool {
    match info.si_signo {
        // No other process can send a positive code (rt_sigqueueinfo(2)); the monitor sends none to itself.
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP => info.si_code > 0,
        libc::SIGSYS => matches!(info.si_code, SYS_SECCOMP | SYS_USER_DISPATCH),
        _ => false,
    }
}

/// A fault that a guest instruction raised. The thread's registers are those *before* that instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// What the guest's handler finds in `si_addr`: the data address for memory faults (0 where the hardware does not
    /// tell, as for a non-canonical address), the instruction's for the others.
    pub address: GuestAddr,
}

/// The kinds of fault, each with the signal that Linux raises for it (arch/x86/kernel/traps.c, mm/fault.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Load from memory that is not there or not readable: SIGSEGV.
    Read {
        /// Whether something is mapped there (SEGV_ACCERR) or not (SEGV_MAPERR).
        mapped: bool,
    },
    /// Store to memory that is not there or not writable: SIGSEGV.
    Write {
        /// Whether something is mapped there (SEGV_ACCERR) or not (SEGV_MAPERR).
        mapped: bool,
    },
    /// Fetch of an instruction from memory that is not there or not executable: SIGSEGV.
    Execute {
        /// Whether something is mapped there (SEGV_ACCERR) or not (SEGV_MAPERR).
        mapped: bool,
    },
    /// A general-protection fault (non-canonical address, privileged instruction): SIGSEGV with SI_KERNEL, address 0.
    Protection,
    /// Memory that a mapping promises and its file does not have, or a hardware error: SIGBUS.
    Bus {
        /// The kernel's `si_code`.
        code: i32,
    },
    /// Misaligned access with alignment checks on: SIGBUS, BUS_ADRALN.
    Alignment,
    /// Integer division by zero or overflow, or an unmasked floating-point exception: SIGFPE.
    Arithmetic {
        /// The kernel's `si_code` (FPE_INTDIV, FPE_FLTINV…).
        code: i32,
    },
    /// An instruction that does not exist, is not offered, or that the backend does not know: SIGILL.
    IllegalInstruction,
    /// A breakpoint instruction (int3): SIGTRAP, SI_KERNEL; the program counter is past it.
    Breakpoint,
    /// A completed single step (the trap flag) or int1: SIGTRAP, TRAP_TRACE.
    Step,
}

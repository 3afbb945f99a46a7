//! Where in the gates a signal has found a thread: labels of the assembly.

use super::{
    address, endo_sfi_syscall_answered_end, endo_sfi_syscall_answered_window, endo_sfi_syscall_made,
    endo_sfi_syscall_made_end, endo_sfi_syscall_window, endo_sfi_tail, endo_sfi_tail_end,
};

/// Where a program counter of the host lies among the gates, as far as the signal handler must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the restartable tail of `enter`.
    Tail,
    /// Before a system call that will be made; see the assembly.
    BeforeSyscall,
    /// After a system call that was made.
    AfterSyscall,
    /// After a system call that a fast path answered.
    Answered,
    /// Anywhere else.
    Elsewhere,
}

/// Classifies a host program counter.
pub fn place(pc: u64) -> Place {
    let tail = address(&raw const endo_sfi_tail)..address(&raw const endo_sfi_tail_end);
    let before = address(&raw const endo_sfi_syscall_window)..address(&raw const endo_sfi_syscall_made);
    let after = address(&raw const endo_sfi_syscall_made)..address(&raw const endo_sfi_syscall_made_end);
    let answered = address(&raw const endo_sfi_syscall_answered_window)
        ..address(&raw const endo_sfi_syscall_answered_end);
    match pc {
        _ if tail.contains(&pc) => Place::Tail,
        _ if before.contains(&pc) => Place::BeforeSyscall,
        _ if after.contains(&pc) => Place::AfterSyscall,
        _ if answered.contains(&pc) => Place::Answered,
        _ => Place::Elsewhere,
    }
}

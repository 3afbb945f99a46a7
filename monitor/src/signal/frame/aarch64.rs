//! The aarch64 signal frame. No backend runs aarch64 guests yet, and so none is built: a signal that would need one
//! forces SIGSEGV, as the kernel does when a frame cannot be stored.

use endo_core::{Fault, GuestAddr, IsolationBackend, Registers, ThreadState};

use super::{Delivery, Restored};
use crate::errno::Errno;
use crate::memory::user::UserMemory;
use crate::signal::set::SigSet;

/// What the kernel keeps of a thread's last fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::signal) struct Trap {
    address: u64,
}

impl Trap {
    /// What the kernel reports for this fault.
    pub(in crate::signal) fn of_fault(fault: &Fault, _before: Trap) -> Self {
        Trap { address: fault.address.0 }
    }
}

/// Nothing is computed once and kept.
pub(crate) fn prepare_for_threads() {}

/// Puts a thread that stands after `svc` back onto it.
pub(in crate::signal) fn rewind_syscall(registers: &mut Registers) {
    registers.pc = registers.pc.wrapping_sub(4);
}

/// Puts it there with `restart_syscall` for the call: the kernel knows the rest.
pub(in crate::signal) fn rewind_to_restart(registers: &mut Registers) {
    rewind_syscall(registers);
    registers.x[8] = libc::SYS_restart_syscall as u64;
}

/// The register that a system call's result is in.
pub(in crate::signal) fn result_register(registers: &Registers) -> u64 {
    registers.x[0]
}

/// A frame, ready to be stored.
pub(in crate::signal) struct Frame {
    /// Where it goes: the handler's stack pointer.
    pub(in crate::signal) at: GuestAddr,
}

impl Frame {
    /// Stores it: always EFAULT, see above.
    pub(in crate::signal) fn store<B: IsolationBackend>(
        &self,
        _user: UserMemory<'_, B>,
        _state: &ThreadState,
    ) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
}

/// The frame of a delivery: always EFAULT, see above.
pub(in crate::signal) fn build(_state: &mut ThreadState, _delivery: &Delivery<'_>) -> Result<Frame, Errno> {
    Err(Errno::EFAULT)
}

/// Makes a thread run the handler whose frame has been stored.
pub(in crate::signal) fn enter(state: &mut ThreadState, frame: &Frame, delivery: &Delivery<'_>) {
    state.registers.set_stack_pointer(frame.at.0);
    state.registers.pc = delivery.handler.0;
}

/// Undoes a delivery: always EFAULT, see above.
pub(in crate::signal) fn restore<B: IsolationBackend>(
    _user: UserMemory<'_, B>,
    _state: &mut ThreadState,
    _set_mask: impl FnOnce(SigSet) -> Result<(), Errno>,
) -> Result<Restored, Errno> {
    Err(Errno::EFAULT)
}

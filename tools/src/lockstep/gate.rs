//! The one instruction of this program that a traced child runs for its tracer.

use core::arch::naked_asm;

/// Where a child stands when it is made to call the kernel.
pub(super) const SYSCALL: unsafe extern "C" fn() = syscall;

/// A system call with the registers as they are. Only ever single-stepped.
///
/// # Safety
///
/// Not to be called.
#[unsafe(naked)]
unsafe extern "C" fn syscall() {
    naked_asm!("syscall", "ud2")
}

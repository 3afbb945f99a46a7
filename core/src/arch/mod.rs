//! Thread state, one file an architecture. The files share one outline so that they diff well.
#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{ENTRY_STACK_ALIGNMENT, Registers, VectorState, host_thread_pointer};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{ENTRY_STACK_ALIGNMENT, Flags, Gpr, Registers, VectorState, host_thread_pointer, xsave};

/// All of a guest thread that a context switch must keep.
#[derive(Clone, Debug, Default)]
pub struct ThreadState {
    /// General registers, program counter, flags, thread pointer.
    pub registers: Registers,
    /// Floating-point and vector registers, as the kernel's signal frame lays them out.
    pub vector: VectorState,
}

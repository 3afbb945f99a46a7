//! The null backend: runs guests natively and isolates nothing.
//!
//! It is the benchmarks' baseline, the way to test the monitor without a translator, and the backend that the
//! conformance suite must *fail* wherever isolation is concerned. System calls are captured by Syscall User Dispatch, so
//! an honest guest never reaches the kernel; one that sets out to can. It exists on x86-64, and elsewhere says why not.

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{NoDispatch, NullBackend};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{NullBackend, NullThread};

//! The contract between Endo's monitor and whatever protects memory for it.
//!
//! Two traits meet here. An [`IsolationBackend`] knows *how* a guest is confined and run: it owns instructions,
//! pages and gates, and never learns what a system call means. A [`SyscallMonitor`] decides *what* may happen: it
//! sees calls, faults and births, and never learns an instruction. The types they exchange are in the modules below;
//! [`conformance`] is the suite of tests that every backend must pass, and [`NullBackend`] the one that must not.

pub mod absent;
pub mod addr;
pub mod arch;
pub mod backend;
#[cfg(not(miri))]
pub mod conformance;
pub mod copy;
pub mod fault;
#[cfg(target_arch = "x86_64")]
pub mod native;
pub mod null;
pub mod probe;
pub mod signal_stack;
pub mod syscall;

pub use addr::{GuestAddr, GuestRange, HostAddr, HostRange, PAGE_SIZE};
pub use arch::{Registers, ThreadState, VectorState};
pub use backend::{
    BackendConfig, BackendError, COPY_BYTES, CodeOrigin, CodeSource, DomainId, Exit, FastEntry, FastKind,
    IsolationBackend, Rights, SignalRoute, Statistic, StoreConfig, StoreKey, VerifyMode, WatchedHull,
};
pub use fault::{Fault, FaultKind};
pub use null::NullBackend;
pub use probe::{Against, Confinement, Properties, Unavailable};
pub use signal_stack::{SignalHandler, SignalStack, SignalStackId, SpareSignalStack};
pub use syscall::{SyscallMonitor, SyscallNumber, SyscallRequest, Verdict};

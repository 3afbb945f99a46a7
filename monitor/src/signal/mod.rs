//! The guest's signals.
//!
//! The kernel holds what a guest blocks, and does what a guest leaves to the default; the monitor's handler ([`host`])
//! takes the rest from it, one at a time. [`deliver`] turns a fault or a signal taken into a handler's frame ([`frame`])
//! or the end of the process. [`actions`] is what a process does about signals, [`state`] what a thread has of its
//! own. [`calls`] are the system calls, `same` one that needs nothing done, [`blocking`] how a call that may block never
//! sleeps through a signal.

pub mod actions;
pub mod altstack;
pub mod blocking;
pub mod calls;
mod deliver;
mod frame;
pub mod host;
pub mod info;
mod kernel;
pub(crate) mod line;
mod queue;
pub(crate) mod same;
pub mod set;
pub mod state;

pub use actions::{Action, Disposition, SignalActions};
pub use blocking::{RESTART, blocking_syscall};
pub use deliver::{deliver_pending, finish_syscall, raise_fault};
pub(crate) use frame::prepare_for_threads;
pub use host::install;
pub(crate) use host::keep_actions;
pub use info::SigInfo;
pub use set::{SigSet, Signal};
pub use state::ThreadSignals;

//! The Endo monitor: loads a program, runs it on an isolation backend, and answers everything it asks of the kernel.
//!
//! A guest thread lives in [`thread::Thread`], what its threads share in [`process::Process`]. [`process::run`] is the loop that
//! runs a thread until it needs something and then hands the matter to [`syscall`] (calls) or [`signal`] (faults and
//! signals). [`loader`] puts a program into [`memory`], [`launch`] does it for the first one. [`persist`] is what outlives a process. [`backends`] is the only module that knows several backends.

pub mod backends;
pub mod cli;
pub mod errno;
pub mod fast;
pub mod launch;
pub mod loader;
pub mod memory;
pub mod persist;
pub mod process;
pub mod signal;
pub mod syscall;
pub mod thread;

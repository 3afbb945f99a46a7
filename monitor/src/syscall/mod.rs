//! The guest's system calls.

pub mod raw;
pub mod table;

use endo_core::{IsolationBackend, SyscallMonitor};

use crate::thread::Thread;

/// Carries out the call that the thread stands after, and puts the result into its registers.
pub fn handle<B: IsolationBackend, M: SyscallMonitor>(_thread: &mut Thread<'_, B, M>) {}

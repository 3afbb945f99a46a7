//! The guest's signals.

use endo_core::{Fault, IsolationBackend, SyscallMonitor};

use crate::thread::Thread;

/// What a process does about each signal.
#[derive(Debug, Default)]
pub struct SignalActions {}

/// A thread's mask, alternate stack and pending signals.
#[derive(Debug, Default)]
pub struct ThreadSignals {}

/// Turns a fault into the signal that the kernel would raise for it.
pub fn raise_fault<B: IsolationBackend, M: SyscallMonitor>(_thread: &mut Thread<'_, B, M>, _fault: Fault) {}

/// Delivers what is pending and not blocked: a handler's frame, or the default action.
pub fn deliver_pending<B: IsolationBackend, M: SyscallMonitor>(_thread: &mut Thread<'_, B, M>) {}

//! A guest thread.

use endo_core::{IsolationBackend, Registers};

use crate::process::{Ending, Process};
use crate::signal::ThreadSignals;

/// A guest thread, owned by the host thread that runs it.
pub struct Thread<'p, B: IsolationBackend, M> {
    /// The process it belongs to.
    pub process: &'p Process<B, M>,
    /// Its registers, and whatever the backend needs to run it.
    pub guest: B::Thread,
    /// Its signal mask, alternate stack and pending signals.
    pub signals: ThreadSignals,
    /// Set when the process is to end.
    pub ending: Option<Ending>,
}

impl<B: IsolationBackend, M> Thread<'_, B, M> {
    /// The general registers.
    pub fn registers(&self) -> &Registers {
        &self.process.backend.state(&self.guest).registers
    }

    /// The general registers, to be changed.
    pub fn registers_mut(&mut self) -> &mut Registers {
        &mut self.process.backend.state_mut(&mut self.guest).registers
    }
}

//! A guest thread.

use endo_core::{GuestAddr, IsolationBackend, Registers};

use crate::process::{Ending, ExecInFlight, Process, RobustList};
use crate::signal::{SigSet, ThreadSignals};

/// A guest thread, owned by the host thread that runs it.
pub struct Thread<'p, B: IsolationBackend, M> {
    /// The process it belongs to.
    pub process: &'p Process<B, M>,
    /// Its registers, and whatever the backend needs to run it.
    pub guest: B::Thread,
    /// Its signal mask, alternate stack and pending signals.
    pub signals: ThreadSignals,
    /// The word that becomes zero when the thread ends, if it shares its memory (`set_tid_address`).
    pub clear_child_tid: GuestAddr,
    /// The locks that others must learn of if the thread ends with them held.
    pub robust_list: RobustList,
    /// What an exec that has not failed yet needs. A child of `vfork` leaves it to its parent to free.
    pub exec_in_flight: Option<Box<ExecInFlight>>,
    /// Set when the process is to end.
    pub ending: Option<Ending>,
}

impl<'p, B: IsolationBackend, M> Thread<'p, B, M> {
    /// The first thread of a process.
    pub fn first(process: &'p Process<B, M>, guest: B::Thread, mask: SigSet) -> Self {
        let signals = ThreadSignals::starting_with(mask);
        Thread {
            process,
            guest,
            signals,
            clear_child_tid: GuestAddr(0),
            robust_list: RobustList::NONE,
            exec_in_flight: None,
            ending: None,
        }
    }

    /// The general registers.
    pub fn registers(&self) -> &Registers {
        &self.process.backend.state(&self.guest).registers
    }

    /// The general registers, to be changed.
    pub fn registers_mut(&mut self) -> &mut Registers {
        &mut self.process.backend.state_mut(&mut self.guest).registers
    }
}

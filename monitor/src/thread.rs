//! A guest thread.

use std::sync::{Arc, Mutex, MutexGuard};

use endo_core::{GuestAddr, IsolationBackend, Registers};

use crate::process::{Ending, ExecInFlight, Process, SharedState};
use crate::signal::{SigSet, SignalActions, ThreadSignals};

/// A guest thread, owned by the host thread that runs it.
pub struct Thread<'p, B: IsolationBackend, M: 'static> {
    /// The process it belongs to.
    pub process: &'p Process<B, M>,
    /// Its registers, and whatever the backend needs to run it.
    pub guest: B::Thread,
    /// Its signal mask, alternate stack and pending signals.
    pub signals: ThreadSignals,
    /// What other threads may ask about it.
    pub shared: Arc<SharedState>,
    /// The word that becomes zero when the thread ends, if it shares its memory (`set_tid_address`).
    pub clear_child_tid: GuestAddr,
    /// Set while a child of `vfork` runs it.
    pub borrowed: Option<Borrowed>,
    /// What an exec that has not failed yet needs. A child of `vfork` leaves it to its parent to free.
    pub exec_in_flight: Option<Box<ExecInFlight>>,
    /// Set when the thread, or the process, is to end.
    pub ending: Option<Ending>,
}

/// What a child of `vfork` has of its own while it runs its parent's thread in its parent's memory.
#[derive(Debug)]
pub struct Borrowed {
    /// What it does about signals, unless it shares that too (`CLONE_SIGHAND`).
    pub actions: Option<Mutex<SignalActions>>,
}

impl<'p, B: IsolationBackend, M> Thread<'p, B, M> {
    /// A thread with this signal mask, which the host's mask follows.
    pub fn new(process: &'p Process<B, M>, guest: B::Thread, mask: SigSet, shared: Arc<SharedState>) -> Self {
        let signals = ThreadSignals::starting_with(mask);
        Thread {
            process,
            guest,
            signals,
            shared,
            clear_child_tid: GuestAddr(0),
            borrowed: None,
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

    /// What the thread's process does about signals, locked.
    pub fn actions(&self) -> MutexGuard<'_, SignalActions> {
        match &self.borrowed {
            Some(Borrowed { actions: Some(own) }) => {
                own.lock().expect("no thread panics with the signal actions locked")
            }
            _ => self.process.signals(),
        }
    }
}

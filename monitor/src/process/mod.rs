//! What the threads of a guest share, and the loop that runs each of them.

use std::ffi::CString;
use std::sync::Mutex;

use endo_core::{Exit, IsolationBackend, SyscallMonitor};

use crate::memory::MemoryMap;
use crate::signal::SignalActions;
use crate::thread::Thread;

/// A guest process.
#[derive(Debug)]
pub struct Process<B, M> {
    /// How the guest is confined.
    pub backend: B,
    /// Who decides what it may do.
    pub monitor: M,
    /// Its address space.
    pub memory: Mutex<MemoryMap>,
    /// What it does about signals.
    pub signals: Mutex<SignalActions>,
    /// Which program it is.
    pub image: Mutex<Image>,
}

/// What a process is running, for /proc and exec.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Absolute path of the program (`/proc/self/exe`), symbolic links resolved.
    pub executable: CString,
    /// What `/proc/self/cmdline` shows.
    pub arguments: Vec<CString>,
    /// `/proc/self/auxv`.
    pub auxiliary_vector: Vec<u8>,
}

/// How a guest process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// `exit_group` with this status.
    Exited(i32),
    /// A signal's default action.
    Killed(i32),
}

/// Runs a thread until its process ends.
pub fn run<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>) -> Ending {
    loop {
        match thread.process.backend.run(&mut thread.guest) {
            Exit::Syscall => crate::syscall::handle(thread),
            Exit::Fault(fault) => crate::signal::raise_fault(thread, fault),
            Exit::Interrupted => {}
        }
        crate::signal::deliver_pending(thread);
        if let Some(ending) = thread.ending {
            return ending;
        }
    }
}

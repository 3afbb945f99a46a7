//! What the threads of a guest share, and the loop that runs each of them.
//!
//! [`clone`] makes new processes, [`vfork`] those that borrow their parent's memory. [`exec`] decides whether another
//! program may run and hands over to a new endo, which picks up the [`handover`]. [`calls`] are the system
//! calls, [`ending`] is the end.

pub mod calls;
mod clone;
mod ending;
mod exec;
pub mod handover;
mod robust;
mod vfork;

use std::ffi::CString;
use std::sync::{Mutex, MutexGuard};

use endo_core::{BackendError, DomainId, Exit, IsolationBackend, SyscallMonitor};

use crate::memory::MemoryMap;
use crate::signal::SignalActions;
use crate::thread::Thread;
pub use ending::Ending;
pub use exec::ExecInFlight;
pub use handover::{Handover, Launch, Legacy};
pub use robust::RobustList;

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
    /// How endo was started, for the endo that an exec starts.
    pub launch: Launch,
}

impl<B: IsolationBackend, M> Process<B, M> {
    /// A process without a program yet.
    pub fn new(backend: B, monitor: M, launch: Launch) -> Result<Self, BackendError> {
        let window = backend.window(DomainId::MAIN)?;
        Ok(Process {
            backend,
            monitor,
            memory: Mutex::new(MemoryMap::new(window)),
            signals: Mutex::default(),
            image: Mutex::default(),
            launch,
        })
    }
}

impl<B, M> Process<B, M> {
    /// The address space, locked.
    pub fn memory(&self) -> MutexGuard<'_, MemoryMap> {
        self.memory.lock().expect("no thread panics with the memory map locked")
    }

    /// What the process does about signals, locked.
    pub fn signals(&self) -> MutexGuard<'_, SignalActions> {
        self.signals.lock().expect("no thread panics with the signal actions locked")
    }

    /// Which program it is, locked.
    pub fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().expect("no thread panics with the image locked")
    }
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
            thread.robust_list.abandon(thread.user());
            return ending;
        }
    }
}

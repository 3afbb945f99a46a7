//! What the threads of a guest share, and the loop that runs each of them.
//!
//! [`clone`] makes new processes, [`vfork`] those that borrow their parent's memory, [`birth`] new threads. [`exec`] decides
//! whether another program may run and hands over to a new endo, which picks up the [`handover`]. [`calls`] are the system
//! calls, [`ending`] is the end of a thread and of the process, [`threads`] the list of those that live.
//!
//! # Locks
//!
//! Who holds several takes them in this order, which [`locks`] follows: memory map, signal actions, image, list of threads,
//! and last whatever the backend locks for itself. Nothing that may block for long is done with any of them held: no
//! call of the guest's that waits, no file's data. A fork holds all of them, so that its child finds everything in order.

mod birth;
pub mod calls;
mod clone;
mod ending;
mod exec;
pub mod handover;
mod locks;
mod robust;
mod threads;
mod vfork;

use std::ffi::CString;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, OnceLock};

use endo_core::{BackendError, DomainId, Exit, IsolationBackend, Statistic, SyscallMonitor};

use crate::loader::Layout;
use crate::memory::MemoryMap;
use crate::signal::SignalActions;
use crate::thread::Thread;
pub use ending::{Ending, leave};
pub use exec::ExecInFlight;
pub use handover::{Handover, Launch, Legacy};
pub use robust::RobustList;
pub use threads::{SharedState, Threads};

/// A guest process.
#[derive(Debug)]
pub struct Process<B: 'static, M: 'static> {
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
    /// The threads that run it.
    pub threads: Threads,
    /// How endo was started, for the endo that an exec starts.
    pub launch: Launch,
    /// Who wants to know of its end.
    report: Option<Report>,
    /// Its end has begun.
    is_ending: AtomicBool,
    /// The process itself, once it is there for good: new threads need it for as long as they live.
    lasting: OnceLock<&'static Process<B, M>>,
}

/// Told the backend's figures when a process ends.
pub struct Report(pub Box<dyn Fn(Vec<Statistic>) + Send + Sync>);

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
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
            threads: Threads::default(),
            launch,
            report: None,
            is_ending: AtomicBool::new(false),
            lasting: OnceLock::new(),
        })
    }
}

impl<B, M> Process<B, M> {
    /// Has the backend's figures told to `report` when the process ends.
    #[must_use]
    pub fn reporting_to(self, report: Option<Report>) -> Self {
        Process { report, ..self }
    }

    /// Keeps the process for as long as there is one: its threads and the signal handlers reach it. Only then can the
    /// guest have more than one thread.
    pub fn leak(self) -> &'static Self {
        let process: &'static Self = Box::leak(Box::new(self));
        process.lasting.get_or_init(|| process)
    }

    /// The process, if it is there for good.
    fn lasting(&self) -> Option<&'static Self> {
        self.lasting.get().copied()
    }

    /// The address space, locked.
    pub fn memory(&self) -> MutexGuard<'_, MemoryMap> {
        self.memory.lock().expect("no thread panics with the memory map locked")
    }

    /// What the process does about signals, locked. A thread asks [`Thread::actions`], which knows whose they are.
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
    /// Where its parts lie.
    pub layout: Layout,
    /// `/proc/self/auxv`.
    pub auxiliary_vector: Vec<u8>,
}

/// Runs a thread until it or its process ends. What remains to be done is [`leave`]'s.
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

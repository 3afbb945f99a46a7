//! From a program to a running guest: the backend, the process, its first thread.
#![deny(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::sync::Mutex;

use endo_core::{BackendConfig, BackendError, DomainId, IsolationBackend, Statistic, SyscallMonitor};

use crate::backends::ChoiceError;
use crate::loader::{self, LoadError, Program};
use crate::memory::MemoryMap;
use crate::process::{self, Ending, Process};
use crate::thread::Thread;

/// What is to be run.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    /// The program, found and fit to run.
    pub program: &'a Program,
    /// Its arguments, `argv[0]` first.
    pub arguments: &'a [&'a CStr],
    /// Its environment.
    pub environment: &'a [&'a CStr],
    /// Called with the backend's figures once the guest has ended, if wanted.
    pub report_statistics: Option<&'a dyn Fn(Vec<Statistic>)>,
}

/// Why a guest did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program's fault, or that of the files it needs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The backend that was asked for does not work here.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The backend works here, but not now.
    #[error("the backend cannot start: {0}")]
    Backend(#[from] BackendError),
    /// The host refused something.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was wanted, as an infinitive.
        what: &'static str,
        /// The host's answer.
        source: io::Error,
    },
}

/// Runs a guest on backend `B` until it ends. Once a process: what signal handlers need stays for good.
pub fn run<B: IsolationBackend, M: SyscallMonitor>(
    config: BackendConfig,
    monitor: M,
    guest: &Guest<'_>,
) -> Result<Ending, LaunchError> {
    let backend = B::new(config)?;
    let window = backend.window(DomainId::MAIN)?;
    // Signal handlers reach it, so it stays for as long as the process does.
    let process = Box::leak(Box::new(Process {
        backend,
        monitor,
        memory: Mutex::new(MemoryMap::new(window)),
        signals: Mutex::default(),
        image: Mutex::default(),
    }));
    let start = loader::load(process, guest.program, guest.arguments, guest.environment)?;
    let state = process.backend.create_thread(DomainId::MAIN, start.thread_state())?;
    let mut thread = Thread { process, guest: state, signals: Default::default(), ending: None };
    process.monitor.thread_started();
    let ending = process::run(&mut thread);
    process.monitor.thread_exited();
    if let Some(report) = guest.report_statistics {
        report(process.backend.statistics());
    }
    Ok(ending)
}

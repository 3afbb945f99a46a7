//! From a program to a running guest: the backend, the process, its first thread.
#![deny(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use endo_core::{BackendConfig, BackendError, DomainId, IsolationBackend, SyscallMonitor};

use crate::backends::ChoiceError;
use crate::fast;
use crate::loader::{self, LoadError, Program};
use crate::memory::{Scatter, dump, limits};
use crate::process::{self, Ending, Launch, Legacy, Process, Report, SharedState};
use crate::signal;
use crate::syscall::{hidden, trace};
use crate::thread::Thread;

/// What is to be run.
pub struct Guest<'a> {
    /// The program, found and fit to run. Its files are closed once it is in memory.
    pub program: Program,
    /// Its arguments, `argv[0]` first.
    pub arguments: &'a [&'a CStr],
    /// Its environment.
    pub environment: &'a [&'a CStr],
    /// What it keeps across the exec that this process goes on after.
    pub legacy: Option<Legacy>,
    /// The options of the command line, in the form in which [`process::Handover`] is to bring them to the endo of an exec.
    pub options: &'a [u8],
    /// Where code from files goes.
    pub scatter: Scatter,
    /// Told the backend's figures once the guest has ended, if wanted.
    pub report: Option<Report>,
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

/// Runs a guest on backend `B` until it ends. Once a process: what signal handlers need stays for good. It does not return
/// where another of the guest's threads ends the process, or where the guest's first thread ends before others.
pub fn run<B: IsolationBackend, M: SyscallMonitor>(
    config: BackendConfig,
    monitor: M,
    guest: Guest<'_>,
) -> Result<Ending, LaunchError> {
    let fast_paths = fast::paths(|number| trace::is_on() || monitor.observes(number));
    let inherited = limits::lift_host_limits();
    let backend = B::new(BackendConfig { fast_paths, watched: Some(fast::watched()), ..config })?;
    let host = |what| move |source| LaunchError::Host { what, source };
    let launch = Launch::new(guest.options.to_vec()).map_err(host("open endo's own file"))?;
    let process = Process::new(backend, monitor, launch)?.reporting_to(guest.report).leak();
    let mask = guest.legacy.map_or_else(signal::host::inherited_mask, |legacy| legacy.mask);
    signal::install(&process.backend).map_err(host("install signal handlers"))?;
    if let Some(legacy) = guest.legacy {
        signal::host::inherit_ignored(legacy.ignored);
    }
    let of_window = *process.memory().limits();
    let limits = guest.legacy.map_or_else(|| of_window.lowered_to(inherited), |legacy| legacy.limits);
    *process.memory().limits_mut() = limits;
    process.memory().place_code_by(loader::placement(guest.scatter));
    let start = loader::load(process, &guest.program, guest.arguments, guest.environment)?;
    // Without it others see endo in this process's `exe`; nothing depends on it.
    let _ = hidden::keep_program(guest.program.main.file.as_fd());
    drop(guest.program);
    let state = process.backend.create_thread(DomainId::MAIN, start.thread_state())?;
    let shared = Arc::new(SharedState::default());
    process.threads.add(signal::host::thread_id(), Arc::clone(&shared));
    let mut thread = Thread::new(process, state, mask, shared);
    process.monitor.thread_started();
    dump::leave_monitor_out(process.memory().window());
    let ending = process::run(&mut thread);
    match process::leave(thread, ending) {
        Some(ending) => Ok(ending),
        None => unreachable!("the first thread's host thread ends with it"),
    }
}

//! The backends that exist, and the one place where `--backend` becomes a type.
//!
//! Everything else is generic over [`IsolationBackend`], so a guest's path through the monitor holds no virtual call.
#![deny(unsafe_code)]

use endo_aarch64::{MteBackend, PoeBackend};
use endo_core::{
    BackendConfig, BackendError, IsolationBackend, NullBackend, Properties, SyscallMonitor, Unavailable,
};
use endo_mpk::MpkBackend;

use crate::launch::{self, Guest, LaunchError};
use crate::process::Ending;

/// What `--backend` can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum BackendChoice {
    /// The first of those below, but for null, that works on this machine.
    #[default]
    Auto,
    /// Software fault isolation by binary translation, on x86-64.
    Sfi,
    /// Protection keys, on x86-64.
    Mpk,
    /// Permission overlays, on aarch64.
    Poe,
    /// Memory tagging, on aarch64.
    Mte,
    /// None: the program runs natively, its system calls are monitored. For tests and measurements.
    Null,
}

/// What a backend says about this machine.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which one.
    pub choice: BackendChoice,
    /// The name that `--backend` takes.
    pub name: &'static str,
    /// What it promises here, or why it cannot be used.
    pub outcome: Result<Properties, Unavailable>,
}

/// A backend cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The one that was asked for.
    #[error("backend {name} cannot be used here: {reasons}")]
    Unavailable {
        /// Its name.
        name: &'static str,
        /// Why.
        reasons: Unavailable,
    },
    /// None of those that isolate.
    #[error("no backend can be used here: {0}")]
    None(String),
}

/// The backends in the order in which `auto` tries them; null comes last, and `auto` never takes it.
pub fn probe_all() -> Vec<Report> {
    let report = |choice, name, outcome| Report { choice, name, outcome };
    vec![
        report(BackendChoice::Sfi, "sfi", probe_sfi()),
        report(BackendChoice::Mpk, MpkBackend::NAME, MpkBackend::probe()),
        report(BackendChoice::Poe, PoeBackend::NAME, PoeBackend::probe()),
        report(BackendChoice::Mte, MteBackend::NAME, MteBackend::probe()),
        report(BackendChoice::Null, NullBackend::NAME, NullBackend::probe()),
    ]
}

/// What `auto` takes.
pub fn pick(reports: &[Report]) -> Option<&Report> {
    reports.iter().find(|report| report.choice != BackendChoice::Null && report.outcome.is_ok())
}

/// Runs a guest on the chosen backend until it ends.
pub fn run<M: SyscallMonitor>(
    choice: BackendChoice,
    config: BackendConfig,
    monitor: M,
    guest: Guest<'_>,
) -> Result<Ending, LaunchError> {
    match choice {
        BackendChoice::Auto if probe_sfi().is_ok() => run(BackendChoice::Sfi, config, monitor, guest),
        BackendChoice::Auto => {
            let reports = probe_all();
            match pick(&reports) {
                Some(report) => run(report.choice, config, monitor, guest),
                None => Err(none_usable(&reports).into()),
            }
        }
        #[cfg(target_arch = "x86_64")]
        BackendChoice::Sfi => {
            launch::run::<endo_sfi::SfiBackend, M>(config, monitor, guest).map_err(name_backend("sfi"))
        }
        #[cfg(not(target_arch = "x86_64"))]
        BackendChoice::Sfi => Err(refusal("sfi", probe_sfi())),
        BackendChoice::Null => {
            launch::run::<NullBackend, M>(config, monitor, guest).map_err(name_backend("null"))
        }
        #[cfg(target_arch = "x86_64")]
        BackendChoice::Mpk => {
            launch::run::<MpkBackend, M>(config, monitor, guest).map_err(name_backend(MpkBackend::NAME))
        }
        #[cfg(not(target_arch = "x86_64"))]
        BackendChoice::Mpk => Err(refusal(MpkBackend::NAME, MpkBackend::probe())),
        BackendChoice::Poe => Err(refusal(PoeBackend::NAME, PoeBackend::probe())),
        BackendChoice::Mte => Err(refusal(MteBackend::NAME, MteBackend::probe())),
    }
}

/// Forks the process by other means than the C library's, with the locks of the allocator held, which comes with a backend.
#[cfg(target_arch = "x86_64")]
pub(crate) fn with_heap_held<T>(fork: impl FnOnce() -> T) -> T {
    endo_sfi::heap::held(fork)
}

/// Forks the process by other means than the C library's: here the allocator is the C library's own.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn with_heap_held<T>(fork: impl FnOnce() -> T) -> T {
    fork()
}

#[cfg(target_arch = "x86_64")]
fn probe_sfi() -> Result<Properties, Unavailable> {
    endo_sfi::SfiBackend::probe()
}

#[cfg(not(target_arch = "x86_64"))]
fn probe_sfi() -> Result<Properties, Unavailable> {
    let architecture = std::env::consts::ARCH;
    Err(Unavailable::because(format!("it translates x86-64 code only so far, this is {architecture}")))
}

fn none_usable(reports: &[Report]) -> ChoiceError {
    let reasons = reports.iter().filter(|report| report.choice != BackendChoice::Null).filter_map(|report| {
        report.outcome.as_ref().err().map(|reasons| format!("{}: {reasons}", report.name))
    });
    ChoiceError::None(reasons.collect::<Vec<_>>().join("; "))
}

/// The error of a backend that has no type yet: its probe never succeeds.
fn refusal(name: &'static str, outcome: Result<Properties, Unavailable>) -> LaunchError {
    let reasons = outcome.err().unwrap_or_else(|| Unavailable::because("it has no implementation"));
    ChoiceError::Unavailable { name, reasons }.into()
}

/// Tells which backend it was that is not available.
fn name_backend(name: &'static str) -> impl Fn(LaunchError) -> LaunchError {
    move |error| match error {
        LaunchError::Backend(BackendError::Unavailable(reasons)) => {
            ChoiceError::Unavailable { name, reasons }.into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_never_picks_the_backend_that_isolates_nothing() {
        let reports = probe_all();
        assert!(pick(&reports).is_none_or(|report| report.choice != BackendChoice::Null));
    }

    #[test]
    fn names_are_those_that_the_command_line_takes() {
        use clap::ValueEnum;
        for report in probe_all() {
            assert_eq!(BackendChoice::from_str(report.name, false), Ok(report.choice));
        }
    }
}

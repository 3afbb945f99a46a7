//! Where Endo's own text goes while a guest runs: the trace, figures, remarks.
#![deny(unsafe_code)]

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use endo_core::Statistic;
use endo_core::syscall::CountingMonitor;

use super::Failure;
use crate::errno::Errno;
use crate::loader::error::strerror;
use crate::persist::Off;
use crate::syscall::table::Call;
use crate::syscall::{hidden, trace};

/// What the endo before an exec hands to the one after it: a descriptor, and the process that was started first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inherited {
    /// The log.
    pub fd: RawFd,
    /// Whose trace lines carry no process number.
    pub first: u32,
}

impl FromStr for Inherited {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (fd, first) = text.split_once(',').ok_or("not two numbers with a comma")?;
        let number = "not a number";
        Ok(Inherited { fd: fd.parse().map_err(|_| number)?, first: first.parse().map_err(|_| number)? })
    }
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.fd, self.first)
    }
}

/// What an exec's endo goes on with, if there is a log.
pub(super) fn to_hand_over() -> Option<Inherited> {
    trace::to_hand_over().map(|(fd, first)| Inherited { fd, first })
}

/// Opens the log, where guests cannot reach it. Without a file it is standard error as it is now, whatever the guest
/// does to its own.
pub(super) fn open(file: Option<&Path>) -> Result<(), Failure> {
    let subject = file.map_or_else(|| "standard error".to_owned(), |file| file.display().to_string());
    let fail = |error: io::Error| {
        let words = strerror(Errno(error.raw_os_error().unwrap_or(libc::EIO)));
        Failure::new(format!("cannot open the log: {words}")).about(subject.clone())
    };
    let opened = match file {
        Some(file) => OwnedFd::from(File::create(file).map_err(fail)?),
        None => io::stderr().as_fd().try_clone_to_owned().map_err(fail)?,
    };
    keep(opened).map_err(fail)
}

/// Goes on with the log of the endo before this one.
pub(super) fn resume(inherited: Inherited) -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::new(format!("cannot go on with the log: {error}"));
    let path = format!("/proc/self/fd/{}", inherited.fd);
    let opened = hidden::adopt(inherited.fd).ok_or_else(|| fail(io::ErrorKind::NotFound.into()));
    keep(opened.map_err(|failure| failure.about(path))?).map_err(fail)
}

fn keep(log: OwnedFd) -> io::Result<()> {
    trace::set_sink(hidden::hide(log).map_err(|Errno(number)| io::Error::from_raw_os_error(number))?);
    Ok(())
}

/// Prints the figures of `--stats`: system calls, most frequent first, then the backend's, and why no translations are kept
/// if none are.
pub(super) fn report(calls: &Arc<CountingMonitor>, figures: &[Statistic], store: Option<&Off>) {
    let mut text = String::from("system calls:\n");
    let mut counts = calls.counts();
    counts.sort_by_key(|&(number, count)| (std::cmp::Reverse(count), number));
    let total: u64 = counts.iter().map(|&(_, count)| count).sum();
    for (number, count) in counts {
        let name = Call::from_number(number.0).map_or_else(
            || {
                if number.0 as usize == CountingMonitor::NUMBERS {
                    "others".to_owned()
                } else {
                    format!("{:#x}", number.0)
                }
            },
            |call| call.row().name.to_owned(),
        );
        let _ = writeln!(text, "{count:>12} {name}");
    }
    let _ = writeln!(text, "{total:>12} in all");
    if !figures.is_empty() {
        text.push_str("backend:\n");
    }
    for figure in figures {
        let _ = writeln!(text, "{:>12} {} {}", figure.value, figure.unit, figure.name);
    }
    if let Some(off) = store {
        let _ = writeln!(text, "translations are not kept: {off}");
    }
    trace::write(&text);
}

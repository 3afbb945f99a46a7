//! The `endo` command line: one file a subcommand, and how each of them ends.
#![deny(unsafe_code)]

pub mod completions;
pub mod doctor;
pub mod exit;
pub mod failure;
mod log;
pub mod man;
pub mod run;
mod usage;

use std::ffi::{CStr, OsString};
use std::io::Write;

use clap::{Parser, Subcommand};

pub use failure::Failure;

use crate::process::Handover;

/// Runs unmodified Linux programs confined, with every system call monitored.
///
/// The exit status of `endo run` is the program's own, and a signal that ends the program ends endo too. 125: endo
/// failed. 126: the program cannot be executed. 127: it, or an interpreter it needs, was not found.
#[derive(Debug, Parser)]
#[command(name = "endo", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a program.
    Run(run::RunOptions),
    /// Says what this machine supports, what not and why.
    Doctor(doctor::DoctorOptions),
    /// Prints a script that completes endo's command lines.
    Completions(completions::CompletionsOptions),
    /// Prints the manual page, in roff.
    Man,
    /// Prints the version.
    Version,
}

/// What `main` does: runs a command line, and says with which status to exit. A message of failure has been printed.
pub fn main(arguments: Vec<OsString>, environment: &[&CStr]) -> i32 {
    match Handover::receive() {
        Ok(None) => {}
        Ok(Some(handover)) => return run::resume(&handover),
        Err(error) => {
            eprintln!("endo: cannot take over from the program before: {error}");
            return exit::FAILURE;
        }
    }
    let outcome = match Cli::try_parse_from(arguments) {
        Ok(cli) => execute(cli.command, environment),
        Err(error) => usage::explain(&error),
    };
    outcome.unwrap_or_else(|failure| {
        // One call, so that lines of several processes do not mix. Without standard error there is nobody to tell.
        let _ = std::io::stderr().write_all(format!("{failure}\n").as_bytes());
        failure.status
    })
}

fn execute(command: Command, environment: &[&CStr]) -> Result<i32, Failure> {
    match command {
        Command::Run(options) => run::execute(&options, environment),
        Command::Doctor(options) => doctor::execute(&options),
        Command::Completions(options) => completions::execute(&options),
        Command::Man => man::execute(),
        Command::Version => print(&format!("endo {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// Prints what a command was asked for. That nobody reads it to its end is no failure.
fn print(text: &str) -> Result<i32, Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(0),
    }
}

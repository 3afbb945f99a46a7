//! The developer's commands: `cargo xtask ci` is what the integration server runs, the others are its parts and helpers.
//!
//! One module a command. [`tree`] lists the files of the checkout, [`source`] tells Rust code from comments and
//! strings.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bless;
mod check_aarch64;
mod ci;
mod deny;
mod packages;
mod source;
mod tidy;
mod tree;
mod vm;

/// The developer's commands of Endo.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check and test, as the integration server does.
    Ci(ci::Arguments),
    /// Check the rules of the house that the compiler does not know.
    Tidy(tidy::Arguments),
    /// Rewrite generated documents and expected outputs from what the code does now.
    Bless(bless::Arguments),
    /// Check licences, bans and sources of the dependencies.
    Deny,
    /// Type-check for aarch64 what must not assume x86.
    CheckAarch64,
    /// Install the Debian packages that the tests run or need.
    Packages,
    /// Run commands or tests in an emulated machine with protection keys.
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {}", reasons(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with all its causes, on one line if none has more.
fn reasons(error: &anyhow::Error) -> String {
    let reasons: Vec<String> = error.chain().map(ToString::to_string).collect();
    reasons.join(": ")
}

/// Carries a command out; the result is the status to exit with.
fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Ci(arguments) => ci::run(&arguments)?,
        Command::Tidy(arguments) => tidy::run(&arguments)?,
        Command::Bless(arguments) => bless::run(&arguments)?,
        Command::Deny => deny::run()?,
        Command::CheckAarch64 => check_aarch64::run()?,
        Command::Packages => packages::run()?,
        Command::Vm(arguments) => return vm::run(&arguments),
    }
    Ok(0)
}

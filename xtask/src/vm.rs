//! `cargo xtask vm`: an emulated machine whose processor has what this one lacks, with protection keys before all.
//!
//! [`emulator`] gets QEMU and a kernel from Debian, once; [`image`] puts the machine's files together, out of what
//! [`built`] builds and of programs of this machine; [`machine`] starts it and follows what it does; [`guest`] is what
//! runs inside. [`suites`] is the table of tests that must pass there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::tree;

mod apt;
mod built;
mod emulator;
mod files;
mod guest;
mod image;
mod libraries;
mod machine;
mod newc;
mod suites;
mod wire;

use emulator::Emulator;
use files::Files;
use guest::Order;
use machine::{Ending, Event, Hardware};

/// What `timeout` exits with when the time is up.
const OUT_OF_TIME: u8 = 124;
/// The machine failed, not the command.
const FAILED: u8 = 125;

/// Which machine, or what for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run a command in an x86-64 machine with protection keys, and exit as it does.
    X86(X86),
    /// Run the tests that need the machine: those of the table in xtask/src/vm/suites.rs.
    Tests(suites::Arguments),
    /// What the machine itself starts.
    #[command(hide = true)]
    Guest,
}

/// A command in the machine. Its output is the command's, its status the command's or 128 and the signal; 124: time was
/// up; 125: the machine failed; 126, 127: the command could not be started, was not found.
#[derive(clap::Args)]
struct X86 {
    #[command(flatten)]
    hardware: Hardware,
    /// How many seconds the command may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Bring a file or a directory, with the libraries that it needs; at the same path if no other is given.
    #[arg(long, value_name = "HOST[:GUEST]")]
    file: Vec<String>,
    /// Build a test and bring it under its name (core/tests/conformance_null.rs becomes `conformance_null`).
    #[arg(long, value_name = "SOURCE")]
    test: Vec<String>,
    /// Set a variable for the command.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Start in this directory.
    #[arg(long, value_name = "DIRECTORY", default_value = "/root")]
    directory: PathBuf,
    /// Leave the executable of endo out, which is otherwise built.
    #[arg(long)]
    without_endo: bool,
    /// Leave the programs of xtask/vm-programs.txt out: a smaller machine.
    #[arg(long)]
    without_programs: bool,
    /// The command: a program of this machine (which is brought along) or of the emulated one, and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs one of them; the result is the status to exit with.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::X86(arguments) => arguments.run().or_else(|error| {
            // A status of 1 would be taken for the command's.
            eprintln!("error: {}", crate::reasons(&error));
            Ok(FAILED)
        }),
        Command::Tests(arguments) => suites::run(arguments).map(|()| 0),
        Command::Guest => guest::run().map(|()| 0),
    }
}

/// Where the machine's parts are kept.
fn directory() -> PathBuf {
    tree::root().join("target/vm")
}

/// A place for one run's files, which goes away with it.
fn scratch() -> anyhow::Result<TempDir> {
    let directory = directory();
    tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(&directory)
        .with_context(|| format!("could not write to {}", directory.display()))
}

impl X86 {
    fn run(&self) -> anyhow::Result<u8> {
        let emulator = Emulator::ready(&directory())?;
        let root = tree::root();
        let mut files = Files::new()?;
        if !self.without_endo {
            files.endo(&built::endo(&root)?)?;
        }
        if !self.without_programs {
            files.programs(&root.join("xtask/vm-programs.txt"))?;
        }
        let tests: Vec<&str> = self.test.iter().map(String::as_str).collect();
        for (source, program) in tests.iter().zip(built::tests(&root, &tests)?) {
            files.test(source, &program)?;
        }
        for file in &self.file {
            files.bring(file)?;
        }
        let mut words = self.command.clone();
        if let Some(program) = words.first_mut() {
            files.program(program)?;
        }
        let mut variables: BTreeMap<String, OsString> = guest::variables();
        for assignment in &self.env {
            let (name, value) =
                assignment.split_once('=').with_context(|| format!("--env {assignment}: no value"))?;
            variables.insert(name.to_owned(), value.into());
        }
        files.directory(&self.directory)?;
        let order = Order { words, variables, directory: self.directory.clone() };
        self.start(&emulator, files, &order)
    }

    fn start(&self, emulator: &Emulator, files: Files, order: &Order) -> anyhow::Result<u8> {
        let scratch = scratch()?;
        let archive = files.write(scratch.path(), std::slice::from_ref(order))?;
        let limit = |_| Duration::from_secs(self.timeout);
        let run = machine::run(emulator, self.hardware, &archive, &limit, &mut |event| {
            if let Event::Prints(channel, content) = event {
                machine::print(channel, &content)?;
            }
            Ok(())
        })?;
        match (run.outcomes.first(), run.ending) {
            (Some(outcome), _) => Ok(outcome.code()),
            (None, ending @ Ending::OutOfTime(_)) => {
                eprintln!("vm: {ending}");
                Ok(OUT_OF_TIME)
            }
            (None, ending) => bail!("{ending}"),
        }
    }
}

/// The directory of the package that a source file belongs to.
fn package_of(root: &Path, source: &str) -> PathBuf {
    let file = root.join(source);
    let package = file.ancestors().skip(1).find(|directory| directory.join("Cargo.toml").is_file());
    package.unwrap_or(root).to_owned()
}

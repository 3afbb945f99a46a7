//! Runs the suites: all of them in one machine, and what is left in another one if that ends early.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::{HARDWARE, SUITES, Suite};
use crate::tree;
use crate::vm::emulator::Emulator;
use crate::vm::files::Files;
use crate::vm::guest::{self, Order};
use crate::vm::machine::{self, Ending, Event};
use crate::vm::wire::{Channel, Outcome};
use crate::vm::{built, directory, package_of, scratch};

/// Which of them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only suites that have this in the path of their source.
    filter: Option<String>,
    /// What each of them is told besides: names of tests, options of the test harness.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Builds the tests, runs them in the machine, and fails if any of them does.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let suites: Vec<&Suite> = SUITES.iter().filter(|suite| suite.source.contains(filter)).collect();
    ensure!(!suites.is_empty(), "no suite has {filter} in its path");
    let emulator = Emulator::ready(&directory())?;
    let root = tree::root();
    let sources: Vec<&str> = suites.iter().map(|suite| suite.source).collect();
    let programs = built::tests(&root, &sources)?;
    let endo = built::endo(&root)?;
    let mut left: Vec<_> = suites.into_iter().zip(programs).collect();
    let mut failed = Vec::new();
    while !left.is_empty() {
        let mut files = Files::new()?;
        files.endo(&endo)?;
        files.programs(&root.join("xtask/vm-programs.txt"))?;
        let orders = left
            .iter()
            .map(|(suite, program)| order(&mut files, suite, program, &arguments.arguments))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let scratch = scratch()?;
        let archive = files.write(scratch.path(), &orders)?;
        let mut log = Log::default();
        let limit =
            |command: usize| left.get(command).map_or(std::time::Duration::ZERO, |(suite, _)| suite.limit);
        let run = machine::run(&emulator, HARDWARE, &archive, &limit, &mut |event| log.take(&left, event))?;
        failed.append(&mut log.failed);
        match run.ending {
            Ending::Done => break,
            ending @ Ending::NotStarted(_) => bail!("{ending}"),
            ending => {
                // The suite that took the machine with it has had its turn; those behind it get another machine.
                let (suite, _) = left.get(run.outcomes.len()).context("the machine ended after its work")?;
                println!("error: {}: {ending}", suite.source);
                failed.push(suite.source);
                left.drain(..=run.outcomes.len());
            }
        }
    }
    ensure!(failed.is_empty(), "failed in the emulated machine: {}", failed.join(", "));
    Ok(())
}

/// Brings what a suite needs and says how it is run.
fn order(files: &mut Files, suite: &Suite, program: &PathBuf, arguments: &[String]) -> anyhow::Result<Order> {
    let root = tree::root();
    files.add(program)?;
    for file in suite.files {
        files.add(&root.join(file))?;
    }
    // Cargo starts tests there, too.
    let directory = package_of(&root, suite.source);
    files.directory(&directory)?;
    let mut variables = guest::variables();
    variables.extend(suite.variables.iter().map(|&(name, value)| (name.to_owned(), value.into())));
    let words = std::iter::once(program.into())
        .chain(suite.arguments.iter().map(Into::into))
        .chain(arguments.iter().map(Into::into))
        .collect();
    Ok(Order { words, variables, directory })
}

/// What the suites print, and which of them failed.
#[derive(Default)]
struct Log {
    failed: Vec<&'static str>,
    /// What the running suite has printed.
    text: Vec<u8>,
}

impl Log {
    fn take(&mut self, suites: &[(&Suite, PathBuf)], event: Event) -> anyhow::Result<()> {
        let suite = |command: usize| {
            suites.get(command).context("a command that was not asked for").map(|(suite, _)| suite)
        };
        match event {
            Event::Begin(command) => {
                self.text.clear();
                println!("     Running {} in the emulated machine", suite(command)?.source);
            }
            Event::Prints(channel, content) => {
                machine::print(channel, &content)?;
                if channel == Channel::Output {
                    self.text.extend(content);
                }
            }
            Event::End(command, outcome) => {
                let suite = suite(command)?;
                if let Some(why) = failure(suite, outcome, &String::from_utf8_lossy(&self.text)) {
                    println!("error: {why}");
                    self.failed.push(suite.source);
                }
            }
        }
        Ok(())
    }
}

/// Why a suite failed, in the words of cargo; nothing if it did not.
fn failure(suite: &Suite, outcome: Outcome, printed: &str) -> Option<String> {
    let ran_none = printed.lines().any(|line| line.starts_with("test result: ok. 0 passed"));
    match outcome {
        Outcome::Exited(0) if ran_none => Some(format!("{}: no test ran", suite.source)),
        Outcome::Exited(0) => None,
        _ => Some(format!("process didn't exit successfully: `{}` ({outcome})", suite.source)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[test]
    fn a_suite_whose_tests_pass_has_not_failed() {
        let printed = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(failure(&suite("a.rs"), Outcome::Exited(0), printed), None);
    }

    #[test]
    fn a_suite_that_runs_no_test_has_failed() {
        let printed = "running 0 tests\ntest result: ok. 0 passed; 0 failed; 0 ignored\n";
        assert_eq!(
            failure(&suite("a.rs"), Outcome::Exited(0), printed),
            Some("a.rs: no test ran".to_owned())
        );
    }

    #[test]
    fn a_suite_that_a_signal_ends_is_counted_as_one_that_crashed() {
        let why = failure(&suite("a.rs"), Outcome::Killed(11), "");
        assert_eq!(why, Some("process didn't exit successfully: `a.rs` (signal: 11)".to_owned()));
    }

    #[test]
    fn every_suite_is_a_file_of_the_checkout() {
        for suite in SUITES {
            assert!(tree::root().join(suite.source).is_file(), "{}", suite.source);
            assert!(suite.files.iter().all(|file| !file.starts_with('/')), "{}", suite.source);
        }
    }
}

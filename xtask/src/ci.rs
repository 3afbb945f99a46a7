//! `cargo xtask ci`: every check and test, in order, whatever fails.
//!
//! Each step is a command with a time limit. What it prints goes to `target/ci-log/STEP.log`, and to the terminal when it
//! fails. The last line is `N passed, N failed`: every test counts, and every step without tests counts as one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::tree;

mod report;
mod steps;

use report::Counts;
use steps::{STEPS, Step};

/// All steps together may take no longer than this.
const MOST: Duration = Duration::from_secs(29 * 60);

/// Which steps to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run these steps only.
    #[arg(long, value_name = "STEP", value_parser = clap::builder::PossibleValuesParser::new(STEPS.iter().map(|step| step.name)))]
    only: Vec<String>,
}

/// Runs the steps and sums up.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = tree::root();
    let logs = root.join("target/ci-log");
    std::fs::create_dir_all(&logs).with_context(|| format!("could not create {}", logs.display()))?;
    let deadline = Instant::now() + MOST;
    let started = Instant::now();
    let mut total = Counts::default();
    for step in STEPS
        .iter()
        .filter(|step| arguments.only.is_empty() || arguments.only.iter().any(|name| name == step.name))
    {
        let log = logs.join(step.name).with_extension("log");
        println!("{}: {}", step.name, step.what);
        let begun = Instant::now();
        let outcome = run_step(step, &root, &log, deadline)?;
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let counts = Counts::of(outcome.is_ok(), step.has_tests, &text);
        if let Err(why) = &outcome {
            println!("{}", report::failure(&text));
            println!("{}: FAILED, {why} (all of it: {})", step.name, log.display());
        }
        println!("{}: {:.1} s, {counts}", step.name, begun.elapsed().as_secs_f64());
        total += counts;
    }
    println!("all steps: {:.1} s", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("not every check passed");
    }
    Ok(())
}

/// Runs a step into its log; the error says in a few words how it failed.
fn run_step(
    step: &Step,
    root: &Path,
    log: &PathBuf,
    deadline: Instant,
) -> anyhow::Result<Result<(), String>> {
    let log = File::create(log).with_context(|| format!("could not create {}", log.display()))?;
    let limit = deadline.saturating_duration_since(Instant::now()).min(step.limit);
    let child = command(step, root)?.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    Ok(match child {
        Err(error) => Err(format!("could not be started: {error}")),
        Ok(mut child) => match wait(&mut child, limit)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(status.to_string()),
            None => Err(format!("stopped after {} s", limit.as_secs())),
        },
    })
}

fn command(step: &Step, root: &Path) -> anyhow::Result<Command> {
    use std::os::unix::process::CommandExt;

    let (program, arguments) = step.command.split_first().context("a step without a command")?;
    let program = match *program {
        "xtask" => std::env::current_exe().context("could not find this program")?,
        "cargo" => std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
        program if program.contains('/') => root.join(program),
        program => program.into(),
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(step.environment.iter().copied()).env("CARGO_TERM_COLOR", "never");
    command.current_dir(root).process_group(0);
    Ok(command)
}

/// Waits for a child that leads a process group; when the limit is reached, ends the group and returns nothing.
fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= limit {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status().context("could not run kill")?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(command: &'static [&'static str], limit: Duration) -> Result<(), String> {
        let log = std::env::temp_dir().join(format!("endo-ci-{}-{}", std::process::id(), command.join("-")));
        let step = Step { name: "test", what: "", command, limit, environment: &[], has_tests: false };
        let outcome = run_step(&step, Path::new("/"), &log, Instant::now() + MOST).unwrap();
        std::fs::remove_file(log).unwrap();
        outcome
    }

    #[test]
    fn a_step_succeeds_or_fails_with_its_command() {
        assert_eq!(outcome(&["true"], MOST), Ok(()));
        assert_eq!(outcome(&["false"], MOST), Err("exit status: 1".to_owned()));
    }

    #[test]
    fn a_command_that_is_not_there_fails_its_step() {
        let outcome = outcome(&["no-such-command"], MOST);
        assert!(outcome.unwrap_err().starts_with("could not be started"));
    }

    #[test]
    fn a_step_that_hangs_is_ended_and_fails() {
        assert_eq!(outcome(&["sleep", "600"], Duration::ZERO), Err("stopped after 0 s".to_owned()));
    }
}

//! `cargo xtask bless`: rewrites generated documents and expected outputs.
//!
//! Each of them is compared with the real thing by some test. With `ENDO_BLESS=1` in its environment such a test writes
//! the file instead; this command runs the tests that way and shows what changed. Read the difference before
//! committing it.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::tree;

/// What to bless.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the tests in blessing mode, then `git diff --stat`.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut tests = Command::new("cargo");
    tests
        .args(["test", "--workspace", "--profile", "ci", "--no-fail-fast", "--quiet"])
        .args(&arguments.filter);
    let status =
        tests.env("ENDO_BLESS", "1").current_dir(tree::root()).status().context("could not run cargo")?;
    Command::new("git")
        .args(["diff", "--stat"])
        .current_dir(tree::root())
        .status()
        .context("could not run git")?;
    ensure!(status.success(), "some tests failed for another reason than an old expectation");
    Ok(())
}

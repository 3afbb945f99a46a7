//! `cargo xtask deny`: cargo-deny over the dependencies, with what `deny.toml` says.
//!
//! An installed cargo-deny is used; if there is none, it is built once into `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::tree;

const VERSION: &str = "0.20.2";

/// Checks licences, bans and sources. Advisories are left out: see `deny.toml`.
pub(crate) fn run() -> anyhow::Result<()> {
    let status = Command::new(program()?)
        .args(["--workspace", "--locked", "check", "licenses", "bans", "sources"])
        .current_dir(tree::root())
        .status()
        .context("could not run cargo-deny")?;
    ensure!(status.success(), "cargo-deny refuses a dependency");
    Ok(())
}

fn program() -> anyhow::Result<PathBuf> {
    let installed = Command::new("cargo-deny").arg("--version").output();
    if installed.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-deny".into());
    }
    let tools = tree::root().join("target/tools");
    let program = tools.join("bin/cargo-deny");
    if !program.exists() {
        let status = Command::new("cargo")
            .args(["install", "cargo-deny", "--version", VERSION, "--locked", "--root"])
            .arg(&tools)
            // It runs for a second: building it optimised would take longer than it could ever save.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .status()
            .context("could not run cargo")?;
        ensure!(status.success(), "could not install cargo-deny {VERSION}");
    }
    Ok(program)
}

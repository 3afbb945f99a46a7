//! `cargo xtask packages`: the Debian packages that the tests run or need, from `xtask/debian-packages.txt`.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::tree;

/// Installs what is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    let script = tree::root().join("xtask/install-packages");
    let status =
        Command::new(&script).status().with_context(|| format!("could not run {}", script.display()))?;
    ensure!(status.success(), "not all packages are there");
    Ok(())
}

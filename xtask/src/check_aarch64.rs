//! `cargo xtask check-aarch64`: the packages that must not assume x86 type-check for aarch64.
//!
//! It takes the compiler that `xtask/install-aarch64-std.sh` unpacks, because rustup has no standard library for aarch64
//! here, and installs nothing itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::tree;

/// What is checked: the half that knows no backend, and the backends that have no code for one architecture yet.
const PACKAGES: [&str; 4] = ["endo-core", "endo-aarch64", "endo-mpk", "endo"];

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Where the script unpacks Debian's compiler, from the root of the checkout.
const TOOLCHAIN: &str = "target/aarch64-std/root/usr";

/// Type-checks the packages, or says what is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = tree::root();
    let toolchain = Toolchain::find(&root.join(TOOLCHAIN))?;
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let mut command = Command::new(cargo);
    command.current_dir(&root).args(["check", "--locked", "--target", TARGET]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    // A directory of its own: another compiler's output would have to be rebuilt each time.
    command.args(["--target-dir", "target/aarch64-check"]);
    command.env("RUSTC", &toolchain.compiler).env("LD_LIBRARY_PATH", &toolchain.libraries);
    // Set by rustup's cargo for its own compiler.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC_WRAPPER");
    let status = command.status().context("could not run cargo")?;
    ensure!(status.success(), "not everything type-checks for {TARGET}");
    Ok(())
}

/// A compiler with the standard library of the target.
struct Toolchain {
    compiler: PathBuf,
    libraries: PathBuf,
}

impl Toolchain {
    fn find(prefix: &Path) -> anyhow::Result<Self> {
        let toolchain =
            Toolchain { compiler: prefix.join("bin/rustc"), libraries: prefix.join("lib/x86_64-linux-gnu") };
        let missing: Vec<String> =
            [&toolchain.compiler, &prefix.join("lib/rustlib").join(TARGET).join("lib")]
                .iter()
                .filter(|path| !path.exists())
                .map(|path| path.display().to_string())
                .collect();
        if !missing.is_empty() {
            bail!("missing: {} (xtask/install-aarch64-std.sh puts it there)", missing.join(", "));
        }
        Ok(toolchain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_toolchain_is_named_with_what_puts_it_there() {
        let error = Toolchain::find(Path::new("/nowhere")).err().expect("nothing is there").to_string();
        assert!(error.contains("/nowhere/bin/rustc"), "{error}");
        assert!(error.contains("/nowhere/lib/rustlib/aarch64-unknown-linux-gnu"), "{error}");
        assert!(error.contains("xtask/install-aarch64-std.sh"), "{error}");
    }
}

//! Programs find themselves loaded as the kernel loads them: compared with native runs, kind by kind.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "loading/kinds.rs"]
mod kinds;
#[path = "loading/limits.rs"]
mod limits;
#[path = "loading/mutated.rs"]
mod mutated;
#[path = "loading/scripts.rs"]
mod scripts;

use std::path::{Path, PathBuf};

/// A guest of this directory, compiled with a command.
fn guest(command: &str, name: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loading/guests");
    endo_testing::compile(command, &[sources.join(name)])
}

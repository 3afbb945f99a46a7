//! What developers and administrators run all day does under `endo run` what it does natively: output, status, files.
//!
//! Programs are Debian's (`xtask/debian-packages.txt`) or built from `toolchains/`. They start many processes, which start
//! others, and threads; sizes are small. `ENDO_BACKEND` chooses the backend.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "toolchains/builds.rs"]
mod builds;
#[path = "toolchains/git.rs"]
mod git;
#[path = "toolchains/python.rs"]
mod python;
#[path = "toolchains/session.rs"]
mod session;
#[path = "toolchains/shells.rs"]
mod shells;
#[path = "toolchains/stress.rs"]
mod stress;
#[path = "toolchains/tools.rs"]
mod tools;

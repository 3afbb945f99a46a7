//! Real programs under `endo run` do what they do natively, byte for byte: output, status, files.
//!
//! Programs are Debian's (`xtask/debian-packages.txt`) or built from `programs/guests/`. `ENDO_BACKEND` chooses the
//! backend, `ENDO_BINARY` another executable than the one that cargo built.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "programs/archives.rs"]
mod archives;
#[path = "programs/binaries.rs"]
mod binaries;
#[path = "programs/instructions.rs"]
mod instructions;
#[path = "programs/interpreters.rs"]
mod interpreters;
#[path = "programs/shells.rs"]
mod shells;
#[path = "programs/tools.rs"]
mod tools;

//! What cannot be run is refused in one line on standard error that says what and why, with the right status, and nothing
//! else happens.

#![cfg(target_os = "linux")]

#[path = "bad_input/arguments.rs"]
mod arguments;
#[path = "bad_input/complaint.rs"]
mod complaint;
#[path = "bad_input/elf.rs"]
mod elf;
#[path = "bad_input/files.rs"]
mod files;
#[path = "bad_input/options.rs"]
mod options;
#[path = "bad_input/scripts.rs"]
mod scripts;

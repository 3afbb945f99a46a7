//! Tools for whoever works on the translator of `endo-sfi`. `docs/tools.md` shows each at work.
//!
//! * [`fuzz`] runs random instructions natively and translated and compares all that they leave behind.
//!
//! They are a package of their own, because `cargo xtask` has to build in seconds and on any machine, and these need the
//! backend.

#![cfg(target_arch = "x86_64")]

pub mod fuzz;

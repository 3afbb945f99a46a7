//! Tools for whoever works on the translator of `endo-sfi`. `docs/tools.md` shows each at work.
//!
//! * [`dump`] shows what the translator makes of some bytes.
//! * [`fuzz`] runs random instructions natively and translated and compares all that they leave behind.
//! * [`lockstep`] runs a program both ways and finds the first instruction that differs.
//!
//! They are a package of their own, because `cargo xtask` has to build in seconds and on any machine, and these need the
//! backend.

#![cfg(target_arch = "x86_64")]

pub mod dump;
pub mod fuzz;
pub mod lockstep;

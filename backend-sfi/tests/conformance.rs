//! Every property of the conformance suite, on this backend.

#![cfg(target_arch = "x86_64")]

endo_core::conformance_suite!(endo_sfi::SfiBackend);

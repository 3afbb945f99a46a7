//! Every property of the conformance suite, on this backend.
//!
//! This needs a processor with keys, so `cargo test` leaves it out; `cargo xtask vm tests` runs it in the emulated machine.

#![cfg(target_arch = "x86_64")]

use endo_core::IsolationBackend;
use endo_mpk::MpkBackend;

/// The suite passes where the backend is unavailable; this does not.
#[test]
fn the_backend_can_be_used() {
    assert_eq!(MpkBackend::probe().err(), None);
}

endo_core::conformance_suite!(endo_mpk::MpkBackend);

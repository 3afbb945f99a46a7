//! The tests that run in the emulated machine: `cargo xtask vm tests`, a step of CI.
//!
//! A row of [`SUITES`] is a test program with its arguments; [`run()`] runs them. Those that fail elsewhere, because they need
//! what only the machine has, say `test = false` in their package's manifest, so that `cargo test` does not run them.

use std::time::Duration;

use super::machine::Hardware;

mod run;

pub(super) use run::{Arguments, run};

/// Enough for two programs at a time, and for what some allocate.
const HARDWARE: Hardware = Hardware { memory: 3072, cpus: 1, icount: false };

/// A test program.
struct Suite {
    /// Its source, from the root; `…/src/lib.rs` are a library's unit tests.
    source: &'static str,
    /// What the test harness is told: names of tests, options.
    arguments: &'static [&'static str],
    /// Variables that it gets besides the usual ones.
    variables: &'static [(&'static str, &'static str)],
    /// What it needs of the checkout: files or directories, from the root.
    files: &'static [&'static str],
    /// How long it may take.
    limit: Duration,
}

const fn suite(source: &'static str) -> Suite {
    Suite { source, arguments: &[], variables: &[], files: &[], limit: Duration::from_secs(180) }
}

/// What runs, in order, one after the other in one machine.
const SUITES: &[Suite] = &[
    suite("backend-mpk/tests/keys.rs"),
    suite("backend-mpk/tests/conformance.rs"),
    suite("backend-mpk/tests/attacks.rs"),
    Suite {
        variables: &[("ENDO_BACKEND", "mpk")],
        limit: Duration::from_secs(600),
        ..suite("monitor/tests/keys.rs")
    },
    suite("monitor/tests/machine.rs"),
    suite("core/tests/conformance_null.rs"),
    suite("backend-sfi/tests/conformance.rs"),
];

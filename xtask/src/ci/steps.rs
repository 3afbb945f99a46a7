//! What `cargo xtask ci` runs.
//!
//! All that compiles uses the profile `ci`: optimised enough to run real programs, with assertions and overflow
//! checks, so that dependencies are built once for lints and once for everything else.

use std::time::Duration;

/// One check.
pub(super) struct Step {
    /// A word; also names the log.
    pub(super) name: &'static str,
    /// What it makes sure of.
    pub(super) what: &'static str,
    /// The command; `xtask` is this program, a path is relative to the root of the checkout.
    pub(super) command: &'static [&'static str],
    /// Variables set for it.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// How long it may take.
    pub(super) limit: Duration,
    /// Whether it prints results of tests, which are counted.
    pub(super) has_tests: bool,
}

const fn step(
    name: &'static str,
    what: &'static str,
    minutes: u64,
    command: &'static [&'static str],
) -> Step {
    let limit = Duration::from_secs(minutes * 60);
    Step { name, what, command, environment: &[], limit, has_tests: false }
}

/// The steps in order: cheap ones first.
pub(super) const STEPS: &[Step] = &[
    step("packages", "the Debian packages that the tests need are there", 10, &["xtask/install-packages"]),
    step("format", "the source is formatted", 2, &["cargo", "fmt", "--all", "--check"]),
    step("tidy", "the rules of the house hold", 2, &["xtask", "tidy"]),
    step("deny", "licences, sources and bans of dependencies", 10, &["xtask", "deny"]),
    step(
        "clippy",
        "the compiler and clippy have nothing to say",
        15,
        &[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--profile",
            "ci",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    ),
    step("aarch64-std", "a compiler for aarch64 is there", 5, &["xtask/install-aarch64-std.sh"]),
    step("aarch64", "what must not assume x86 type-checks for aarch64", 10, &["xtask", "check-aarch64"]),
    Step {
        environment: &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links")],
        ..step(
            "documentation",
            "the documentation builds and its links lead somewhere",
            5,
            &[
                "cargo",
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--profile",
                "ci",
                "--locked",
            ],
        )
    },
    step("build", "everything builds", 15, &["cargo", "build", "--workspace", "--profile", "ci", "--locked"]),
    Step {
        has_tests: true,
        ..step(
            "tests",
            "unit, conformance, program and attack tests",
            25,
            &["cargo", "test", "--workspace", "--profile", "ci", "--locked", "--no-fail-fast"],
        )
    },
    Step {
        has_tests: true,
        ..step(
            "machine",
            "what needs protection keys works in an emulated machine that has them",
            10,
            &["xtask", "vm", "tests"],
        )
    },
    step(
        "binary",
        "the fast paths of the executable leave vector registers alone",
        2,
        &["xtask", "tidy", "--binary", "target/ci/endo"],
    ),
];

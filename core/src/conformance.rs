//! The conformance suite: one body of tests that runs on every backend.
//!
//! A [`Property`] is a sentence about the contract of [`IsolationBackend`] and a function that finds out whether it
//! holds. Each runs in a forked child of its own with a fresh backend, so that a guest that breaks out, a crash and an
//! endless loop are [`Outcome`]s and not the end of the suite. Guests are a few instructions of machine code at fixed
//! low addresses, which every window has.
//!
//! A backend's crate makes each property a named test:
//!
//! ```ignore
//! endo_core::conformance_suite!(endo_sfi::SfiBackend);
//! ```
//!
//! Properties of class [`Class::Isolation`] are those that a backend without isolation must fail:
//! `tests/conformance_null.rs` says which ones [`NullBackend`](crate::NullBackend) does. They hold the backend to what
//! its `properties()` claim against hostile code.
//!
//! [`child`] forks and reports, [`fixture`] maps guests and runs them, [`host`] installs signal handlers, [`outside`] is
//! the memory that no guest may reach. The properties that need no guest code are in [`portable`], the others in one
//! folder an architecture.

mod child;
pub mod fixture;
mod host;
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "guests are written for x86-64 so far"))]
mod outside;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;
use std::sync::{PoisonError, RwLock};

use self::fixture::Fixture;
use crate::{BackendConfig, IsolationBackend};

#[cfg(target_arch = "x86_64")]
pub use self::x86_64::HIJACKED;

/// What a property's function finds: nothing, or what was wrong in one line.
pub type Finding = Result<(), String>;

/// What a property is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Running guests exactly: every backend has it.
    Mechanics,
    /// Confining guests: what a backend without isolation fails.
    Isolation,
}

/// One sentence about a backend, and how to find out whether it is true.
pub struct Property<B: IsolationBackend> {
    /// The sentence, with underscores: the name of its test.
    pub name: &'static str,
    /// What it is about.
    pub class: Class,
    check: fn(&Fixture<B>) -> Finding,
}

/// How a property's run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The sentence is true.
    Passed,
    /// It is not; why, in one line.
    Failed(String),
    /// The host crashed while it was tested.
    Crashed {
        /// The fatal signal.
        signal: i32,
        /// The address that the fault names, if a handler saw it.
        address: Option<u64>,
    },
    /// The guest or the backend did not come back in time.
    TimedOut,
}

/// The outcomes of a whole suite, in order.
#[derive(Debug, Default)]
pub struct Report {
    /// Name, class and outcome of each property.
    pub results: Vec<(&'static str, Class, Outcome)>,
}

impl Report {
    /// The properties that do not hold.
    pub fn failures(&self) -> impl Iterator<Item = &(&'static str, Class, Outcome)> {
        self.results.iter().filter(|(_, _, outcome)| *outcome != Outcome::Passed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, class, outcome) in &self.results {
            writeln!(f, "{class:?} {name}: {outcome:?}")?;
        }
        Ok(())
    }
}

/// How backends are configured, in this process.
static CONFIGURE: RwLock<fn() -> BackendConfig> = RwLock::new(BackendConfig::default);

/// From now on backends of this process are configured so.
pub fn configure(configuration: fn() -> BackendConfig) {
    *CONFIGURE.write().unwrap_or_else(PoisonError::into_inner) = configuration;
}

fn configuration() -> BackendConfig {
    CONFIGURE.read().unwrap_or_else(PoisonError::into_inner)()
}

/// Runs every property on a backend.
pub fn run<B: IsolationBackend>() -> Report {
    let results = properties::<B>()
        .into_iter()
        .map(|property| (property.name, property.class, child::run(property.check)))
        .collect();
    Report { results }
}

/// Runs the property of this name on a backend; `None` if there is none.
pub fn run_one<B: IsolationBackend>(name: &str) -> Option<Outcome> {
    properties::<B>().into_iter().find(|property| property.name == name).map(|found| child::run(found.check))
}

/// Declares the table of properties: a function that lists them and a macro that turns each into a test, with the
/// default configuration or what a function gives. `$d` is a dollar sign, which the inner macro needs and the outer cannot write.
macro_rules! table {
    ($d:tt;
     portable { $($class:ident $name:ident;)+ }
     x86_64 { $($x86_class:ident $x86_file:ident::$x86_name:ident;)+ }) => {
        /// Every property of this architecture.
        pub fn properties<B: IsolationBackend>() -> Vec<Property<B>> {
            let portable = [$(Property {
                name: stringify!($name),
                class: Class::$class,
                check: portable::$name::<B>,
            }),+];
            #[cfg(target_arch = "x86_64")]
            let native = [$(Property {
                name: stringify!($x86_name),
                class: Class::$x86_class,
                check: x86_64::$x86_file::$x86_name::<B>,
            }),+];
            #[cfg(not(target_arch = "x86_64"))]
            let native = [];
            portable.into_iter().chain(native).collect()
        }

        /// Makes every property of the conformance suite a test of the given backend. Where the backend is unavailable
        /// the tests say so and pass.
        #[macro_export]
        macro_rules! conformance_suite {
            ($d backend:ty) => {
                $crate::conformance_suite!($d backend, $crate::BackendConfig::default);
            };
            ($d backend:ty, $d configure:expr) => {
                $(
                    #[test]
                    fn $name() {
                        $crate::conformance::assert_holds::<$d backend>(stringify!($name), $d configure);
                    }
                )+
                $(
                    #[cfg(target_arch = "x86_64")]
                    #[test]
                    fn $x86_name() {
                        $crate::conformance::assert_holds::<$d backend>(stringify!($x86_name), $d configure);
                    }
                )+
            };
        }
    };
}

/// Fails the calling test unless the property holds, or the backend is unavailable here. All tests of a process configure
/// alike.
pub fn assert_holds<B: IsolationBackend>(name: &str, configuration: fn() -> BackendConfig) {
    configure(configuration);
    if let Err(reason) = B::probe() {
        eprintln!("the {} backend is unavailable: {reason}", B::NAME);
        return;
    }
    let outcome = run_one::<B>(name).expect("the suite's macro names properties of the suite");
    assert_eq!(outcome, Outcome::Passed, "{name} on the {} backend", B::NAME);
}

/// Fails the calling test unless `check` finds nothing wrong, in a child with a new backend; or says that the backend is
/// unavailable here. For what a backend promises besides the suite.
pub fn assert_finds_nothing<B: IsolationBackend>(check: fn(&Fixture<B>) -> Finding) {
    match B::probe() {
        Ok(_) => assert_eq!(child::run(check), Outcome::Passed, "on the {} backend", B::NAME),
        Err(reason) => eprintln!("the {} backend is unavailable: {reason}", B::NAME),
    }
}

include!("conformance/table.rs");

//! Runs programs natively and under Endo, for tests and benchmarks.
//!
//! A [`Guest`] is a program with its arguments, input and files. [`Guest::same`] runs it twice, natively and under
//! `endo run`, and compares what came of it byte for byte: output, exit status or signal, and the files that it left.
//! A [`Server`] runs until it is told to stop; [`same_session`] compares what a client sees of it.
//! [`compile()`] builds guests from source, once for each content. [`data`] makes input that is the same everywhere.
//!
//! Two variables of the environment choose what is tested: `ENDO_BACKEND` the backend (`sfi` if unset) and
//! `ENDO_BINARY` the executable (the one that cargo built beside the test if unset).

mod compile;
pub mod data;
mod guest;
mod outcome;
mod place;
mod process;
mod server;

pub use compile::{compile, has_processor_flag};
pub use guest::{Guest, Under};
pub use outcome::{Outcome, Status};
pub use place::{backend, endo_binary, guests_directory, store_directory};
pub use process::{Ended, Usage, kill, run_to_end};
pub use server::{Server, children, is_running, same_session, wait_until};

//! Benchmarks of Endo: how long programs take under it compared with native runs of the same minute.
//!
//! [`workloads`] is the table of what is run, [`inputs`] prepares what they read, [`measure`] runs native and other
//! variants in turn, [`report`] writes tables. [`services`] is the table of servers, whose [`rates`] are measured. The command is `ratios`. [`costs`] and the command of that name look at single
//! kinds of guards and dispatches, and at verification.

pub mod costs;
pub mod inputs;
pub mod measure;
pub mod rates;
pub mod report;
pub mod services;
pub mod workloads;

//! Exit statuses of the `endo` command.
//!
//! A guest's own status is passed on, and a signal that ended it ends `endo` as well. These are Endo's own:

/// Endo failed: bad options, no usable backend, an internal limit.
pub const FAILURE: i32 = 125;

/// The program exists and cannot be run.
pub const NOT_EXECUTABLE: i32 = 126;

/// The program, or an interpreter that it needs, does not exist.
pub const NOT_FOUND: i32 = 127;

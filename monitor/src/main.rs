//! The `endo` command.
fn main() {}

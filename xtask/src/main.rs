//! The developer's commands of Endo.
fn main() {}

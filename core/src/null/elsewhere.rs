//! The null backend where there is none.

use crate::absent::{Absence, Absent};

/// Cannot be created on this architecture.
pub type NullBackend = Absent<NoDispatch>;

/// Why not.
#[derive(Debug)]
pub struct NoDispatch;

impl Absence for NoDispatch {
    const NAME: &'static str = "null";

    fn reasons() -> Vec<String> {
        vec![format!(
            "system calls cannot be captured here (syscall user dispatch is x86-64's, this machine is {})",
            std::env::consts::ARCH
        )]
    }
}

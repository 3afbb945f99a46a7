//! The backend where there is none.

use endo_core::absent::{Absence, Absent};

/// Cannot be created on this architecture.
pub type MpkBackend = Absent<ProtectionKeys>;

/// Why not.
#[derive(Debug)]
pub struct ProtectionKeys;

impl Absence for ProtectionKeys {
    const NAME: &'static str = "mpk";

    fn reasons() -> Vec<String> {
        crate::probe::missing()
    }
}

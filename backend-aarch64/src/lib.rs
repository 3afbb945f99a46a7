//! ARM permission overlays and memory tagging backends of Endo.
//!
//! What exists: probes, which find what stands in the way on this machine, and the encodings of the register
//! ([`por`]) and of tagged pointers ([`tag`]). [`PoeBackend`] and [`MteBackend`] are names without a value: this version
//! cannot run guests on either.

mod missing;
pub mod por;
pub mod tag;

use endo_core::absent::{Absence, Absent};

/// The backend on permission overlays, which cannot be created yet.
pub type PoeBackend = Absent<PermissionOverlays>;

/// The backend on memory tags, which cannot be created yet.
pub type MteBackend = Absent<MemoryTagging>;

/// Why there are no permission overlays: the twin of protection keys.
#[derive(Debug)]
pub struct PermissionOverlays;

impl Absence for PermissionOverlays {
    const NAME: &'static str = "poe";

    fn reasons() -> Vec<String> {
        missing::reasons(&missing::POE)
    }
}

/// Why there is no memory tagging.
#[derive(Debug)]
pub struct MemoryTagging;

impl Absence for MemoryTagging {
    const NAME: &'static str = "mte";

    fn reasons() -> Vec<String> {
        missing::reasons(&missing::MTE)
    }
}

#[cfg(test)]
mod tests {
    use endo_core::IsolationBackend;

    use super::*;

    #[test]
    fn the_probes_say_that_there_is_no_implementation() {
        for reasons in [PoeBackend::probe().unwrap_err(), MteBackend::probe().unwrap_err()] {
            assert!(reasons.to_string().ends_with("this version of endo does not implement it"));
        }
    }
}

//! Protection-key isolation backend of Endo.
//!
//! What exists: a probe, which finds everything that stands in the way on this machine, and [`pkru`], the encoding of
//! the rights register. [`MpkBackend`] is a name without a value: this version cannot run guests on protection keys.

pub mod pkru;
mod probe;

use endo_core::absent::{Absence, Absent};

/// The backend, which cannot be created yet.
pub type MpkBackend = Absent<ProtectionKeys>;

/// Why not: what the machine lacks, and that there is no implementation.
#[derive(Debug)]
pub struct ProtectionKeys;

impl Absence for ProtectionKeys {
    const NAME: &'static str = "mpk";

    fn reasons() -> Vec<String> {
        let mut reasons = probe::missing();
        reasons.push("this version of endo does not implement it".to_owned());
        reasons
    }
}

#[cfg(test)]
mod tests {
    use endo_core::{BackendConfig, BackendError, IsolationBackend};

    use super::MpkBackend;

    #[test]
    fn the_probe_says_that_there_is_no_implementation() {
        let unavailable = MpkBackend::probe().unwrap_err();
        assert!(unavailable.to_string().ends_with("this version of endo does not implement it"));
    }

    #[test]
    fn a_backend_is_refused_for_the_reasons_of_the_probe() {
        let error = MpkBackend::new(BackendConfig::default()).unwrap_err();
        let BackendError::Unavailable(reasons) = error else { panic!("{error}") };
        assert_eq!(reasons, MpkBackend::probe().unwrap_err());
    }
}

//! Protection-key isolation backend of Endo.
//!
//! Nothing of it exists yet but [`probe`], which says why it cannot be used: what the machine lacks, and that this
//! version does not have it.
#![forbid(unsafe_code)]

use endo_core::{Properties, Unavailable};

/// The name that `--backend` takes.
pub const NAME: &str = "mpk";

/// Every reason why protection keys cannot be used here. It never succeeds yet.
pub fn probe() -> Result<Properties, Unavailable> {
    let mut reasons = arch::missing();
    reasons.push("this version of endo does not implement it".to_owned());
    Err(Unavailable { reasons })
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    /// What the processor and the kernel lack (SDM volume 3, 5.6.2).
    pub(super) fn missing() -> Vec<String> {
        let features = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ecx } else { 0 };
        let has = |bit: u32| features & 1 << bit != 0;
        match (has(3), has(4)) {
            (false, _) => vec!["the cpu has no protection keys (cpuid 7.0 ecx.pku is 0)".to_owned()],
            (true, false) => {
                vec!["the kernel has not enabled protection keys (cpuid 7.0 ecx.ospke is 0)".to_owned()]
            }
            (true, true) => vec![],
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    pub(super) fn missing() -> Vec<String> {
        vec![format!("needs an x86-64 cpu, this is {}", std::env::consts::ARCH)]
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_probe_gives_a_reason() {
        assert!(!super::probe().unwrap_err().reasons.is_empty());
    }
}

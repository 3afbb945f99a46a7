//! ARM permission overlays and memory tagging backends of Endo.
//!
//! Nothing of them exists yet but [`poe::probe`] and [`mte::probe`], which say why they cannot be used: what the machine
//! lacks, and that this version does not have them.

use endo_core::{Properties, Unavailable};

/// Permission overlays: the twin of protection keys.
pub mod poe {
    use super::*;

    /// The name that `--backend` takes.
    pub const NAME: &str = "poe";

    /// Every reason why permission overlays cannot be used here. It never succeeds yet.
    pub fn probe() -> Result<Properties, Unavailable> {
        // HWCAP2_POE (arch/arm64/include/uapi/asm/hwcap.h), since Linux 6.12.
        super::refuse(1 << 63, "the cpu or the kernel has no permission overlays (hwcap2 poe is 0)")
    }
}

/// Memory tagging.
pub mod mte {
    use super::*;

    /// The name that `--backend` takes.
    pub const NAME: &str = "mte";

    /// Every reason why memory tagging cannot be used here. It never succeeds yet.
    pub fn probe() -> Result<Properties, Unavailable> {
        // HWCAP2_MTE (arch/arm64/include/uapi/asm/hwcap.h).
        super::refuse(1 << 18, "the cpu or the kernel has no memory tagging (hwcap2 mte is 0)")
    }
}

fn refuse(hwcap2: u64, reason: &str) -> Result<Properties, Unavailable> {
    let mut reasons = Vec::new();
    if !cfg!(target_arch = "aarch64") {
        reasons.push(format!("needs an aarch64 cpu, this is {}", std::env::consts::ARCH));
    } else if auxiliary_hwcap2() & hwcap2 == 0 {
        reasons.push(reason.to_owned());
    }
    reasons.push("this version of endo does not implement it".to_owned());
    Err(Unavailable { reasons })
}

fn auxiliary_hwcap2() -> u64 {
    // SAFETY: no precondition.
    unsafe { libc::getauxval(libc::AT_HWCAP2) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_probes_give_reasons() {
        assert!(!super::poe::probe().unwrap_err().reasons.is_empty());
        assert!(!super::mte::probe().unwrap_err().reasons.is_empty());
    }
}

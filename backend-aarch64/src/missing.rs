//! What stands in the way of a backend on this machine.

/// A feature that AT_HWCAP2 tells of (arch/arm64/include/uapi/asm/hwcap.h of Linux).
pub(crate) struct Feature {
    bit: u64,
    missing: &'static str,
}

/// Permission overlays, which Linux has since 6.12.
pub(crate) const POE: Feature =
    Feature { bit: 1 << 63, missing: "the cpu or the kernel has no permission overlays (hwcap2 poe is 0)" };

/// Memory tagging, which Linux has since 5.10.
pub(crate) const MTE: Feature =
    Feature { bit: 1 << 18, missing: "the cpu or the kernel has no memory tagging (hwcap2 mte is 0)" };

/// Everything that is missing for a backend that stands on this feature, each in a few lowercase words.
pub(crate) fn reasons(feature: &Feature) -> Vec<String> {
    // On other architectures the word means something else.
    let hwcap2 = cfg!(target_arch = "aarch64").then(|| {
        // SAFETY: no precondition.
        unsafe { libc::getauxval(libc::AT_HWCAP2) }
    });
    let mut reasons: Vec<String> = missing(feature, hwcap2).into_iter().collect();
    reasons.push("this version of endo does not implement it".to_owned());
    reasons
}

fn missing(feature: &Feature, hwcap2: Option<u64>) -> Option<String> {
    match hwcap2 {
        None => Some(format!("needs an aarch64 cpu, this machine is {}", std::env::consts::ARCH)),
        Some(bits) if bits & feature.bit == 0 => Some(feature.missing.to_owned()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_bit_is_a_reason_and_a_present_one_is_none() {
        assert_eq!(missing(&POE, Some(MTE.bit)), Some(POE.missing.to_owned()));
        assert_eq!(missing(&MTE, Some(MTE.bit)), None);
        assert_eq!(missing(&POE, Some(POE.bit)), None);
    }

    #[test]
    fn another_architecture_is_a_reason() {
        assert!(missing(&MTE, None).unwrap().starts_with("needs an aarch64 cpu"));
    }
}

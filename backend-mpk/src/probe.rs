//! What stands in the way of protection keys on this machine.

/// The oldest kernel that delivers a signal onto a stack whose key the interrupted code may not touch.
const NEEDED: Release = Release(6, 12);

/// A kernel's release: version and patch level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Release(u32, u32);

impl Release {
    /// Reads the start of what uname(2) says: "6.12.107-cloud-amd64".
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Release(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// Everything that is missing, each in a few lowercase words.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = arch::missing();
    missing.extend(missing_in_kernel(&kernel_release()));
    missing
}

fn missing_in_kernel(release: &str) -> Option<String> {
    let new_enough = Release::parse(release).is_some_and(|found| found >= NEEDED);
    (!new_enough).then(|| format!("needs linux {}.{} or newer, this is {release}", NEEDED.0, NEEDED.1))
}

fn kernel_release() -> String {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut name: libc::utsname = unsafe { core::mem::zeroed() };
    // SAFETY: `name` is writable.
    unsafe { libc::uname(&raw mut name) };
    // SAFETY: the kernel wrote a string with its terminator, or the zeros above are one.
    let release = unsafe { std::ffi::CStr::from_ptr(name.release.as_ptr()) };
    release.to_string_lossy().into_owned()
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    /// CPUID leaf 7, subleaf 0, ECX (SDM volume 2, "CPUID").
    #[derive(Clone, Copy)]
    struct Features(u32);

    impl Features {
        const PKU: u32 = 1 << 3;
        const OSPKE: u32 = 1 << 4;
    }

    pub(super) fn missing() -> Vec<String> {
        let highest = __cpuid(0).eax;
        let features = Features(if highest >= 7 { __cpuid_count(7, 0).ecx } else { 0 });
        missing_in_cpu(features).into_iter().collect()
    }

    fn missing_in_cpu(features: Features) -> Option<String> {
        if features.0 & Features::PKU == 0 {
            return Some("the cpu has no protection keys (cpuid 7.0 ecx.pku is 0)".to_owned());
        }
        let enabled = features.0 & Features::OSPKE != 0;
        (!enabled).then(|| "the kernel has not enabled protection keys (cpuid 7.0 ecx.ospke is 0)".to_owned())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_cpu_without_keys_and_a_kernel_that_hides_them_are_told_apart() {
            assert!(missing_in_cpu(Features(0)).unwrap().contains("pku is 0"));
            assert!(missing_in_cpu(Features(Features::PKU)).unwrap().contains("ospke is 0"));
            assert_eq!(missing_in_cpu(Features(Features::PKU | Features::OSPKE)), None);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    pub(super) fn missing() -> Vec<String> {
        vec![format!("needs an x86-64 cpu, this machine is {}", std::env::consts::ARCH)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(Release::parse("6.12.107-cloud-amd64"), Some(Release(6, 12)));
        assert_eq!(Release::parse("7.2-rc1"), Some(Release(7, 2)));
        assert_eq!(Release::parse("unknown"), None);
        assert!(Release(6, 9) < NEEDED);
    }

    #[test]
    fn an_old_kernel_is_a_reason_and_a_new_one_is_none() {
        assert_eq!(
            missing_in_kernel("6.1.0-40-amd64"),
            Some("needs linux 6.12 or newer, this is 6.1.0-40-amd64".into())
        );
        assert_eq!(missing_in_kernel("6.12.0"), None);
    }
}

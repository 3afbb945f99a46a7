//! What running guests natively takes, besides what confines them.

use super::dispatch;

/// A test, and the reason to give if it fails.
type Requirement = (fn() -> bool, &'static str);

const REQUIREMENTS: [Requirement; 3] = [
    (has_fsgsbase, "the kernel does not let user code write segment bases (no FSGSBASE in AT_HWCAP2)"),
    (has_xsave, "the cpu or the kernel has no XSAVE (cpuid 1 ecx.osxsave is 0)"),
    (dispatch::is_available, "the kernel has no syscall user dispatch (Linux 5.11 or newer has)"),
];

/// Everything that is missing, each in a few lowercase words.
pub fn missing() -> Vec<String> {
    REQUIREMENTS.iter().filter(|(present, _)| !present()).map(|(_, reason)| (*reason).to_owned()).collect()
}

fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: libc::c_ulong = 1 << 1;
    // SAFETY: no precondition.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

fn has_xsave() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    core::arch::x86_64::__cpuid(1).ecx & OSXSAVE != 0
}

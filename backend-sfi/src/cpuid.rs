//! CPUID as a guest sees it: the processor's, less what the translator does not offer.
//!
//! The instruction itself costs a VM exit of microseconds under a hypervisor, so each leaf is asked for once.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

/// eax, ebx, ecx, edx.
pub type Leaf = [u32; 4];

/// Bits to clear: (leaf, subleaf, register index, mask, what they are).
const HIDDEN: &[(u32, u32, usize, u32, &str)] = &[
    (0x1, 0, 2, 1 << 3, "MONITOR/MWAIT"),
    (0x7, 0, 1, 1 << 4 | 1 << 11 | 1 << 2 | 1 << 14, "HLE, RTM, SGX, MPX"),
    (0x7, 0, 1, 1, "FSGSBASE"),
    (0x7, 0, 2, 1 << 3 | 1 << 4, "PKU, OSPKE"),
    (0x7, 0, 2, 1 << 5, "WAITPKG"),
    (0x7, 0, 2, 1 << 7, "CET shadow stacks"),
    (0x7, 0, 2, 1 << 23 | 1 << 28 | 1 << 29 | 1 << 30, "Key Locker, MOVDIR64B, ENQCMD, SGX launch control"),
    (
        0x7,
        0,
        3,
        1 << 5 | 1 << 11 | 1 << 13 | 1 << 20,
        "UINTR, RTM abort, TSX force abort, CET branch tracking",
    ),
    (0x7, 0, 3, 1 << 22 | 1 << 24 | 1 << 25, "AMX"),
    (
        0x7,
        1,
        0,
        1 << 3 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 21 | 1 << 22,
        "RAO-INT, FRED, LKGS, WRMSRNS, AMX-FP16, HRESET",
    ),
    (0x7, 1, 3, 1 << 8 | 1 << 15 | 1 << 19 | 1 << 21, "AMX-COMPLEX, USER_MSR, AVX10, APX"),
    (0xd, 0, 0, !crate::gate::VECTOR_COMPONENTS, "state components that a guest does not have"),
    (0xd, 0, 3, u32::MAX, "state components above 32"),
    (0xd, 1, 0, 1 << 3, "XSAVES"),
];

/// What CPUID answers in a guest.
pub fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    static KNOWN: OnceLock<Mutex<HashMap<(u32, u32), Leaf>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().expect("nothing panics while it is held");
    *known.entry((leaf, subleaf)).or_insert_with(|| filtered(leaf, subleaf))
}

fn filtered(leaf: u32, subleaf: u32) -> Leaf {
    let real = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    let mut answer = [real.eax, real.ebx, real.ecx, real.edx];
    if matches!(leaf, 0x12 | 0x14 | 0x19 | 0x1d | 0x1e | 0x20..=0x2f) {
        // SGX, processor trace, Key Locker, AMX, and what is not defined yet.
        return [0; 4];
    }
    for &(hidden_leaf, hidden_subleaf, register, mask, _) in HIDDEN {
        if (leaf, subleaf) == (hidden_leaf, hidden_subleaf) {
            answer[register] &= !mask;
        }
    }
    if leaf == 0xd && subleaf >= 2 && (subleaf >= 32 || crate::gate::VECTOR_COMPONENTS & 1 << subleaf == 0) {
        return [0; 4];
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_offered() {
        assert_eq!(cpuid(7, 0)[1] & (1 << 11), 0, "RTM");
        assert_eq!(cpuid(7, 0)[2] & (1 << 3), 0, "PKU");
        assert_eq!(cpuid(0xd, 0)[0] & !crate::gate::VECTOR_COMPONENTS, 0);
    }

    #[test]
    fn what_is_not_hidden_is_the_processors() {
        assert_eq!(cpuid(0, 0), filtered(0, 0));
        assert_eq!(cpuid(0, 0)[1], core::arch::x86_64::__cpuid(0).ebx);
    }
}

//! CPUID as a guest sees it: the processor's, less what the translator does not offer.
//!
//! The instruction itself costs a VM exit of microseconds under a hypervisor, so each leaf is asked for once, and the
//! answers are handed on when the process executes another program.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock};

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
    *known().entry((leaf, subleaf)).or_insert_with(|| filtered(leaf, subleaf))
}

fn known() -> MutexGuard<'static, HashMap<(u32, u32), Leaf>> {
    static KNOWN: OnceLock<Mutex<HashMap<(u32, u32), Leaf>>> = OnceLock::new();
    KNOWN.get_or_init(Mutex::default).lock().expect("nothing panics while it is held")
}

/// Bytes of an answer, with its question.
const ANSWER_BYTES: usize = 6 * 4;

/// What has been asked so far. The C library of every program asks the same forty questions when it starts.
pub(crate) fn bequest() -> Vec<u8> {
    let known = known();
    let words =
        known.iter().flat_map(|(&(leaf, subleaf), answer)| [leaf, subleaf].into_iter().chain(*answer));
    words.flat_map(u32::to_le_bytes).collect()
}

/// Takes over what a program before an exec has asked.
pub(crate) fn inherit(bequest: &[u8]) {
    let mut known = known();
    for bytes in bequest.as_chunks::<ANSWER_BYTES>().0 {
        let word = |index: usize| {
            let at = index * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        known.insert((word(0), word(1)), [word(2), word(3), word(4), word(5)]);
    }
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
    fn what_was_asked_is_known_after_an_exec() {
        const LEAF: u32 = 0x4fff_0000;
        let bytes: Vec<u8> = [LEAF, 7, 1, 2, 3, 4].into_iter().flat_map(u32::to_le_bytes).collect();
        inherit(&bytes);
        inherit(&bytes[..23]);
        assert_eq!(cpuid(LEAF, 7), [1, 2, 3, 4], "no processor has this leaf");
        let left = bequest();
        assert!(left.as_chunks::<ANSWER_BYTES>().0.iter().any(|answer| answer[..] == bytes[..]));
    }

    #[test]
    fn what_is_not_hidden_is_the_processors() {
        assert_eq!(cpuid(0, 0), filtered(0, 0));
        assert_eq!(cpuid(0, 0)[1], core::arch::x86_64::__cpuid(0).ebx);
    }
}

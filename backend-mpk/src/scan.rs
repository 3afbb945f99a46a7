//! Instructions that load PKRU, found in bytes whatever they mean.
//!
//! Two instructions of user code do: WRPKRU (`0f 01 ef`) and XRSTOR (`0f ae /5` with a memory operand), whose EAX may ask for
//! it. A guest can jump to any byte, so that each place where one could begin is a [`Hit`], in the midst of another instruction or
//! in data as well. Prefixes change neither and need no place of their own. XRSTORS (`0f c7 /3`) faults outside the
//! kernel (SDM volume 2).
//!
//! Not looked for: system calls of all kinds, which the kernel hands over wherever they stand; WRFSBASE and WRGSBASE, because
//! nothing of the monitor's is found through a base that the guest has set.

use core::ops::Range;

/// Bytes of the longest pattern: what is to be seen past a border, plus one.
pub const LENGTH: usize = 3;

/// What begins at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// WRPKRU.
    Wrpkru,
    /// XRSTOR.
    Xrstor,
}

/// A place where an instruction could begin that loads PKRU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Where its `0f` stands, from the start of the bytes.
    pub at: usize,
    /// Which.
    pub kind: Kind,
}

/// All places in `bytes`, in order.
pub fn hits(bytes: &[u8]) -> impl Iterator<Item = Hit> {
    bytes
        .windows(LENGTH)
        .enumerate()
        .filter_map(|(at, window)| Some(Hit { at, kind: kind([window[0], window[1], window[2]])? }))
}

const fn kind(bytes: [u8; LENGTH]) -> Option<Kind> {
    match bytes {
        [0x0f, 0x01, 0xef] => Some(Kind::Wrpkru),
        // ModRM with register 5 and no register as its operand.
        [0x0f, 0xae, modrm] if modrm >> 3 & 7 == 5 && modrm >> 6 != 3 => Some(Kind::Xrstor),
        _ => None,
    }
}

/// Whether the XRSTOR at `at` stands where compilers and the C library put it: after `mov eax, imm32; xor edx, edx`, which
/// nobody expects to find in data. These bytes then are code, and the instruction begins there.
pub fn is_plain_xrstor(bytes: &[u8], at: usize) -> bool {
    const REX_W: u8 = 0x48;
    let at = if at > 0 && bytes[at - 1] == REX_W { at - 1 } else { at };
    const SETUP: usize = 7;
    at >= SETUP && bytes[at - SETUP] == 0xb8 && bytes[at - 2..at] == [0x31, 0xd2]
}

/// The second byte of a [`Hit`] after which it is `ud2`, of the same length for whoever goes on behind it.
pub const UD2_SECOND: u8 = 0x0b;

/// The pages of `length` bytes each that a hit touches.
pub fn pages_of(hit: Hit, page: usize) -> Range<usize> {
    hit.at / page..(hit.at + LENGTH - 1) / page + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(bytes: &[u8]) -> Vec<(usize, Kind)> {
        hits(bytes).map(|hit| (hit.at, hit.kind)).collect()
    }

    #[test]
    fn wrpkru_is_found_at_every_offset() {
        for at in 0..20 {
            let mut bytes = vec![0x90; at];
            bytes.extend([0x0f, 0x01, 0xef, 0x90]);
            assert_eq!(kinds(&bytes), [(at, Kind::Wrpkru)]);
        }
    }

    #[test]
    fn it_is_found_inside_other_instructions() {
        // mov eax, 0x00ef010f
        assert_eq!(kinds(&[0xb8, 0x0f, 0x01, 0xef, 0x00]), [(1, Kind::Wrpkru)]);
        // movsd xmm1, [rip + disp32], as it stands in node
        assert_eq!(kinds(&[0xf2, 0x0f, 0x10, 0x0d, 0x0f, 0xae, 0x28, 0x01]), [(4, Kind::Xrstor)]);
    }

    #[test]
    fn xrstor_is_told_from_its_neighbours_by_register_and_mode() {
        let found: Vec<u8> = (0..=255).filter(|&modrm| !kinds(&[0x0f, 0xae, modrm]).is_empty()).collect();
        let expected: Vec<u8> = (0x28..0x30).chain(0x68..0x70).chain(0xa8..0xb0).collect();
        // LFENCE is e8 to ef; FXRSTOR, XSAVE, CLFLUSH and the writes of segment bases are other registers.
        assert_eq!(found, expected);
    }

    #[test]
    fn an_end_cuts_a_pattern_off() {
        assert_eq!(kinds(&[0x0f, 0x01]), []);
        assert_eq!(kinds(&[]), []);
    }

    #[test]
    fn a_hit_across_a_border_is_of_both_pages() {
        let hit = |at| Hit { at, kind: Kind::Wrpkru };
        assert_eq!(pages_of(hit(4093), 4096), 0..1);
        assert_eq!(pages_of(hit(4094), 4096), 0..2);
        assert_eq!(pages_of(hit(4096), 4096), 1..2);
    }

    #[test]
    fn the_lazy_resolver_of_glibc_is_recognised_and_data_is_not() {
        let resolver = [0xb8, 0xee, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x6c, 0x24, 0x40];
        assert!(is_plain_xrstor(&resolver, 7));
        let wide = [0xb8, 0xe7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0x29];
        assert!(is_plain_xrstor(&wide, 8));
        assert!(!is_plain_xrstor(&resolver[1..], 6));
        assert!(!is_plain_xrstor(&[0xf2, 0x0f, 0x10, 0x0d, 0x0f, 0xae, 0x28, 0x01], 4));
    }
}

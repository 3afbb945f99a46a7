//! The XSAVE area as signal frames hold it: standard format, with words of the kernel's own in the bytes that the
//! processor leaves to software (SDM volume 1, 13.4; arch/x86/include/uapi/asm/sigcontext.h).
//!
//! ```text
//! | x87, SSE: 512 bytes, as FXSAVE | header: 64 | extended components, each where CPUID says | MAGIC2 |
//! 0     24: MXCSR    464: [Software]  512         576                                  Software::size
//! ```

use core::ops::Range;

/// MXCSR.
pub const MXCSR: usize = 24;
/// Which bits of MXCSR the processor has.
pub const MXCSR_MASK: Range<usize> = 28..32;
/// From here to the header no instruction reads or writes.
pub const RESERVED: usize = 416;
/// The kernel's words, in the last of those bytes.
pub const SOFTWARE: Range<usize> = 464..512;
/// The header, which begins with the components that are not in their initial state (XSTATE_BV).
pub const HEADER: usize = 512;
/// The rest of the header: zero in the standard format.
pub const HEADER_RESERVED: Range<usize> = 520..576;
/// Where extended components begin.
pub const EXTENDED: usize = 576;
/// What follows an area with extended components.
pub const MAGIC2: u32 = 0x4650_5845;
/// MXCSR as programs start with it.
pub const MXCSR_DEFAULT: u32 = 0x1f80;
/// The components of the first 512 bytes: x87 and SSE.
pub const LEGACY_COMPONENTS: u64 = 3;
/// The component that holds the rights of protection keys: no part of a guest's state.
pub const PKRU: u64 = 1 << 9;
/// AMX: a process has these two only once it has asked for them (`ARCH_REQ_XCOMP_PERM`).
pub const AMX: u64 = 1 << 17 | 1 << 18;

/// What the kernel says about an area (`struct _fpx_sw_bytes`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Software {
    /// Bytes with [`MAGIC2`].
    pub extended_size: u32,
    /// The components that the area has room for, numbered as in XCR0.
    pub components: u64,
    /// Bytes of the area.
    pub size: u32,
}

impl Software {
    const MAGIC1: u32 = 0x4650_5853;

    /// For an area of `size` bytes.
    pub const fn new(components: u64, size: u32) -> Self {
        Software { extended_size: size + size_of_val(&MAGIC2) as u32, components, size }
    }

    /// The words of an area, if they are there. Async-signal-safe.
    ///
    /// # Panics
    ///
    /// If `area` is shorter than 512 bytes.
    pub fn read(area: &[u8]) -> Option<Self> {
        let at = SOFTWARE.start;
        let is_there = u32_at(area, at) == Self::MAGIC1;
        is_there.then(|| Software {
            extended_size: u32_at(area, at + 4),
            components: u64_at(area, at + 8),
            size: u32_at(area, at + 16),
        })
    }

    /// The words as an area has them.
    ///
    /// # Panics
    ///
    /// If `area` is shorter than 512 bytes.
    pub fn write(&self, area: &mut [u8]) {
        let words = &mut area[SOFTWARE];
        words.fill(0);
        words[0..4].copy_from_slice(&Self::MAGIC1.to_le_bytes());
        words[4..8].copy_from_slice(&self.extended_size.to_le_bytes());
        words[8..16].copy_from_slice(&self.components.to_le_bytes());
        words[16..20].copy_from_slice(&self.size.to_le_bytes());
    }
}

/// The components that the kernel has switched on (XCR0).
pub fn enabled_components() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: XGETBV is there wherever signal frames have XSAVE state, which Linux uses on every processor since 2008.
    // Reads XCR0 into edx:eax; memory, flags and stack are untouched.
    unsafe {
        core::arch::asm!(
            "xgetbv",
            in("ecx") 0,
            out("eax") low,
            out("edx") high,
            options(nomem, nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Bytes of an area with these components: CPUID(0xD, i) tells each one's size and place. Costs a VM exit for each.
pub fn area_length(components: u64) -> usize {
    let end = |component: u32| {
        let leaf = core::arch::x86_64::__cpuid_count(0xd, component);
        (leaf.eax + leaf.ebx) as usize
    };
    (2..63).filter(|&bit| components >> bit & 1 != 0).map(end).fold(EXTENDED, usize::max)
}

/// The bits that MXCSR may have (SDM volume 1, 11.6.6).
pub fn mxcsr_bits() -> u32 {
    #[repr(C, align(16))]
    struct Area([u8; 512]);
    let mut area = Area([0; 512]);
    // SAFETY: FXSAVE writes the 512 aligned bytes that it is given.
    unsafe { core::arch::x86_64::_fxsave64(area.0.as_mut_ptr()) };
    match u32_at(&area.0, MXCSR_MASK.start) {
        0 => 0xffbf,
        mask => mask,
    }
}

fn u32_at(area: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(area[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(area: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(area[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        let mut area = [0xff; EXTENDED];
        assert_eq!(Software::read(&area), None);
        let words = Software::new(0xe7, 2696);
        words.write(&mut area);
        assert_eq!(Software::read(&area), Some(words));
        assert_eq!(words.extended_size, 2700);
        assert_eq!(area[SOFTWARE.end - 1], 0, "what the kernel keeps free");
    }

    #[test]
    fn the_legacy_components_need_no_room_of_their_own() {
        assert_eq!(area_length(LEGACY_COMPONENTS), EXTENDED);
        assert!(area_length(enabled_components()) <= crate::VectorState::area_length());
    }
}

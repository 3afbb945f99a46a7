//! POR_EL0, the rights register of permission overlays (Arm ARM, D24.2.143; FEAT_S1POE).

use std::fmt;

/// An overlay index, in three bits of a page-table entry: what Linux calls a protection key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(u8);

impl Key {
    /// How many Linux has; the register would hold sixteen.
    pub const COUNT: u8 = 8;
    /// The key of all memory that was given no other.
    pub const DEFAULT: Key = Key(0);

    /// The key of this number, if there is one.
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Key(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn shift(self) -> u32 {
        4 * self.0 as u32
    }
}

bitflags::bitflags! {
    /// What the register leaves of one key's rights: an overlay takes away and never adds.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Allowed: u64 {
        /// Loads.
        const READ = 1;
        /// Instruction fetches.
        const EXECUTE = 2;
        /// Stores.
        const WRITE = 4;
    }
}

/// The register's value: four bits a key, of which the highest is reserved.
///
/// ```text
///  63  60       11   8 7    4 3    0
/// +------+-----+------+------+------+
/// |0 WXR | ... |0 WXR |0 WXR |0 WXR |
/// |  k15 |     |  k2  |  k1  |  k0  |
/// +------+-----+------+------+------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Por(u64);

impl Por {
    /// No access to any key.
    pub const NOTHING_ALLOWED: Por = Por(0);

    /// What Linux starts programs and signal handlers with: everything for key 0, nothing for the others
    /// (`POR_EL0_INIT` in arch/arm64/include/asm/por.h).
    pub const LINUX_INITIAL: Por = Por(0x7);

    /// The value that the register holds as these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Por(bits)
    }

    /// The register's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is allowed for a key.
    pub const fn allowed(self, key: Key) -> Allowed {
        Allowed::from_bits_truncate(self.0 >> key.shift())
    }

    /// The same with exactly this allowed for a key.
    #[must_use]
    pub const fn with(self, key: Key, allowed: Allowed) -> Self {
        Por(self.0 & !(0xf << key.shift()) | allowed.bits() << key.shift())
    }
}

impl fmt::Debug for Por {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Por({:#018x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key::new(number).unwrap()
    }

    #[test]
    fn linux_has_eight_keys() {
        assert_eq!(Key::new(7).map(Key::number), Some(7));
        assert_eq!(Key::new(8), None);
    }

    #[test]
    fn a_key_has_four_bits_in_the_order_read_execute_write() {
        assert_eq!(Por::NOTHING_ALLOWED.with(key(0), Allowed::READ).bits(), 0x1);
        assert_eq!(Por::NOTHING_ALLOWED.with(key(0), Allowed::EXECUTE).bits(), 0x2);
        assert_eq!(Por::NOTHING_ALLOWED.with(key(0), Allowed::WRITE).bits(), 0x4);
        assert_eq!(Por::NOTHING_ALLOWED.with(key(1), Allowed::READ | Allowed::WRITE).bits(), 0x50);
        assert_eq!(Por::NOTHING_ALLOWED.with(key(7), Allowed::all()).bits(), 0x7000_0000);
    }

    #[test]
    fn linux_starts_with_the_default_key_only() {
        assert_eq!(Por::LINUX_INITIAL.allowed(Key::DEFAULT), Allowed::all());
        for number in 1..Key::COUNT {
            assert_eq!(Por::LINUX_INITIAL.allowed(key(number)), Allowed::empty());
        }
    }

    #[test]
    fn changing_one_key_leaves_the_others() {
        let before = Por::from_bits(0x7531_0246);
        let after = before.with(key(3), Allowed::EXECUTE);
        assert_eq!(after.allowed(key(3)), Allowed::EXECUTE);
        for number in (0..Key::COUNT).filter(|&number| number != 3) {
            assert_eq!(after.allowed(key(number)), before.allowed(key(number)));
        }
    }
}

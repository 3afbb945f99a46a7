//! PKRU, the rights register of protection keys (SDM volume 3, 4.6.2).

use std::fmt;

/// A protection key: 0 to 15, in bits 62:59 of a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(u8);

impl Key {
    /// How many the hardware has.
    pub const COUNT: u8 = 16;
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
        2 * self.0 as u32
    }
}

bitflags::bitflags! {
    /// What the register takes away from one key's pages. Instruction fetches are never affected.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Denied: u32 {
        /// All data accesses (AD).
        const ACCESS = 1;
        /// Stores (WD).
        const WRITE = 2;
    }
}

/// The register's value: two bits a key.
///
/// ```text
///  31 30  29 28        5  4   3  2   1  0
/// +--+--+--+--+-----+--+--+--+--+--+--+--+
/// |WD AD|WD AD| ... |WD AD|WD AD|WD AD|
/// | k15 | k14 |     |  k2 |  k1 |  k0 |
/// +-----+-----+-----+-----+-----+-----+
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pkru(u32);

impl Pkru {
    /// Every access to every key.
    pub const ALL_ALLOWED: Pkru = Pkru(0);

    /// What Linux starts programs and signal handlers with: no access but to key 0 (`init_pkru_value` in
    /// arch/x86/mm/pkeys.c).
    pub const LINUX_INITIAL: Pkru = Pkru(0x5555_5554);

    /// The value that the register holds as these bits.
    pub const fn from_bits(bits: u32) -> Self {
        Pkru(bits)
    }

    /// The register's bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What is denied for a key.
    pub const fn denied(self, key: Key) -> Denied {
        Denied::from_bits_truncate(self.0 >> key.shift())
    }

    /// The same with exactly this denied for a key.
    #[must_use]
    pub const fn with(self, key: Key, denied: Denied) -> Self {
        let cleared = self.0 & !(Denied::all().bits() << key.shift());
        Pkru(cleared | denied.bits() << key.shift())
    }
}

impl fmt::Debug for Pkru {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkru({:#010x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key::new(number).unwrap()
    }

    #[test]
    fn there_are_sixteen_keys() {
        assert_eq!(Key::new(15).map(Key::number), Some(15));
        assert_eq!(Key::new(16), None);
    }

    #[test]
    fn access_disable_is_the_lower_bit_of_a_key_s_pair() {
        assert_eq!(Pkru::ALL_ALLOWED.with(key(0), Denied::ACCESS).bits(), 0b01);
        assert_eq!(Pkru::ALL_ALLOWED.with(key(0), Denied::WRITE).bits(), 0b10);
        assert_eq!(Pkru::ALL_ALLOWED.with(key(1), Denied::ACCESS).bits(), 0b0100);
        assert_eq!(Pkru::ALL_ALLOWED.with(key(15), Denied::all()).bits(), 0xc000_0000);
    }

    #[test]
    fn linux_starts_with_access_to_the_default_key_only() {
        assert_eq!(Pkru::LINUX_INITIAL.denied(Key::DEFAULT), Denied::empty());
        for number in 1..Key::COUNT {
            assert_eq!(Pkru::LINUX_INITIAL.denied(key(number)), Denied::ACCESS);
        }
    }

    #[test]
    fn changing_one_key_leaves_the_others() {
        let before = Pkru::from_bits(0xa5c3_1e78);
        let after = before.with(key(7), Denied::WRITE);
        assert_eq!(after.denied(key(7)), Denied::WRITE);
        for number in (0..Key::COUNT).filter(|&number| number != 7) {
            assert_eq!(after.denied(key(number)), before.denied(key(number)));
        }
    }
}

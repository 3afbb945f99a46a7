//! Tagged pointers of the memory tagging extension (Arm ARM, D10; FEAT_MTE2).

/// A tag: four bits, 0 to 15, kept for every 16 bytes of memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(u8);

/// Bytes that share a tag.
pub const GRANULE: u64 = 16;

/// Where a pointer holds its tag.
///
/// ```text
///  63  60 59  56 55                      0
/// +------+------+-------------------------+
/// |unused| tag  |         address         |
/// +------+------+-------------------------+
/// ```
const SHIFT: u32 = 56;
const MASK: u64 = 0xf << SHIFT;

impl Tag {
    /// How many there are.
    pub const COUNT: u8 = 16;

    /// The tag of this number, if there is one.
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Tag(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The tag that a pointer holds.
    pub const fn of(pointer: u64) -> Self {
        Tag((pointer >> SHIFT & 0xf) as u8)
    }

    /// A pointer to the same address that holds this tag.
    pub const fn put(self, pointer: u64) -> u64 {
        pointer & !MASK | (self.0 as u64) << SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixteen_tags() {
        assert_eq!(Tag::new(15).map(Tag::number), Some(15));
        assert_eq!(Tag::new(16), None);
    }

    #[test]
    fn a_tag_lies_in_bits_56_to_59() {
        assert_eq!(Tag::new(0xb).unwrap().put(0x0000_7fff_1234_5678), 0x0b00_7fff_1234_5678);
        assert_eq!(Tag::of(0xfb00_7fff_1234_5678), Tag::new(0xb).unwrap());
    }

    #[test]
    fn putting_a_tag_replaces_the_old_one_and_nothing_else() {
        assert_eq!(Tag::new(1).unwrap().put(0xff12_3456_789a_bcde), 0xf112_3456_789a_bcde);
    }
}

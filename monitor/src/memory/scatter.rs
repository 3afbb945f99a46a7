//! Where code from files goes: at places that look random and stay.
//!
//! Translations are kept from one process to the next, and are of use only where the code lies at the same address again.
//! So the address follows from the file and from a secret: whoever does not know the secret cannot guess it, and two files
//! give away nothing of each other's. Stack, heap and anonymous memory do not take part: they move with every exec.
//!
//! The secret lasts until the machine is started again, which is what other systems grant to libraries that processes share
//! (Windows, macOS, the processes of Android's zygote). Without a store it is drawn anew for every exec.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, PAGE_SIZE};

use super::intervals::Intervals;

/// Where libraries go: 64 Ki pages to begin at. Anonymous memory grows down towards it.
const LIBRARIES_START: u64 = 0x6000_0000;
const LIBRARIES_END: u64 = 0x7000_0000;
/// A longer file takes what is free.
const LONGEST: u64 = (LIBRARIES_END - LIBRARIES_START) / 4;
/// How many places are looked at.
const ATTEMPTS: u32 = 8;

/// The secret from which places follow.
#[derive(Clone, Copy)]
pub struct Scatter([u8; 32]);

impl core::fmt::Debug for Scatter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Scatter(…)")
    }
}

impl Scatter {
    /// Places that follow from a secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Scatter(secret)
    }

    /// A number below `below` that is a file's own.
    pub fn number(&self, device: u64, inode: u64, attempt: u32, below: u64) -> u64 {
        let mut input = [0; 20];
        input[..8].copy_from_slice(&device.to_le_bytes());
        input[8..16].copy_from_slice(&inode.to_le_bytes());
        input[16..].copy_from_slice(&attempt.to_le_bytes());
        let hash = blake3::keyed_hash(&self.0, &input);
        let (word, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        u64::from_le_bytes(*word) % below
    }

    /// The first free one of the places that `length` bytes of a file have among the libraries.
    pub(super) fn place(
        &self,
        device: u64,
        inode: u64,
        length: u64,
        mappings: &Intervals,
    ) -> Option<GuestRange> {
        if length > LONGEST {
            return None;
        }
        let pages = (LIBRARIES_END - LIBRARIES_START - length) / PAGE_SIZE + 1;
        (0..ATTEMPTS).find_map(|attempt| {
            let page = self.number(device, inode, attempt, pages);
            let range = GuestRange::new(GuestAddr(LIBRARIES_START + page * PAGE_SIZE), length)?;
            mappings.is_free_for_placement(range).then_some(range)
        })
    }
}

/// Whether a range lies among the libraries.
pub(super) fn is_among_libraries(range: GuestRange) -> bool {
    range.start().0 >= LIBRARIES_START && range.end().0 <= LIBRARIES_END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_same_place_again_and_another_secret_another() {
        let [one, two] = [[1; 32], [2; 32]].map(Scatter::new);
        let empty = Intervals::default();
        let place = one.place(1, 7, 0x5000, &empty);
        assert!(place.is_some_and(is_among_libraries));
        assert_eq!(place, one.place(1, 7, 0x5000, &empty));
        assert_ne!(place, one.place(1, 8, 0x5000, &empty));
        assert_ne!(place, two.place(1, 7, 0x5000, &empty));
    }

    #[test]
    fn places_are_spread_over_the_whole_range() {
        let scatter = Scatter::new([3; 32]);
        let places: Vec<u64> = (0..1000)
            .filter_map(|inode| scatter.place(1, inode, PAGE_SIZE, &Intervals::default()))
            .map(|range| range.start().0)
            .collect();
        assert_eq!(places.len(), 1000);
        let sixteenths: std::collections::BTreeSet<u64> = places.iter().map(|place| place >> 24).collect();
        assert_eq!(sixteenths.len(), 16);
    }

    #[test]
    fn what_is_too_long_has_no_place() {
        assert_eq!(Scatter::new([0; 32]).place(1, 1, LONGEST + 1, &Intervals::default()), None);
    }
}

//! Instructions before and after translation, counted in the text of `endo run --dump-fragments`.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Context;

/// The guest code that operations are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// How many operations the first stretch holds.
    operations: u64,
    /// A stretch with this many operations.
    stretch: Range<u64>,
    /// A stretch that each operation runs once.
    target: Range<u64>,
}

impl Places {
    /// Of the line `NAME OPERATIONS FROM-TO [FROM-TO]` with this name.
    pub fn parse(text: &str, name: &str) -> anyhow::Result<Places> {
        let mut words = text
            .lines()
            .map(|line| line.split(' '))
            .find_map(|mut words| (words.next() == Some(name)).then_some(words))
            .with_context(|| format!("{name} has no places"))?;
        let operations = words.next().and_then(|word| word.parse().ok()).filter(|&count| count > 0);
        let stretch = words.next().and_then(range);
        Ok(Places {
            operations: operations.with_context(|| format!("{name} has no operations"))?,
            stretch: stretch.with_context(|| format!("{name} has no code"))?,
            target: words.next().and_then(range).unwrap_or(0..0),
        })
    }
}

fn range(word: &str) -> Option<Range<u64>> {
    let (from, to) = word.split_once('-')?;
    Some(u64::from_str_radix(from, 16).ok()?..u64::from_str_radix(to, 16).ok()?)
}

/// Instructions an operation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Count {
    /// In the guest's code.
    pub guest: f64,
    /// In the emitted code.
    pub emitted: f64,
}

/// How many instructions each guest instruction became, by its address. Of an address that was translated more than once
/// the last translation counts.
#[derive(Debug)]
pub struct Listing {
    emitted: BTreeMap<u64, u64>,
}

impl Listing {
    /// Reads the rows of fragments: `ADDRESS: GUEST | +OFFSET: EMITTED`, further emitted instructions without a guest's. What
    /// comes before a fragment's first guest instruction, the reload of an indirect entry, counts as part of it.
    pub fn parse(text: &str) -> Listing {
        let mut emitted = BTreeMap::new();
        let (mut at, mut before) = (None, 0);
        for line in text.lines() {
            if line.starts_with("fragment ") || line.starts_with("    (") || line.starts_with("    exit ") {
                (at, before) = (None, 0);
                continue;
            }
            let Some((left, right)) = line.rsplit_once(" |") else { continue };
            let instructions = u64::from(right.trim_start().starts_with('+'));
            let address =
                left.trim_start().split_once(':').and_then(|(word, _)| u64::from_str_radix(word, 16).ok());
            match (address, at) {
                (Some(address), _) => {
                    emitted.insert(address, instructions + before);
                    (at, before) = (Some(address), 0);
                }
                (None, Some(address)) => *emitted.entry(address).or_default() += instructions,
                (None, None) => before += instructions,
            }
        }
        Listing { emitted }
    }

    /// The instructions that one operation is made of.
    pub fn count(&self, places: &Places) -> Count {
        let sums = |range: &Range<u64>| {
            let rows = self.emitted.range(range.clone());
            rows.fold((0.0, 0.0), |(guest, emitted), (_, &count)| (guest + 1.0, emitted + count as f64))
        };
        let (stretch, target, operations) =
            (sums(&places.stretch), sums(&places.target), places.operations as f64);
        Count { guest: stretch.0 / operations + target.0, emitted: stretch.1 / operations + target.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
fragment 7f00: guest 401000..401004, 2 instructions, 4 bytes -> 10 bytes, verified
                    | +0000: mov %fs:0xFF,%r11
    401000: push %rbp   | +0009: push %rbp
    401001: call 401010 | +000a: push $0x401006
                        | +000f: jmp 7f20
                        | +0014: mov %fs:0xFF,%r11
    (exit stubs)        | +001d: movl $0,%fs:0xFF
                        | +0029: jmp 7000
    exit at +0010 to guest 401010, stub at +001d
    indirect entry for guest 401000 at +0000

fragment 7f40: guest 401010..401011, 1 instructions, 1 bytes -> 20 bytes, verified
    401010: ret         | +0000: pop %r11
                        | +0002: mov %r11d,%r11d
                        | +0005: jmpq *%gs:(,%r11,8)
";

    #[test]
    fn a_stretch_counts_by_operation_and_a_target_once() {
        let places = Places::parse("x 1 0-1\ny 2 401000-401006 401010-401011\n", "y").unwrap();
        let count = Listing::parse(TEXT).count(&places);
        // push with the entry's reload: 2; call: 3; over two operations. ret: 3.
        assert_eq!(count, Count { guest: 2.0, emitted: 5.5 });
    }

    #[test]
    fn exit_stubs_are_no_part_of_an_operation() {
        assert_eq!(Listing::parse(TEXT).emitted[&0x40_1001], 3);
    }

    #[test]
    fn the_last_translation_of_an_address_counts() {
        let again = "fragment 7f80: guest 401010..401011\n    401010: ret | +0000: jmp 7000\n";
        assert_eq!(Listing::parse(&format!("{TEXT}{again}")).emitted[&0x40_1010], 1);
    }

    #[test]
    fn a_guest_instruction_that_needs_no_code_counts_as_one_to_none() {
        let text = "fragment 7f80: guest 1..2\n    401010: nop |\n";
        let places = Places::parse("n 1 401010-401011", "n").unwrap();
        assert_eq!(Listing::parse(text).count(&places), Count { guest: 1.0, emitted: 0.0 });
    }

    #[test]
    fn places_that_say_nothing_are_refused() {
        assert!(Places::parse("x 1 0-1", "y").is_err());
        assert!(Places::parse("x 0 0-1", "x").is_err());
        assert!(Places::parse("x 1 0", "x").is_err());
    }
}

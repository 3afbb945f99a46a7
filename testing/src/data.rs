//! Input that is the same on every machine.

/// A generator of numbers without statistical ambitions: xorshift64*.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence that belongs to a seed.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

/// The syllables that words are made of.
const SYLLABLES: [&str; 24] = [
    "ka", "to", "mi", "ren", "sol", "ba", "der", "ing", "est", "al", "qu", "ver", "no", "ti", "ar", "men",
    "pro", "le", "sa", "un", "dor", "gra", "phi", "ex",
];

/// Text of this many bytes: lines of words, some of them often and some rarely, with numbers in between.
pub fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let words: Vec<String> = (0..4000)
        .map(|_| {
            let syllables = 1 + numbers.below(4);
            (0..syllables).map(|_| SYLLABLES[numbers.below(SYLLABLES.len() as u64) as usize]).collect()
        })
        .collect();
    let mut text = Vec::with_capacity(bytes + 64);
    let mut column = 0;
    while text.len() < bytes {
        let limit = 1 + numbers.below(words.len() as u64);
        let word = &words[numbers.below(limit) as usize];
        text.extend_from_slice(word.as_bytes());
        column += 1;
        if numbers.below(17) == 0 {
            text.extend_from_slice(format!(" {}", numbers.below(100_000)).as_bytes());
        }
        if column > 12 {
            column = 0;
            text.push(b'\n');
        } else {
            text.push(b' ');
        }
    }
    text.truncate(bytes);
    text
}

/// Bytes of which some parts compress well, some badly and some not at all.
pub fn mixed(bytes: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let words = text(256 << 10, seed);
    let mut mixed = Vec::with_capacity(bytes + (64 << 10));
    while mixed.len() < bytes {
        let length = 1 + numbers.below(16 << 10) as usize;
        match numbers.below(4) {
            0 => mixed.extend((0..length / 2).map(|_| numbers.below(256) as u8)),
            1 => {
                let value = numbers.below(1 << 40);
                for index in 0..length as u64 / 8 {
                    mixed.extend_from_slice(&(value + index * 24).to_le_bytes());
                }
            }
            _ => {
                let start = numbers.below((words.len() - length) as u64) as usize;
                mixed.extend_from_slice(&words[start..start + length]);
            }
        }
    }
    mixed.truncate(bytes);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_length_asked_for_and_depends_on_the_seed_alone() {
        assert_eq!(mixed(100_000, 7).len(), 100_000);
        assert_eq!(mixed(10_000, 7), mixed(10_000, 7));
        assert_ne!(text(10_000, 7), text(10_000, 8));
    }
}

//! Translates bytes by themselves and lists what comes out, with the verifier's verdict.

use endo_sfi::context::Context;
use endo_sfi::listing::Listing;
use endo_sfi::returns::Returns;
use endo_sfi::translate::{Alone, Constants, MAX_INSTRUCTIONS, Source, Translator};
use endo_sfi::verify::{Claims, Gates, Layout, Verifier};

/// Where the pretended cache and its gates lie, and the pretended context.
const CACHE: u64 = 0x7f00_0000_0000;
const PLACE: u64 = CACHE + 0x2000;
const CONTEXT: i32 = -0x400;

/// The listings of all fragments that the bytes at `start` make, one behind the other.
pub fn listings(bytes: &[u8], start: u32) -> Vec<String> {
    let mut texts = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let (text, end) = fragment(&bytes[offset..], start + offset as u32);
        texts.push(text);
        offset = (end - start) as usize;
    }
    texts
}

/// The listing of the fragment that begins with these bytes, and the guest address past its end.
pub fn fragment(bytes: &[u8], start: u32) -> (String, u32) {
    let constants = Constants { link: CACHE, special: CACHE + 0x80, syscall: CACHE + 0x40 };
    let mut translator = Translator::new(CONTEXT, constants);
    translator.source_mut().extend_from_slice(bytes);
    let source = Source { start, limit: MAX_INSTRUCTIONS, indirect: true, overlap: 0 };
    translator.translate(source, PLACE, &Alone::default());
    let claimed: Vec<u32> = translator.indirect_entries().iter().map(|&(_, offset)| offset).collect();
    let mut verifier = Verifier::new(Layout {
        cache: CACHE..CACHE + 0x10_0000,
        context: Context::slots(CONTEXT),
        gates: Gates {
            link: constants.link,
            special: constants.special,
            syscall: constants.syscall,
            miss: CACHE + 0xc0,
        },
        returns: Returns::Dispatched,
    });
    let verdict = match verifier.admit(PLACE, translator.code(), &Claims { indirect_entries: &claimed }) {
        Ok(()) => "verified".to_owned(),
        Err(refusal) => format!("REFUSED: {refusal}"),
    };
    let listing = Listing {
        start,
        end: translator.end(),
        source: bytes,
        address: PLACE,
        code: translator.code(),
        body: translator.body(),
        map: translator.map(),
        exits: translator.exits(),
        entries: translator.indirect_entries(),
        verdict: &verdict,
    };
    (listing.to_string(), translator.end())
}

/// Bytes written as hexadecimal digits, with or without spaces, commas or `0x` between them.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: String =
        text.replace("0x", "").chars().filter(|digit| !digit.is_whitespace() && *digit != ',').collect();
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_the_usual_notations() {
        assert_eq!(parse_hex("48 8b 07"), Some(vec![0x48, 0x8b, 0x07]));
        assert_eq!(parse_hex("0x48,0x8b"), Some(vec![0x48, 0x8b]));
        assert_eq!(parse_hex("488"), None);
        assert_eq!(parse_hex("4g"), None);
    }

    #[test]
    fn a_load_is_listed_with_its_confined_form_and_the_verdict() {
        let [text] = listings(&[0x48, 0x8b, 0x07, 0xc3], 0x1000).try_into().expect("one fragment");
        assert!(text.lines().next().is_some_and(|line| line.ends_with("verified")), "{text}");
        assert!(text.contains("mov (%rdi),%rax") && text.contains("(%edi),%rax"), "{text}");
        assert!(text.contains("ret"), "{text}");
    }
}

//! What loads the rights of protection keys, in every byte of the executable that can run.
//!
//! Any guest of the keys backend can jump to any byte of Endo's text. It takes away what it finds when it starts
//! (backend-mpk/src/x86_64/own_text.rs), or refuses to start; so here is what it may find: XRSTOR of other backends' gates, in
//! the form that it can take away. A new place is an accident of the compiler's, or a mistake.

use anyhow::Context;
use goblin::elf::Elf;
use goblin::elf::program_header::{PF_X, PT_LOAD};

use super::Program;

/// How the symbols of code begin that may have an XRSTOR.
const MAY_RESTORE: &[&str] = &["endo_sfi_"];

/// Everything that should not be there.
pub(super) fn objections(bytes: &[u8], program: &Program<'_>) -> anyhow::Result<Vec<String>> {
    let elf = Elf::parse(bytes).context("not an ELF file")?;
    let mut objections = Vec::new();
    for header in elf.program_headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_flags & PF_X != 0) {
        let text = bytes.get(header.file_range()).context("a segment leads out of the file")?;
        for (at, instruction) in places(text) {
            let address = header.p_vaddr + at as u64;
            let name = program.function_at(address).map_or("no function", |(_, function)| function.name);
            let is_expected = instruction == "xrstor"
                && follows_its_setup(text, at)
                && MAY_RESTORE.iter().any(|prefix| name.starts_with(prefix));
            if !is_expected {
                objections.push(format!("{name}: the bytes of {instruction} at {address:#x}"));
            }
        }
    }
    Ok(objections)
}

/// Where WRPKRU or XRSTOR could begin.
fn places(text: &[u8]) -> impl Iterator<Item = (usize, &'static str)> {
    text.windows(3).enumerate().filter_map(|(at, window)| match *window {
        [0x0f, 0x01, 0xef] => Some((at, "wrpkru")),
        [0x0f, 0xae, modrm] if modrm >> 3 & 7 == 5 && modrm < 0xc0 => Some((at, "xrstor")),
        _ => None,
    })
}

/// `mov eax, imm32; xor edx, edx` and perhaps REX.W before it.
fn follows_its_setup(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let before = before.strip_suffix(&[0x48]).unwrap_or(before);
    before.len() >= 7 && before[before.len() - 7] == 0xb8 && before.ends_with(&[0x31, 0xd2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_found_wherever_they_begin() {
        let text = [0xb8, 0x0f, 0x01, 0xef, 0x00, 0x0f, 0xae, 0x28, 0x0f, 0xae, 0xe8];
        let found: Vec<_> = places(&text).collect();
        // The last one is LFENCE.
        assert_eq!(found, [(1, "wrpkru"), (5, "xrstor")]);
    }

    #[test]
    fn a_restore_has_its_mask_set_right_before() {
        let gate = [0xb8, 0xe7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0x29];
        assert!(follows_its_setup(&gate, 8));
        assert!(!follows_its_setup(&gate[1..], 7));
    }
}

//! XRSTOR in Endo's own code that Endo needs: the dynamic linker's, which the C library comes through on its first call of each
//! function. It moves to a page of its own, where a check follows it:
//!
//! ```text
//! mov eax, imm; xor edx, edx; xrstor [rsp + 0x40]   becomes   jmp thunk; ud2; ud2; ...
//!
//! thunk: mov eax, imm; xor edx, edx; xrstor [rsp + 0x40]; cmp eax, imm; jne refuse; jmp back
//! ```
//!
//! Whoever jumps to the XRSTOR with a mask of their own, that includes the rights, is refused by `ud2` right behind it. Flags are
//! free there: a function is about to be called.

use core::ptr;
use std::io;

use endo_core::{HostAddr, PAGE_SIZE};
use iced_x86::{Decoder, DecoderOptions};

use crate::scan;

/// Bytes of `mov eax, imm32; xor edx, edx`.
const SETUP: usize = 7;
/// The component of rights, in the mask.
const PKRU: u32 = 1 << 9;

/// Code that stands elsewhere from now on.
#[derive(Debug, PartialEq, Eq)]
struct Sequence {
    /// Where it begins, from the start of the bytes, and its length.
    start: usize,
    length: usize,
    mask: u32,
}

/// Moves the XRSTOR at `hit` away, in code that lies at `base`. False if it is of no form that can be.
pub(super) fn replace(bytes: &[u8], base: usize, hit: usize) -> io::Result<bool> {
    let Some(sequence) = sequence(bytes, hit) else { return Ok(false) };
    let site = base + sequence.start;
    let page = map_near(site)?;
    let code = &bytes[sequence.start..sequence.start + sequence.length];
    let Some(thunk) = assemble(code, sequence.mask, page, site + sequence.length) else { return Ok(false) };
    let Some(entry) = jump(site, page) else { return Ok(false) };
    // SAFETY: the page was just mapped, and the thunk is shorter.
    unsafe { ptr::copy_nonoverlapping(thunk.as_ptr(), HostAddr(page).as_ptr(), thunk.len()) };
    super::own_text::set_protection(page, PAGE_SIZE as usize, libc::PROT_READ | libc::PROT_EXEC)?;
    let mut stub = entry.to_vec();
    while stub.len() < sequence.length {
        stub.extend([0x0f, 0x0b]);
    }
    stub.truncate(sequence.length);
    super::own_text::overwrite(site, &stub)?;
    Ok(true)
}

fn sequence(bytes: &[u8], hit: usize) -> Option<Sequence> {
    if !scan::is_plain_xrstor(bytes, hit) {
        return None;
    }
    let opcode = if bytes[hit - 1] == 0x48 { hit - 1 } else { hit };
    let start = opcode.checked_sub(SETUP)?;
    let mask = u32::from_le_bytes(bytes[start + 1..start + 5].try_into().ok()?);
    let instruction = Decoder::with_ip(64, &bytes[opcode..], 0, DecoderOptions::NONE).decode();
    let can_move = !instruction.is_invalid() && !instruction.is_ip_rel_memory_operand() && mask & PKRU == 0;
    can_move.then(|| Sequence { start, length: SETUP + instruction.len(), mask })
}

/// The thunk that stands at `at` and goes back to `back`.
fn assemble(code: &[u8], mask: u32, at: usize, back: usize) -> Option<Vec<u8>> {
    let mut thunk = code.to_vec();
    thunk.push(0x3d);
    thunk.extend(mask.to_le_bytes());
    // je past the ud2
    thunk.extend([0x74, 0x02, 0x0f, 0x0b]);
    let jump = jump(at + thunk.len(), back)?;
    thunk.extend(jump);
    (scan::hits(&thunk).count() == 1).then_some(thunk)
}

fn jump(from: usize, to: usize) -> Option<[u8; 5]> {
    let distance = i32::try_from(to as i64 - (from as i64 + 5)).ok()?;
    let [a, b, c, d] = distance.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// A page within reach of a jump.
fn map_near(site: usize) -> io::Result<usize> {
    const STEP: usize = 1 << 20;
    const REACH: usize = 1 << 30;
    let (rights, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
    );
    let around = (1..REACH / STEP).flat_map(|n| [site.checked_sub(n * STEP), site.checked_add(n * STEP)]);
    for candidate in around.flatten() {
        let wanted = HostAddr(candidate & !(PAGE_SIZE as usize - 1));
        // SAFETY: nothing is replaced.
        let page = unsafe { libc::mmap(wanted.as_ptr(), PAGE_SIZE as usize, rights, flags, -1, 0) };
        if page == wanted.as_ptr() {
            return Ok(wanted.0);
        }
    }
    Err(io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLVER: [u8; 14] = [0x90, 0xb8, 0xee, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x6c, 0x24, 0x40, 0x90];

    #[test]
    fn the_resolver_s_sequence_is_found_whole() {
        assert_eq!(sequence(&RESOLVER, 8), Some(Sequence { start: 1, length: 12, mask: 0xee }));
    }

    #[test]
    fn a_mask_with_the_rights_is_not_moved() {
        let mut code = RESOLVER;
        code[3] = 0x02;
        assert_eq!(sequence(&code, 8), None);
    }

    #[test]
    fn a_thunk_checks_the_mask_right_behind_xrstor() {
        let thunk = assemble(&RESOLVER[1..13], 0xee, 0x1000, 0x2000).unwrap();
        assert_eq!(thunk[..12], RESOLVER[1..13]);
        assert_eq!(thunk[12..21], [0x3d, 0xee, 0, 0, 0, 0x74, 0x02, 0x0f, 0x0b]);
        // jmp from 0x1000 + 21 to 0x2000
        assert_eq!(thunk[21..], [0xe9, 0xe6, 0x0f, 0, 0]);
    }
}

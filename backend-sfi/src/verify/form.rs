//! What the table of common forms says about one, in a byte.
//!
//! Compiled twice: into the crate, which reads the table, and into `build.rs`, which writes it.
//!
//! ```text
//! bits 0 ..= 2     how it is checked; 0: not at all, the decoder is asked
//! bit  3           it has a ModRM byte
//! bits 4 ..= 6     bytes of its immediate: 0, 1, 2, 4 or 8
//! ```

/// The bit of forms with a ModRM byte.
pub(crate) const MODRM: u8 = 8;

/// How a common form is checked, and what it means for sequences of instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Check {
    /// Its memory operand must be confined. No sequence goes on behind it.
    Plain = 1,
    /// Likewise, and it may begin a sequence: `mov` to a register, `movzx`.
    Move,
    /// Likewise, and a dispatch's index survives it: `mov` to memory, `push`.
    Keep,
    /// Its memory operand is not accessed: `lea`, `nop`.
    Address,
}

impl Check {
    #[inline]
    pub(crate) fn of(form: u8) -> Option<Check> {
        [None, Some(Check::Plain), Some(Check::Move), Some(Check::Keep), Some(Check::Address)]
            .get(usize::from(form & 7))
            .copied()
            .flatten()
    }
}

/// Where the row of an opcode is.
#[inline]
pub(crate) fn key(map: usize, mandatory: usize, is_wide: bool, opcode: u8) -> usize {
    ((map & 1) << 3 | (mandatory & 3) << 1 | usize::from(is_wide)) << 8 | usize::from(opcode)
}

/// Where the form of a row is for a ModRM byte.
#[inline]
pub(crate) fn index(row: u8, modrm: u8) -> usize {
    usize::from(row) << 4 | usize::from(modrm >> 3 & 7) << 1 | usize::from(modrm >= 0xc0)
}

/// Bytes of a ModRM byte that names memory, and of what belongs to it; `None` for what is relative to the instruction pointer.
#[inline]
pub(crate) const fn memory_bytes(modrm: u8, sib: u8) -> Option<usize> {
    let (mode, base) = (modrm >> 6, modrm & 7);
    let scaled = base == 4;
    let displacement = match mode {
        0 if base == 5 => return None,
        0 if scaled && sib & 7 == 5 => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    Some(1 + scaled as usize + displacement)
}

/// Bytes of a form's immediate operand.
#[inline]
pub(crate) fn immediate_bytes(form: u8) -> usize {
    (1 << (form >> 4 & 7)) >> 1
}

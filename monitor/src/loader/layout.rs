//! Where the parts of a loaded program lie, as the kernel remembers it for /proc (`struct mm_struct`, fs/binfmt_elf.c).

use endo_core::Rights;

use super::elf::Segment;
use super::stack::InitialStack;

/// Guest addresses: the first byte of each part and one past its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// The program's code.
    pub code: (u64, u64),
    /// Its data, as far as the file has it.
    pub data: (u64, u64),
    /// The stack pointer at its first instruction.
    pub stack: u64,
    /// The strings of its arguments.
    pub arguments: (u64, u64),
    /// The strings of its environment.
    pub environment: (u64, u64),
}

impl Layout {
    /// The layout of a program whose segments were moved by `bias`, with this stack.
    pub fn new(segments: &[Segment], bias: u64, stack: &InitialStack) -> Self {
        let ends = |segment: &Segment| segment.address.wrapping_add(segment.file_bytes).wrapping_add(bias);
        let starts = |segment: &Segment| segment.address.wrapping_add(bias);
        let code = || segments.iter().filter(|segment| segment.rights.contains(Rights::EXECUTE));
        Layout {
            code: (code().map(starts).min().unwrap_or(0), code().map(ends).max().unwrap_or(0)),
            data: (
                segments.iter().map(starts).max().unwrap_or(0),
                segments.iter().map(ends).max().unwrap_or(0),
            ),
            stack: stack.pointer,
            arguments: stack.argument_strings,
            environment: stack.environment_strings,
        }
    }
}

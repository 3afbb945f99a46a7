//! Why bytes were refused.

use std::fmt;

/// A fragment that was not admitted: the first instruction that breaks a rule, and the rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("refused at offset {offset:#x} ({bytes}): {reason}")]
pub struct Refusal {
    /// Offset in the fragment of the instruction at fault.
    pub offset: usize,
    /// That instruction's bytes.
    pub bytes: InstructionBytes,
    /// The rule it breaks.
    pub reason: Reason,
}

impl Refusal {
    pub(super) fn new(fragment: &[u8], offset: usize, length: usize, reason: Reason) -> Refusal {
        let end = offset.saturating_add(length).min(fragment.len());
        let bytes = InstructionBytes::from(fragment.get(offset..end).unwrap_or_default());
        Refusal { offset, bytes, reason }
    }
}

/// At most 15 bytes of one instruction.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct InstructionBytes {
    bytes: [u8; 15],
    length: u8,
}

impl InstructionBytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl From<&[u8]> for InstructionBytes {
    fn from(source: &[u8]) -> InstructionBytes {
        let mut copy = InstructionBytes::default();
        for (to, from) in copy.bytes.iter_mut().zip(source) {
            *to = *from;
            copy.length += 1;
        }
        copy
    }
}

impl fmt::Debug for InstructionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InstructionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.as_slice().iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The rule that a refused fragment breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    /// The fragment has no bytes.
    #[error("the fragment is empty")]
    Empty,
    /// The fragment is not wholly inside the code cache, or covers a gate.
    #[error("the fragment is not in the part of the code cache that is for fragments")]
    OutsideCache,
    /// The fragment overlaps one that has not been retired.
    #[error("the fragment overlaps a live one")]
    Occupied,
    /// The bytes are no instruction, or one that is cut off.
    #[error("the bytes do not decode")]
    Undecodable,
    /// The instruction is not on the allow-list.
    #[error("instruction not allowed: {0}")]
    NotAllowed(&'static str),
    /// A memory operand lacks the 32-bit address size.
    #[error("memory operand without a 32-bit address")]
    Unguarded,
    /// A memory operand, or a `lea` other than the system call's, is relative to rip or eip.
    #[error("operand relative to the instruction pointer")]
    InstructionRelative,
    /// A memory operand that is neither explicit nor of a kind with its own rule.
    #[error("implicit memory operand")]
    ImplicitMemory,
    /// An fs or gs prefix outside the exact forms for the context and the dispatch.
    #[error("fs or gs prefix outside the exact forms")]
    Segment,
    /// A context access to something that is no slot, or not one for that access.
    #[error("context displacement {0:#x} may not be accessed so")]
    ContextSlot(i32),
    /// A string instruction with a 32-bit address size or a segment prefix.
    #[error("string instruction with an address-size or segment prefix")]
    StringPrefix,
    /// A string instruction whose index registers were not confined directly before.
    #[error("string index not confined directly before")]
    StringIndex,
    /// A `leave` without `mov ebp, ebp` directly before.
    #[error("leave without `mov ebp, ebp` directly before")]
    Frame,
    /// A `pop` into rsp or sp.
    #[error("pop into the stack pointer")]
    PopStackPointer,
    /// rsp was written as 64 bits and what follows does not confine it.
    #[error("64-bit write of rsp is not confined by the next instruction")]
    StackPointer,
    /// An indirect jump other than the dispatch.
    #[error("indirect jump other than `jmp qword ptr gs:[r11*8]`")]
    DispatchForm,
    /// A dispatch whose index was not confined.
    #[error("dispatch without a confined r11d")]
    DispatchIndex,
    /// A direct branch with a prefix.
    #[error("direct branch with a prefix")]
    BranchPrefix,
    /// A direct branch to something that is no boundary and no gate.
    #[error("branch to {0:#x}, which is no boundary and no gate")]
    BranchTarget(u64),
    /// A jump to the system call gate without the return address in r11, or the reverse.
    #[error("system call sequence is not `lea r11, [return]; jmp gate`, with the return behind it")]
    SyscallSequence,
    /// An `xrstor` that could load the rights of protection keys, or other state that guests do not have.
    #[error("xrstor not directly behind `movzx eax, al`")]
    StateMask,
    /// The last instruction does not jump.
    #[error("execution falls off the end")]
    FallsThrough,
    /// A claimed indirect entry is no boundary, or does not reload r11.
    #[error("claimed indirect entry {0:#x} is no boundary that reloads r11")]
    IndirectEntry(u32),
}

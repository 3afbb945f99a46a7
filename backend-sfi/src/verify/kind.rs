//! What the verifier does with an instruction, and how that fits one byte of the rule table.
//!
//! Compiled twice: into the crate, which reads the table, and into `build.rs`, which writes it.
//!
//! ```text
//! 0 ..= 63     refused; the number picks the reason (0: not on the list)
//! 64 ..= 255   allowed:  64 + kind * 4 + writes operand 1 * 2 + writes operand 0
//! ```

/// A rule byte with this value or more allows its instruction.
pub(crate) const ALLOWED: u8 = 64;

/// The checks an allowed instruction gets on top of those that all get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Explicit operands only.
    Plain,
    /// `mov` between general registers, memory and immediates.
    Mov,
    /// `lea`: its memory operand is not accessed.
    Lea,
    /// `movzx`: like plain, and may narrow the dispatch index.
    Movzx,
    /// `add`/`sub` with an immediate: may move rsp a little.
    Adjust,
    /// A multi-byte `nop`: its memory operand is not accessed.
    Nop,
    /// Touches memory through rsp: `push`.
    Push,
    /// Touches memory through rsp: `pop`.
    Pop,
    /// Loads rsp from rbp.
    Leave,
    /// A string instruction that uses rdi.
    StringDestination,
    /// A string instruction that uses rsi.
    StringSource,
    /// A string instruction that uses both.
    StringBoth,
    /// An unconditional direct jump.
    Jmp,
    /// A conditional direct jump.
    Jcc,
    /// `loop`, `jrcxz`: a short jump that stays in its fragment.
    Loop,
    /// A direct call: to a place in its fragment, where returns are predicted.
    Call,
    /// An indirect jump: only the dispatch form.
    Dispatch,
    /// Addresses memory through a register that its encoding does not name.
    Implicit,
    /// `xrstor`: behind `movzx eax, al`, which leaves it nothing of what guests do not have.
    Xrstor,
}

impl Kind {
    /// Every kind, with its name in the rule file, in numeric order.
    pub(crate) const ALL: [(&'static str, Kind); 19] = [
        ("plain", Kind::Plain),
        ("mov", Kind::Mov),
        ("lea", Kind::Lea),
        ("movzx", Kind::Movzx),
        ("adjust", Kind::Adjust),
        ("nop", Kind::Nop),
        ("push", Kind::Push),
        ("pop", Kind::Pop),
        ("leave", Kind::Leave),
        ("string-destination", Kind::StringDestination),
        ("string-source", Kind::StringSource),
        ("string-both", Kind::StringBoth),
        ("jmp", Kind::Jmp),
        ("jcc", Kind::Jcc),
        ("loop", Kind::Loop),
        ("call", Kind::Call),
        ("dispatch", Kind::Dispatch),
        ("implicit", Kind::Implicit),
        ("xrstor", Kind::Xrstor),
    ];
}

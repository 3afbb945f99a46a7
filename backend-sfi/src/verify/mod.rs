//! The verifier: reads emitted code and admits only what provably stays inside the guest's window.
//!
//! It shares the decoder with the translator and nothing else. What it admits cannot, whatever the registers
//! and the guest's memory hold, load or store outside the window (bar a few context slots), execute a system
//! call instruction, change a segment base, or run anything but verified instructions from a verified start.
//! `docs/verifier.md` gives the argument; this is the list of rules.
//!
//! # What is assumed
//!
//! * The window is the host addresses [0, 4 GiB). The 64 KiB at both ends and at least 1 MiB above it are
//!   never mapped.
//! * gs base is the dispatch table: 8 bytes for each 32-bit index, each the address of an indirect entry that
//!   [`Verifier::may_enter_indirectly`] allowed, of the miss gate, or 0, where nothing is mapped. The table is not writable by the guest.
//! * `fs:[return_stack]` holds the address of `fs:[return_target]`. Before the miss gate and before address 0 are four bytes
//!   that a return may arrive at as at an indirect entry.
//! * fs base is the host's, and [`ContextSlots`] names what of it emitted code may reach.
//! * The cache is changed only as the [`Verifier`] is told: bytes are what [`admit`](Verifier::admit) saw, but
//!   for the rel32 fields that [`may_link`](Verifier::may_link) allowed. Nothing leads into a fragment any
//!   more when it is retired.
//! * Whoever enters emitted code does so at a clean boundary with rsp < 2^32, or resumes a thread with the
//!   registers it was interrupted with, untouched.
//!
//! # Words
//!
//! A *fragment* is a run of bytes admitted at once. A *boundary* is the start of an instruction that may be
//! jumped to. At every boundary rsp < 2^32, and this is all that is known there: an instruction that relies
//! on its predecessor is no boundary.
//!
//! # Rules
//!
//! 1. Each instruction is on the allow-list, `instructions.rules`, by its exact encoding. All bytes decode.
//! 2. An explicit memory operand has the 32-bit address size (prefix 67), is not relative to the instruction
//!    pointer and has no fs or gs prefix. So its address is below 2^32. `lea` and `nop` access nothing and
//!    are free. Exempt are exactly: `mov r64, fs:[slot]` and `mov fs:[slot], r64` with an absolute
//!    displacement to a spill slot (or, load only, a guest base), `mov dword ptr fs:[exit_info], imm32`, and
//!    the dispatch of rule 6. `maskmovq`, `maskmovdqu` and `clzero` need the prefix for their implicit address.
//! 3. A string instruction has no address-size or segment prefix and comes directly behind `mov edi, edi`
//!    and/or `mov esi, esi` for the registers that it uses. No boundary behind the first of these.
//! 4. An instruction that writes rsp as 64 bits is followed by `mov esp, esp`; one that adds at most
//!    ±4096 to it, also by a `push` or `pop`, which faults if rsp has left the window. No boundary between.
//!    `pop rsp` is refused; `leave` comes directly behind `mov ebp, ebp`.
//! 5. A system call is `lea r11, [rip+5]; jmp gates.syscall`, and is not the fragment's end. No boundary on
//!    the jump, and no other branch to that gate.
//! 6. The one indirect jump is `jmp qword ptr gs:[r11*8]`. Before it comes a `mov`, `lea` or `movzx` into
//!    r11d, and between them only pushes, `mov`s to memory, and 32-bit `mov`, `lea`, `add`, `sub` into esp. No
//!    boundary behind the write of r11d.
//!    Where returns are [predicted](Returns::Predicted), the same may come before `mov r11, gs:[r11*8]; lea r11, [r11-4]; mov
//!    fs:[return_target], r11; mov r11d, esp; mov rsp, fs:[return_stack]; ret`. No boundary inside either.
//! 7. A direct branch has no prefix and leads to a boundary, of the same fragment or a live one, or to a gate
//!    other than the system call's. `loop` and `jrcxz` stay in the fragment. One whose displacement lies within
//!    eight aligned bytes may later be made to lead to another such place.
//!    A `call`, allowed where returns are predicted, has no prefix and leads to a boundary of the same fragment.
//! 8. A claimed indirect entry is a boundary whose instruction is `mov r11, fs:[first spill slot]`. Where returns are
//!    predicted, `lea esp, [r11+8]` is directly before it, and a boundary.
//! 9. The last instruction is a jump, a call or a return.
//! 10. `xrstor` comes directly behind `movzx eax, al`, so that it loads none of the rights of protection keys. No boundary on it.

mod form;
mod fragment;
mod kind;
mod marks;
mod operand;
mod refusal;
mod returns;
mod rules;
mod short;

pub use refusal::{InstructionBytes, Reason, Refusal};

use crate::returns::Returns;
use fragment::Findings;
use marks::{Mark, Marks};
use std::ops::Range;

/// What emitted code may refer to.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Addresses at which fragments run. The gates may lie inside; no fragment covers one.
    pub cache: Range<u64>,
    /// The thread's context.
    pub context: ContextSlots,
    /// Where emitted code may leave the cache.
    pub gates: Gates,
    /// How returns are carried out.
    pub returns: Returns,
}

/// Displacements from fs of what emitted code may access there.
#[derive(Clone, Debug)]
pub struct ContextSlots {
    /// 8-byte slots that may be read and written. Dispatch sequences park r11 in the first.
    pub spill: Range<i32>,
    /// 8-byte slots that hold the guest's fs and gs base, and may be read.
    pub guest_bases: Range<i32>,
    /// 8 bytes that predicted returns write and pop.
    pub return_target: i32,
    /// 8 bytes that hold the address of `return_target`.
    pub return_stack: i32,
    /// 4 bytes that may be written, with a constant only.
    pub exit_info: i32,
}

/// Addresses of the trampolines out of the cache.
#[derive(Clone, Debug)]
pub struct Gates {
    /// An exit that may be linked to its target later.
    pub link: u64,
    /// A system call; r11 holds the address to return to.
    pub syscall: u64,
    /// An instruction that the runtime emulates.
    pub special: u64,
    /// An indirect branch to code without a translation.
    pub miss: u64,
}

impl Gates {
    /// Whether any branch may lead to `target`.
    fn is_exit(&self, target: u64) -> bool {
        target == self.link || target == self.special || target == self.miss
    }

    fn all(&self) -> [u64; 4] {
        [self.link, self.syscall, self.special, self.miss]
    }
}

/// What the translator says about a fragment, to be checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// Offsets of the indirect entries.
    pub indirect_entries: &'a [u32],
}

/// The state of one code cache.
pub struct Verifier {
    layout: Layout,
    marks: Marks,
    findings: Findings,
}

impl Verifier {
    /// A verifier of an empty cache.
    pub fn new(layout: Layout) -> Verifier {
        let marks = Marks::new(&layout.cache);
        Verifier { layout, marks, findings: Findings::default() }
    }

    /// Checks the fragment `bytes`, to run at `address`. If it is admitted, its boundaries, link sites and
    /// claimed entries are known from now on; if not, nothing has changed.
    pub fn admit(&mut self, address: u64, bytes: &[u8], claims: &Claims<'_>) -> Result<(), Refusal> {
        let whole = |reason| Refusal::new(bytes, 0, bytes.len(), reason);
        if bytes.is_empty() {
            return Err(whole(Reason::Empty));
        }
        let place = self.marks.indices(address, bytes.len()).ok_or_else(|| whole(Reason::OutsideCache))?;
        let covers_gate = |gate: u64| (address..address + bytes.len() as u64).contains(&gate);
        // What a return without an entry arrives at.
        let arrivals = (1..=returns::ARRIVAL.len() as u64).map(|back| self.layout.gates.miss - back);
        if self.layout.gates.all().into_iter().chain(arrivals).any(covers_gate) {
            return Err(whole(Reason::OutsideCache));
        }
        if self.marks.any(Mark::Live, place.clone()) {
            return Err(whole(Reason::Occupied));
        }
        fragment::walk(&self.layout, &self.marks, address, bytes, &mut self.findings)?;
        for &entry in claims.indirect_entries {
            let at = entry as usize;
            let reloads = bytes
                .get(at..)
                .is_some_and(|rest| operand::reloads_r11(rest, self.layout.context.spill.start));
            if !(reloads && self.findings.is_boundary(at) && self.can_be_returned_to(bytes, at)) {
                return Err(Refusal::new(bytes, at, 9, Reason::IndirectEntry(entry)));
            }
        }
        self.publish(place, claims);
        Ok(())
    }

    /// Whether a return may arrive before the indirect entry at `at`, if returns are predicted.
    fn can_be_returned_to(&self, bytes: &[u8], at: usize) -> bool {
        self.layout.returns == Returns::Dispatched
            || at.checked_sub(returns::ARRIVAL.len()).is_some_and(|arrival| {
                bytes[arrival..at] == returns::ARRIVAL && self.findings.is_boundary(arrival)
            })
    }

    fn publish(&mut self, place: Range<usize>, claims: &Claims<'_>) {
        let start = place.start;
        self.marks.add(Mark::Boundary, start - self.findings.bias, &self.findings.boundaries);
        for &site in &self.findings.sites {
            self.marks.set(Mark::LinkSite, start + site);
        }
        for &entry in claims.indirect_entries {
            self.marks.set(Mark::IndirectEntry, start + entry as usize);
        }
        self.marks.set_all(Mark::Live, place);
    }

    /// Whether the rel32 at `site` may be made to lead to `target`: the site belongs to a live branch that is
    /// not a system call's and lies within eight aligned bytes, so that threads that run it see the old branch or the
    /// new one; and the target is a boundary of a live fragment or a gate for exits.
    pub fn may_link(&self, site: u64, target: u64) -> bool {
        self.marks.has(Mark::LinkSite, site)
            && site % 8 <= 4
            && (self.is_boundary(target) || self.layout.gates.is_exit(target))
    }

    /// Whether the dispatch table may hold `target`: an indirect entry of a live fragment or the miss gate.
    pub fn may_enter_indirectly(&self, target: u64) -> bool {
        self.marks.has(Mark::IndirectEntry, target) || target == self.layout.gates.miss
    }

    /// Takes the word of whoever emitted a fragment that it runs at `address` for `length` bytes and can be entered at these
    /// offsets. For sampling only: nothing is known about such a fragment.
    pub fn assume(&mut self, address: u64, length: usize, boundaries: impl Iterator<Item = usize>) {
        let Some(place) = self.marks.indices(address, length) else { return };
        for offset in boundaries.filter(|&offset| offset < length) {
            self.marks.set(Mark::Boundary, place.start + offset);
        }
        self.marks.set_all(Mark::Live, place);
    }

    /// Whether `address` is a clean boundary of a live fragment.
    pub fn is_boundary(&self, address: u64) -> bool {
        self.marks.has(Mark::Boundary, address)
    }

    /// Forgets the fragments in `range`, which must hold whole ones. By then no branch, dispatch table entry
    /// or thread may lead into them.
    pub fn retire(&mut self, range: Range<u64>) {
        self.marks.forget(self.marks.clip(&range));
    }

    /// Forgets all fragments; returns of those to come are carried out like this.
    pub fn set_returns(&mut self, returns: Returns) {
        self.clear();
        self.layout.returns = returns;
    }

    /// Forgets all fragments, as [`retire`](Verifier::retire) would.
    pub fn clear(&mut self) {
        self.marks.clear();
    }
}

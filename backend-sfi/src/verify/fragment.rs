//! The walk over one fragment: every instruction decoded once, in order.

use super::kind::Kind;
use super::marks::{Mark, Marks};
use super::operand::{self, Prefixes};
use super::returns::{RETURN_BYTES, is_return};
use super::rules::Rule;
use super::{Layout, Reason, Refusal};
use crate::returns::Returns;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

mod common;
#[cfg(test)]
mod tests;

/// What the walk found. Kept between fragments for its memory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Findings {
    /// Clean boundaries, one bit per byte. Bit 0 is the byte at the multiple of 64 at or below the start.
    pub(super) boundaries: Vec<u64>,
    /// Bit of the fragment's first byte.
    pub(super) bias: usize,
    /// Offsets of the rel32 fields that may be re-linked.
    pub(super) sites: Vec<usize>,
    /// Direct branches, to be judged when all boundaries are known.
    branches: Vec<Branch>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Branch {
    at: usize,
    length: usize,
    target: u64,
    /// `loop`, `jrcxz` and calls stay inside.
    inside: bool,
}

impl Findings {
    fn reset(&mut self, bias: usize, length: usize) {
        self.bias = bias;
        self.boundaries.clear();
        self.boundaries.resize((bias + length).div_ceil(64), 0);
        self.sites.clear();
        self.branches.clear();
    }

    fn add(&mut self, at: usize) {
        let bit = self.bias + at;
        self.boundaries[bit / 64] |= 1 << (bit % 64);
    }

    /// No boundary behind `from`, up to and with `to`.
    fn seal(&mut self, from: usize, to: usize) {
        for bit in self.bias + from + 1..=self.bias + to {
            self.boundaries[bit / 64] &= !(1 << (bit % 64));
        }
    }

    pub(super) fn is_boundary(&self, at: usize) -> bool {
        let bit = self.bias + at;
        self.boundaries.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }
}

/// One decoded instruction.
struct Step<'a> {
    instruction: &'a Instruction,
    bytes: &'a [u8],
    at: usize,
    next: usize,
    prefixes: Prefixes,
}

/// What the instruction just walked demands of the next one.
#[derive(Clone, Copy, Eq, PartialEq, Debug)]
enum Pending {
    Nothing,
    /// rsp was written: `mov esp, esp`.
    Confine,
    /// rsp was moved a little: that, or a push or pop.
    Touch,
    /// r11 holds the address behind the next instruction, a jump to the system call gate.
    Syscall,
}

/// A `mov r32, r32` of one register onto itself, or `movzx eax, al`, which is noted as al.
#[derive(Clone, Copy, Eq, PartialEq, Debug)]
struct Confined {
    register: Register,
    at: usize,
}

/// Walks `bytes`, to lie at `address`. On success `findings` holds what may be published.
pub(super) fn walk(
    layout: &Layout,
    marks: &Marks,
    address: u64,
    bytes: &[u8],
    findings: &mut Findings,
) -> Result<(), Refusal> {
    let bias = (address - layout.cache.start) as usize % 64;
    findings.reset(bias, bytes.len());
    let mut walk = Walk {
        layout,
        findings,
        end: bytes.len(),
        pending: Pending::Nothing,
        latest: None,
        before: None,
        index: None,
        ends: false,
    };
    // Made when it is needed: the first one of a process takes a quarter of a millisecond.
    let mut decoder = None;
    let mut instruction = Instruction::default();
    let mut at = 0;
    while at < bytes.len() {
        if walk.pending == Pending::Nothing {
            if is_exit_stub(layout, address, bytes, at) {
                walk.exit_stub(at);
                at += EXIT_STUB_BYTES;
                continue;
            }
            if let Some(length) = walk.common(&bytes[at..], at, address) {
                at += length;
                continue;
            }
        }
        let may_return = walk.pending == Pending::Nothing && layout.returns == Returns::Predicted;
        if may_return && is_return(&bytes[at..], &layout.context) {
            walk.return_(at).map_err(|reason| Refusal::new(bytes, at, RETURN_BYTES, reason))?;
            at += RETURN_BYTES;
            continue;
        }
        let decoder =
            decoder.get_or_insert_with(|| Decoder::with_ip(64, bytes, address, DecoderOptions::NONE));
        decoder.set_position(at).expect("inside the bytes");
        decoder.set_ip(address + at as u64);
        decoder.decode_out(&mut instruction);
        let next = decoder.position();
        let bytes_at = &bytes[at..next];
        let step =
            Step { instruction: &instruction, bytes: bytes_at, at, next, prefixes: Prefixes::of(bytes_at) };
        if let Err(reason) = walk.step(&step) {
            return Err(Refusal::new(bytes, at, next - at, reason));
        }
        at = next;
    }
    if !walk.ends {
        let reason =
            if walk.pending == Pending::Syscall { Reason::SyscallSequence } else { Reason::FallsThrough };
        return Err(Refusal::new(bytes, bytes.len(), 0, reason));
    }
    let inside = address..address + bytes.len() as u64;
    for branch in &findings.branches {
        let found = if inside.contains(&branch.target) {
            findings.is_boundary((branch.target - address) as usize)
        } else {
            !branch.inside
                && (layout.gates.is_exit(branch.target) || marks.has(Mark::Boundary, branch.target))
        };
        if !found {
            return Err(Refusal::new(bytes, branch.at, branch.length, Reason::BranchTarget(branch.target)));
        }
    }
    Ok(())
}

/// Length of `mov dword ptr fs:[disp32], imm32; jmp rel32`.
const EXIT_STUB_BYTES: usize = 17;

/// Whether the bytes at `at` are exactly a store of a number to `exit_info` and a jump to the link gate. Fragments end in
/// many of these; knowing them by their bytes saves decoding two instructions for each.
fn is_exit_stub(layout: &Layout, address: u64, bytes: &[u8], at: usize) -> bool {
    let Some(stub) = bytes.get(at..at + EXIT_STUB_BYTES).filter(|stub| stub[0] == 0x64) else { return false };
    let word = |offset: usize| {
        i32::from_le_bytes([stub[offset], stub[offset + 1], stub[offset + 2], stub[offset + 3]])
    };
    let end = address + (at + EXIT_STUB_BYTES) as u64;
    stub[..4] == [0x64, 0xc7, 0x04, 0x25]
        && word(4) == layout.context.exit_info
        && stub[12] == 0xe9
        && end.wrapping_add_signed(i64::from(word(13))) == layout.gates.link
}

struct Walk<'a> {
    layout: &'a Layout,
    findings: &'a mut Findings,
    /// Length of the fragment.
    end: usize,
    pending: Pending,
    /// The instruction directly before, if it confined a register.
    latest: Option<Confined>,
    /// The one before `latest`, likewise; meaningless without `latest`.
    before: Option<Confined>,
    /// Where r11d was written as 32 bits, if nothing since can have written r11.
    index: Option<usize>,
    /// The instruction directly before never falls through.
    ends: bool,
}

impl Walk<'_> {
    /// An exit stub was found at `at`: both its instructions are boundaries, and nothing falls out of it.
    fn exit_stub(&mut self, at: usize) {
        self.findings.add(at);
        self.findings.add(at + 12);
        (self.latest, self.before, self.index) = (None, None, None);
        self.ends = true;
    }

    /// The sequence of a predicted return was found at `at`: like a dispatch.
    fn return_(&mut self, at: usize) -> Result<(), Reason> {
        let index = self.index.ok_or(Reason::DispatchIndex)?;
        self.findings.seal(index, at);
        (self.latest, self.before, self.index) = (None, None, None);
        self.ends = true;
        Ok(())
    }

    #[inline]
    fn step(&mut self, step: &Step<'_>) -> Result<(), Reason> {
        let code = step.instruction.code();
        if code == Code::INVALID {
            return Err(Reason::Undecodable);
        }
        let rule = Rule::of(code);
        let kind = rule.kind().map_err(Reason::NotAllowed)?;
        self.ends = false;
        if self.pending == Pending::Nothing {
            self.findings.add(step.at);
        } else if self.settle(step, kind)? {
            return Ok(());
        }
        if kind == Kind::Plain {
            self.operands(step)?;
            self.forget();
            return self.stack_pointer(step, rule);
        }
        self.special(step, rule, kind)
    }

    /// Meets the demand of the instruction before; true if this instruction is thereby done with.
    fn settle(&mut self, step: &Step<'_>, kind: Kind) -> Result<bool, Reason> {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        let confines = || kind == Kind::Mov && confined_register(step) == Some(Register::ESP);
        match pending {
            Pending::Nothing => Ok(false),
            Pending::Confine | Pending::Touch if confines() => {
                self.forget();
                Ok(true)
            }
            Pending::Touch if matches!(kind, Kind::Push | Kind::Pop) => Ok(false),
            Pending::Confine | Pending::Touch => Err(Reason::StackPointer),
            Pending::Syscall => {
                let jump = kind == Kind::Jmp && step.prefixes.none() && step.bytes.len() == 5;
                let gate = step.instruction.near_branch64() == self.layout.gates.syscall;
                // The gate returns behind the jump, which has to be in this fragment.
                if jump && gate && step.next < self.end { Ok(true) } else { Err(Reason::SyscallSequence) }
            }
        }
    }

    /// Everything that is not [`Kind::Plain`].
    fn special(&mut self, step: &Step<'_>, rule: Rule, kind: Kind) -> Result<(), Reason> {
        match kind {
            Kind::Plain | Kind::Movzx | Kind::Adjust | Kind::Push => self.operands(step)?,
            Kind::Mov if step.prefixes.fs_gs() => operand::context_access(step.bytes, &self.layout.context)?,
            Kind::Mov => self.operands(step)?,
            Kind::Pop => {
                if matches!(step.first_register(), Some(Register::RSP | Register::SP)) {
                    return Err(Reason::PopStackPointer);
                }
                self.operands(step)?;
            }
            Kind::Lea => self.lea(step)?,
            Kind::Nop => step.no_fs_gs()?,
            Kind::Leave => self.leave(step)?,
            Kind::StringDestination => self.string(step, &[Register::EDI])?,
            Kind::StringSource => self.string(step, &[Register::ESI])?,
            Kind::StringBoth => self.string(step, &[Register::EDI, Register::ESI])?,
            Kind::Call if self.layout.returns == Returns::Dispatched => {
                return Err(Reason::NotAllowed("calls and returns are dispatched"));
            }
            Kind::Jmp | Kind::Jcc | Kind::Loop | Kind::Call => self.branch(step, kind)?,
            Kind::Dispatch => self.dispatch(step)?,
            Kind::Implicit => {
                step.no_fs_gs()?;
                if !step.prefixes.address_size() {
                    return Err(Reason::Unguarded);
                }
            }
            Kind::Xrstor => {
                self.operands(step)?;
                match self.latest {
                    Some(Confined { register: Register::AL, at }) => self.findings.seal(at, step.at),
                    _ => return Err(Reason::StateMask),
                }
            }
        }
        self.track_confined(step, kind);
        self.track_index(step, kind);
        if self.pending != Pending::Nothing {
            // A `lea r11` that began a system call.
            return Ok(());
        }
        self.stack_pointer(step, rule)?;
        if self.pending == Pending::Confine && moves_a_little(step, kind) {
            self.pending = Pending::Touch;
        }
        Ok(())
    }

    #[inline]
    fn operands(&self, step: &Step<'_>) -> Result<(), Reason> {
        step.no_fs_gs()?;
        operand::guarded(step.instruction, step.prefixes)
    }

    /// A 64-bit write of rsp has to be confined by the next instruction. Narrower writes keep rsp below 2^32.
    #[inline]
    fn stack_pointer(&mut self, step: &Step<'_>, rule: Rule) -> Result<(), Reason> {
        let instruction = step.instruction;
        let first = rule.writes_first()
            && instruction.op0_register() == Register::RSP
            && instruction.op0_kind() == OpKind::Register;
        let second = rule.writes_second()
            && instruction.op1_register() == Register::RSP
            && instruction.op1_kind() == OpKind::Register;
        if first || second {
            self.pending = Pending::Confine;
        }
        Ok(())
    }

    fn lea(&mut self, step: &Step<'_>) -> Result<(), Reason> {
        step.no_fs_gs()?;
        if *step.bytes == operand::LOAD_RETURN {
            self.pending = Pending::Syscall;
        } else if operand::relative(step.instruction) {
            return Err(Reason::InstructionRelative);
        }
        Ok(())
    }

    fn leave(&mut self, step: &Step<'_>) -> Result<(), Reason> {
        step.no_fs_gs()?;
        match self.latest {
            Some(Confined { register: Register::EBP, at }) => self.findings.seal(at, step.at),
            _ => return Err(Reason::Frame),
        }
        Ok(())
    }

    /// `needed` index registers, each confined by one of the instructions directly before.
    fn string(&mut self, step: &Step<'_>, needed: &[Register]) -> Result<(), Reason> {
        if step.prefixes.segment() || step.prefixes.address_size() {
            return Err(Reason::StringPrefix);
        }
        let latest = self.latest.ok_or(Reason::StringIndex)?;
        let first = match (needed, self.before) {
            ([only], _) if latest.register == *only => latest,
            ([one, other], Some(before))
                if (before.register, latest.register) == (*one, *other)
                    || (before.register, latest.register) == (*other, *one) =>
            {
                before
            }
            _ => return Err(Reason::StringIndex),
        };
        self.findings.seal(first.at, step.at);
        Ok(())
    }

    fn branch(&mut self, step: &Step<'_>, kind: Kind) -> Result<(), Reason> {
        // A prefix may mean something else to another maker's processor: 66 cuts the target to 16 bits.
        if !step.prefixes.none() {
            return Err(Reason::BranchPrefix);
        }
        let target = step.instruction.near_branch64();
        if target == self.layout.gates.syscall {
            return Err(Reason::SyscallSequence);
        }
        let length = step.bytes.len();
        let inside = matches!(kind, Kind::Loop | Kind::Call);
        self.findings.branches.push(Branch { at: step.at, length, target, inside });
        if length > 4 && kind != Kind::Call {
            self.findings.sites.push(step.next - 4);
        }
        self.ends = matches!(kind, Kind::Jmp | Kind::Call);
        Ok(())
    }

    fn dispatch(&mut self, step: &Step<'_>) -> Result<(), Reason> {
        if *step.bytes != operand::DISPATCH {
            return Err(Reason::DispatchForm);
        }
        let index = self.index.ok_or(Reason::DispatchIndex)?;
        self.findings.seal(index, step.at);
        self.ends = true;
        Ok(())
    }

    #[inline]
    fn forget(&mut self) {
        self.latest = None;
        self.index = None;
    }

    fn track_confined(&mut self, step: &Step<'_>, kind: Kind) {
        let confined = match kind {
            Kind::Mov => confined_register(step),
            Kind::Movzx if *step.bytes == operand::CUT_MASK => Some(Register::AL),
            _ => None,
        };
        self.before = self.latest;
        self.latest = confined.map(|register| Confined { register, at: step.at });
    }

    /// Follows the value of r11d towards a dispatch.
    fn track_index(&mut self, step: &Step<'_>, kind: Kind) {
        let first = step.first_register();
        let writes_index =
            matches!(kind, Kind::Mov | Kind::Lea | Kind::Movzx) && first == Some(Register::R11D);
        // The few instructions that a translator puts in between, none of which can write r11.
        let keeps_index = match kind {
            Kind::Push => true,
            Kind::Mov => first.is_none() || first == Some(Register::ESP),
            Kind::Lea | Kind::Adjust => first == Some(Register::ESP),
            _ => false,
        };
        if writes_index {
            self.index = Some(step.at);
        } else if !keeps_index {
            self.index = None;
        }
    }
}

impl Step<'_> {
    #[inline]
    fn no_fs_gs(&self) -> Result<(), Reason> {
        if self.prefixes.fs_gs() { Err(Reason::Segment) } else { Ok(()) }
    }

    /// The first operand, if it is a register.
    fn first_register(&self) -> Option<Register> {
        (self.instruction.op0_kind() == OpKind::Register).then(|| self.instruction.op0_register())
    }
}

/// The register that a `mov` confines by moving its low half onto itself.
fn confined_register(step: &Step<'_>) -> Option<Register> {
    let instruction = step.instruction;
    let register = step.first_register().filter(|register| register.is_gpr32())?;
    let same = instruction.op1_kind() == OpKind::Register && instruction.op1_register() == register;
    same.then_some(register)
}

/// Whether an instruction that writes rsp moves it by at most a page, so that a push or pop behind it faults
/// if rsp left the window.
fn moves_a_little(step: &Step<'_>, kind: Kind) -> bool {
    const LIMIT: std::ops::RangeInclusive<i64> = -4096..=4096;
    let instruction = step.instruction;
    if instruction.op0_register() != Register::RSP {
        return false;
    }
    match (kind, instruction.op1_kind()) {
        (Kind::Adjust, OpKind::Immediate8to64) => LIMIT.contains(&instruction.immediate8to64()),
        (Kind::Adjust, OpKind::Immediate32to64) => LIMIT.contains(&instruction.immediate32to64()),
        (Kind::Lea, _) => {
            instruction.memory_base() == Register::RSP
                && instruction.memory_index() == Register::None
                && LIMIT.contains(&(instruction.memory_displacement64() as i64))
        }
        _ => false,
    }
}

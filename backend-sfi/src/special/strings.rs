//! String instructions that emitted code does not hold: those with 32-bit addresses or with a segment prefix.

use endo_core::arch::{Flags, Gpr};
use endo_core::{Fault, Registers};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{load, store};

/// How many elements one emulation handles at most; the program counter stays where it is while some are left.
const MOST_ELEMENTS: usize = 512;

const CARRY: u64 = 1;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const DIRECTION: u64 = 1 << 10;
const OVERFLOW: u64 = 1 << 11;

/// Carries out elements of the instruction; whether none is left. The registers say at every moment, and at a fault,
/// what has been done.
pub(super) fn run(registers: &mut Registers, instruction: &Instruction) -> Result<bool, Fault> {
    let form = Form::of(registers, instruction);
    if !form.repeats {
        element(registers, instruction.mnemonic(), &form)?;
        return Ok(true);
    }
    for _ in 0..MOST_ELEMENTS {
        let left = form.cut(registers.get(Gpr::Rcx));
        if left == 0 {
            return Ok(true);
        }
        element(registers, instruction.mnemonic(), &form)?;
        registers.set(Gpr::Rcx, left - 1);
        let zero = registers.flags.0 & ZERO != 0;
        if form.compares && zero != form.while_equal {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the prefixes say.
struct Form {
    size: usize,
    narrow: bool,
    repeats: bool,
    /// Whether repetition ends by comparison, and if so whether it goes on while elements are equal.
    compares: bool,
    while_equal: bool,
    source_base: u64,
    backwards: bool,
}

impl Form {
    fn of(registers: &Registers, instruction: &Instruction) -> Form {
        use Mnemonic as M;
        let narrow = (0..instruction.op_count()).any(|at| {
            matches!(
                instruction.op_kind(at),
                OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI
            )
        });
        Form {
            size: instruction.memory_size().size(),
            narrow,
            repeats: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
            compares: matches!(
                instruction.mnemonic(),
                M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq
            ),
            while_equal: !instruction.has_repne_prefix(),
            source_base: match instruction.memory_segment() {
                Register::FS => registers.fs_base,
                Register::GS => registers.gs_base,
                _ => 0,
            },
            backwards: registers.flags.0 & DIRECTION != 0,
        }
    }

    fn cut(&self, value: u64) -> u64 {
        if self.narrow { value & u64::from(u32::MAX) } else { value }
    }

    fn load(&self, address: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        load(address, &mut bytes[..self.size])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn source(&self, registers: &Registers) -> Result<u64, Fault> {
        self.load(self.cut(registers.get(Gpr::Rsi)).wrapping_add(self.source_base))
    }

    fn advance(&self, registers: &mut Registers, pointer: Gpr) {
        let step = self.size as u64;
        let old = registers.get(pointer);
        let new = if self.backwards { old.wrapping_sub(step) } else { old.wrapping_add(step) };
        registers.set(pointer, self.cut(new));
    }

    fn accumulator(&self, registers: &Registers) -> u64 {
        registers.get(Gpr::Rax) & self.mask()
    }

    fn mask(&self) -> u64 {
        u64::MAX >> (64 - 8 * self.size)
    }
}

fn element(registers: &mut Registers, mnemonic: Mnemonic, form: &Form) -> Result<(), Fault> {
    use Mnemonic as M;
    let destination = form.cut(registers.get(Gpr::Rdi));
    match mnemonic {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => {
            let value = form.source(registers)?;
            store(destination, &value.to_le_bytes()[..form.size])?;
            form.advance(registers, Gpr::Rsi);
            form.advance(registers, Gpr::Rdi);
        }
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => {
            store(destination, &registers.get(Gpr::Rax).to_le_bytes()[..form.size])?;
            form.advance(registers, Gpr::Rdi);
        }
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => {
            let value = form.source(registers)?;
            // A 32-bit result clears the upper half; narrower ones leave the rest.
            let kept = if form.size == 4 { 0 } else { registers.get(Gpr::Rax) & !form.mask() };
            registers.set(Gpr::Rax, kept | value);
            form.advance(registers, Gpr::Rsi);
        }
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => {
            let value = form.load(destination)?;
            compare(registers, form.accumulator(registers), value, form);
            form.advance(registers, Gpr::Rdi);
        }
        _ => {
            let left = form.source(registers)?;
            let right = form.load(destination)?;
            compare(registers, left, right, form);
            form.advance(registers, Gpr::Rsi);
            form.advance(registers, Gpr::Rdi);
        }
    }
    Ok(())
}

/// The flags of `left - right` (SDM volume 1, appendix A).
fn compare(registers: &mut Registers, left: u64, right: u64, form: &Form) {
    let difference = left.wrapping_sub(right) & form.mask();
    let top = 1 << (8 * form.size - 1);
    let mut flags = registers.flags.0 & !(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW);
    let mut put = |flag, is_set| {
        if is_set {
            flags |= flag;
        }
    };
    put(CARRY, left < right);
    put(PARITY, (difference as u8).count_ones().is_multiple_of(2));
    put(ADJUST, (left ^ right ^ difference) & 0x10 != 0);
    put(ZERO, difference == 0);
    put(SIGN, difference & top != 0);
    put(OVERFLOW, (left ^ right) & (left ^ difference) & top != 0);
    registers.flags = Flags(flags);
}

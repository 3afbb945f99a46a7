//! A divergence, told so that it can be looked into.

use std::fmt;

use iced_x86::{Code, Formatter, GasFormatter};

use super::batch::Pair;
use super::case::{Case, Outcome};
use super::judge::{GPR_NAMES, Verdict, instructions, judge};

/// A case whose outcomes differ.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The case, as small as it got.
    pub case: Case,
    /// Its outcomes.
    pub pair: Pair,
    /// The instruction that it is about: the last one that is not a `nop`.
    pub code: Code,
}

impl Divergence {
    pub(super) fn new(case: Case, pair: Pair) -> Self {
        let last = instructions(&case).into_iter().rfind(|instruction| instruction.code() != Code::Nopd);
        Divergence { case, pair, code: last.map_or(Code::INVALID, |instruction| instruction.code()) }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: translated and native runs differ", self.code)?;
        writeln!(f, "  {:#x}: {}", self.case.at, hex(self.case.bytes()))?;
        let mut formatter = GasFormatter::new();
        for instruction in instructions(&self.case) {
            let start = (instruction.ip() - self.case.at) as usize;
            let bytes = &self.case.bytes()[start..(start + instruction.len()).min(self.case.length)];
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            writeln!(f, "  {:#x}: {:<46} {text}", instruction.ip(), hex(bytes))?;
        }
        if let Verdict::Different(lines) = judge(&self.case, &self.pair) {
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "  before:")?;
        write_registers(f, &self.case.registers)?;
        writeln!(
            f,
            "    vector seed {:#x}, mxcsr {:#x}, x87 control {:#x}",
            self.case.vector_seed, self.case.mxcsr, self.case.x87_control
        )?;
        for (address, value) in self.case.pokes.iter().filter(|(address, _)| *address != 0) {
            writeln!(f, "    [{address:#x}] = {value:#x}")?;
        }
        for (name, outcome) in [("native", &self.pair.native), ("translated", &self.pair.translated)] {
            writeln!(f, "  {name}: {:x?}", outcome.ending)?;
            write_registers(f, &outcome.registers)?;
            write_changes(f, outcome)?;
        }
        Ok(())
    }
}

fn write_registers(f: &mut fmt::Formatter<'_>, registers: &endo_core::Registers) -> fmt::Result {
    for (names, values) in GPR_NAMES.chunks(4).zip(registers.gpr.chunks(4)) {
        write!(f, "   ")?;
        for (name, value) in names.iter().zip(values) {
            write!(f, " {name:>3}={value:016x}")?;
        }
        writeln!(f)?;
    }
    writeln!(
        f,
        "    pc={:#x} flags={:#x} fs={:#x} gs={:#x}",
        registers.pc, registers.flags.0, registers.fs_base, registers.gs_base
    )
}

fn write_changes(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    const SHOWN: usize = 16;
    let changes = outcome.changes();
    if changes.is_empty() {
        return Ok(());
    }
    write!(f, "    memory:")?;
    for change in changes.iter().take(SHOWN) {
        write!(f, " {:x}:{:02x}", change.address, change.now)?;
    }
    writeln!(f, "{}", if changes.len() > SHOWN { " …" } else { "" })
}

/// Bytes as two digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

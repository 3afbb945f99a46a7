//! Which instructions were run, and which not, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use endo_core::FaultKind;
use iced_x86::Code;

use super::batch::Pair;
use super::case::Case;
use super::judge::{Verdict, instructions};

/// Counts for one instruction, taken from the cases that hold it alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Carried out.
    pub completed: u32,
    /// Ended in a fault that is the instruction's own.
    pub faulted: u32,
    /// The processor does not have it.
    pub unknown_to_processor: u32,
    /// The processor has it, and the guest got SIGILL.
    pub refused: u32,
}

/// What was run.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<u16, Count>,
    /// Cases run.
    pub cases: usize,
    /// Cases of which the native run left the window, so that there was nothing to compare.
    pub beyond_window: usize,
    /// Encodings of offered instructions that are not offered.
    pub refused_forms: BTreeMap<u16, Vec<u8>>,
}

impl Coverage {
    /// Names the instructions that are to be covered.
    pub fn expect(&mut self, codes: &[Code]) {
        self.counts.extend(codes.iter().map(|&code| (code as u16, Count::default())));
    }

    /// Counts a case.
    pub fn count(&mut self, case: &Case, pair: &Pair, verdict: &Verdict) {
        self.cases += 1;
        self.beyond_window += usize::from(*verdict == Verdict::BeyondWindow);
        let all = instructions(case);
        let [only] = all.as_slice() else { return };
        let count = self.counts.entry(only.code() as u16).or_default();
        match verdict {
            Verdict::BeyondWindow => {}
            Verdict::DependsOnVendor => count.faulted += 1,
            Verdict::NotOffered(_) => {
                count.refused += 1;
                self.refused_forms.insert(only.code() as u16, case.bytes().to_vec());
            }
            Verdict::Same | Verdict::Different(_) => match pair.native.fault() {
                Some(fault) if fault.kind == FaultKind::IllegalInstruction => count.unknown_to_processor += 1,
                _ if pair.native.registers.pc != only.ip() => count.completed += 1,
                _ => count.faulted += 1,
            },
        }
    }

    /// The instructions that guests may use and this processor has.
    pub fn offered(&self) -> Vec<Code> {
        self.select(|count| count.completed > 0)
    }

    /// The instructions for which the predicate holds.
    pub fn select(&self, predicate: impl Fn(Count) -> bool) -> Vec<Code> {
        let names: BTreeSet<u16> =
            self.counts.iter().filter(|(_, count)| predicate(**count)).map(|(&code, _)| code).collect();
        Code::values().filter(|&code| names.contains(&(code as u16))).collect()
    }

    /// The counts of an instruction.
    pub fn of(&self, code: Code) -> Count {
        self.counts.get(&(code as u16)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ran = |count: Count| count.completed > 0;
        let only_faults = |count: Count| count.completed == 0 && count.faulted > 0 && count.refused == 0;
        let absent = |count: Count| {
            count.unknown_to_processor > 0 && count.completed + count.faulted + count.refused == 0
        };
        let refused = |count: Count| count.refused > 0 && count.completed == 0;
        let partly = |count: Count| count.refused > 0 && count.completed > 0;
        writeln!(f, "{} cases, {} of them beyond the window", self.cases, self.beyond_window)?;
        writeln!(f, "instructions carried out and compared: {}", self.select(ran).len())?;
        for (what, codes) in [
            ("only ever faulted", self.select(only_faults)),
            ("not on this processor", self.select(absent)),
            ("not offered to guests", self.select(refused)),
            ("some forms not offered to guests", self.select(partly)),
            (
                "not run: no encoding found, or never inside the window",
                self.select(|count| count == Count::default()),
            ),
        ] {
            let names: Vec<String> = codes.iter().map(|code| self.name(*code)).collect();
            writeln!(f, "{what}: {} {}", names.len(), names.join(" "))?;
        }
        Ok(())
    }
}

impl Coverage {
    fn name(&self, code: Code) -> String {
        match self.refused_forms.get(&(code as u16)) {
            Some(bytes) => format!("{code:?}({})", super::report::hex(bytes)),
            _ => format!("{code:?}"),
        }
    }
}

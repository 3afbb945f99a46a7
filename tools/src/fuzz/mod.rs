//! The differential fuzzer: random instructions, run on the processor and through the translator, with everything that
//! they leave behind compared.
//!
//! [`build`] makes cases, [`batch`] runs them under both backends in forked children ([`worker`]), [`mod@judge`] compares, and
//! [`shrink`] makes what differs small. The native side is [`endo_core::NullBackend`], so both sides are driven by
//! the same code. A first pass takes every instruction alone; later ones mix those that are offered to guests.

pub mod batch;
pub mod build;
pub mod case;
pub mod coverage;
pub mod encode;
pub mod judge;
pub mod random;
pub mod report;
pub mod shrink;
pub mod vector;
pub mod worker;

use std::io;
use std::time::Instant;

use iced_x86::{Code, Mnemonic};

use self::batch::{MOST_CASES, Runner};
use self::build::Builder;
use self::case::Case;
use self::coverage::Coverage;
use self::judge::{Verdict, judge};
use self::random::Random;
use self::report::Divergence;

/// What to run, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything random.
    pub seed: u64,
    /// Cases of each instruction alone.
    pub singles: usize,
    /// Cases of several instructions.
    pub sequences: usize,
    /// Stop when this has come.
    pub deadline: Instant,
    /// Only these instructions, by a part of their `Code`'s name; all if empty.
    pub only: Vec<String>,
    /// Stop after so many divergences.
    pub most_divergences: usize,
    /// Whether translated returns are predicted by the processor.
    pub predict_returns: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Findings {
    /// What was run.
    pub coverage: Coverage,
    /// What differed: the first case of each instruction.
    pub divergences: Vec<Divergence>,
    /// Whether the plan was carried out before its deadline.
    pub complete: bool,
}

/// Carries out a plan.
pub fn run(plan: &Plan) -> io::Result<Findings> {
    let mut fuzzer = Fuzzer { runner: Runner::new()?, findings: Findings::default() };
    fuzzer.runner.predict_returns = plan.predict_returns;
    let mut random = Random::new(plan.seed);
    let codes = codes(&plan.only);
    fuzzer.findings.coverage.expect(&codes);
    let mut wanted: Vec<Vec<Code>> =
        (0..plan.singles).flat_map(|_| codes.iter().map(|&code| vec![code])).collect();
    fuzzer.pass(plan, &mut random, &wanted)?;
    let offered = fuzzer.findings.coverage.offered();
    if !offered.is_empty() {
        wanted = (0..plan.sequences)
            .map(|_| (0..2 + random.below(5)).map(|_| random.pick(&offered)).collect())
            .collect();
        fuzzer.pass(plan, &mut random, &wanted)?;
    }
    fuzzer.findings.complete = Instant::now() < plan.deadline;
    Ok(fuzzer.findings)
}

struct Fuzzer {
    runner: Runner,
    findings: Findings,
}

impl Fuzzer {
    fn pass(&mut self, plan: &Plan, random: &mut Random, wanted: &[Vec<Code>]) -> io::Result<()> {
        for group in wanted.chunks(MOST_CASES) {
            if Instant::now() >= plan.deadline || self.findings.divergences.len() >= plan.most_divergences {
                break;
            }
            let cases: Vec<Case> = group.iter().filter_map(|codes| self.make(random, codes)).collect();
            self.try_all(&cases, random.bits())?;
        }
        Ok(())
    }

    /// A case with at least one of these instructions.
    fn make(&mut self, random: &mut Random, codes: &[Code]) -> Option<Case> {
        const TRIES: usize = 12;
        let mut builder = Builder::new(random);
        let mut some = false;
        for &code in codes {
            some |= (0..TRIES).any(|_| builder.push(code));
        }
        some.then(|| builder.finish())
    }

    fn try_all(&mut self, cases: &[Case], memory_seed: u64) -> io::Result<()> {
        let pairs = self.runner.run(cases, memory_seed)?;
        for (case, pair) in cases.iter().zip(&pairs) {
            let verdict = judge(case, pair);
            self.findings.coverage.count(case, pair, &verdict);
            if !matches!(verdict, Verdict::Different(_)) {
                continue;
            }
            let (smallest, smaller_pair) = shrink::shrink(&mut self.runner, *case, memory_seed)?;
            let pair = smaller_pair.unwrap_or_else(|| pair.clone());
            let divergence = Divergence::new(smallest, pair);
            if self.findings.divergences.iter().all(|known| known.code != divergence.code) {
                self.findings.divergences.push(divergence);
            }
        }
        Ok(())
    }
}

/// The instructions to run: those of 64-bit mode that user code can run again and again with the same effect.
fn codes(only: &[String]) -> Vec<Code> {
    Code::values()
        .filter(|code| code.op_code().mode64() && code.op_code().is_instruction())
        .filter(|code| !UNREPEATABLE.contains(&code.mnemonic()))
        .filter(|code| only.is_empty() || only.iter().any(|name| format!("{code:?}").contains(name.as_str())))
        .collect()
}

/// Instructions that are never run natively: their results differ from run to run, they wait, enter a hypervisor, or
/// reach the kernel in a way that nothing in user space can catch.
const UNREPEATABLE: [Mnemonic; 25] = [
    Mnemonic::Rdtsc,
    Mnemonic::Rdtscp,
    Mnemonic::Rdrand,
    Mnemonic::Rdseed,
    Mnemonic::Rdpid,
    Mnemonic::Rdpmc,
    Mnemonic::Rdpru,
    Mnemonic::Cpuid,
    Mnemonic::Sysenter,
    Mnemonic::Sysexit,
    Mnemonic::Sysexitq,
    Mnemonic::Vmcall,
    Mnemonic::Vmmcall,
    Mnemonic::Vmgexit,
    Mnemonic::Vmfunc,
    Mnemonic::Monitor,
    Mnemonic::Monitorx,
    Mnemonic::Mwait,
    Mnemonic::Mwaitx,
    Mnemonic::Umonitor,
    Mnemonic::Umwait,
    Mnemonic::Tpause,
    Mnemonic::Enclu,
    Mnemonic::Getsecq,
    // Hypervisors that intercept it deliver the trap before it instead of after it.
    Mnemonic::Int1,
];

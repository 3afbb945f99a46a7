//! Makes a case that differs as small as it gets while it still differs.

use std::io;

use super::batch::{MOST_CASES, Pair, Runner};
use super::case::Case;
use super::judge::{Verdict, instructions, judge};

/// Rounds after which it is small enough.
const MOST_ROUNDS: usize = 60;
const NOP: u8 = 0x90;

/// The smallest case found, and its outcomes.
pub fn shrink(runner: &mut Runner, case: Case, memory_seed: u64) -> io::Result<(Case, Option<Pair>)> {
    let mut best = case;
    let mut outcome = None;
    for _ in 0..MOST_ROUNDS {
        let mut candidates = candidates(&best);
        candidates.truncate(MOST_CASES);
        let pairs = runner.run(&candidates, memory_seed)?;
        let smaller = candidates
            .into_iter()
            .zip(pairs)
            .find(|(candidate, pair)| matches!(judge(candidate, pair), Verdict::Different(_)));
        let Some((candidate, pair)) = smaller else { break };
        (best, outcome) = (candidate, Some(pair));
    }
    Ok((best, outcome))
}

/// Everything that can be left out of a case, one thing a candidate.
fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Case)| {
        let mut candidate = *case;
        change(&mut candidate);
        if format!("{candidate:?}") != format!("{case:?}") {
            all.push(candidate);
        }
    };
    let instructions = instructions(case);
    for (index, instruction) in instructions.iter().enumerate() {
        let start = (instruction.ip() - case.at) as usize;
        if index + 1 == instructions.len() {
            add(&|candidate| candidate.length = start);
        }
        add(&|candidate| candidate.code[start..start + instruction.len()].fill(NOP));
    }
    add(&|candidate| candidate.mxcsr = 0x1f80);
    add(&|candidate| candidate.x87_control = 0x37f);
    add(&|candidate| candidate.vector_seed = 0);
    add(&|candidate| candidate.registers.flags.0 = 0x202);
    for index in 0..case.pokes.len() {
        add(&|candidate| candidate.pokes[index] = (0, 0));
    }
    for number in (0..16).filter(|&number| number != 4) {
        add(&|candidate| candidate.registers.gpr[number] = 0);
        add(&|candidate| candidate.registers.gpr[number] &= 0xffff_ffff);
    }
    all
}

//! Random instructions, native against translated: a bounded run of `cargo tools fuzz`.

#![cfg(target_arch = "x86_64")]

use std::time::{Duration, Instant};

use endo_core::{IsolationBackend, NullBackend};
use endo_tools::fuzz::{self, Findings, Plan};

/// Printed with a failure; `cargo tools fuzz --seed` repeats it.
const SEED: u64 = 20_261_120;
/// What every x86-64 processor has comes to more than this.
const FEWEST_INSTRUCTIONS: usize = 1000;

#[test]
fn translated_instructions_leave_behind_what_native_ones_do() {
    let findings = no_divergences(&Plan { singles: 4, sequences: 10_000, ..plan() });
    let offered = findings.coverage.offered().len();
    assert!(offered >= FEWEST_INSTRUCTIONS, "only {offered} were carried out:\n{}", findings.coverage);
}

#[test]
fn predicted_calls_and_returns_leave_behind_what_native_ones_do() {
    let only = ["Call_", "Ret"].map(str::to_owned).to_vec();
    let findings = no_divergences(&Plan { singles: 400, only, predict_returns: true, ..plan() });
    let offered = findings.coverage.offered().len();
    assert!(offered >= 4, "only {offered} were carried out:\n{}", findings.coverage);
}

fn plan() -> Plan {
    Plan {
        seed: SEED,
        singles: 0,
        sequences: 0,
        deadline: Instant::now() + Duration::from_secs(40),
        only: Vec::new(),
        most_divergences: 5,
        predict_returns: false,
    }
}

fn no_divergences(plan: &Plan) -> Findings {
    NullBackend::probe().expect("the native side needs the null backend");
    let findings = fuzz::run(plan).expect("children can be forked");
    let texts: Vec<String> = findings.divergences.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "with seed {SEED}:\n{}", texts.join("\n"));
    findings
}

/// The comparison can tell: an outcome that is a bit off is seen.
#[test]
fn a_wrong_register_flag_byte_or_fault_is_a_difference() {
    use endo_tools::fuzz::batch::Runner;
    use endo_tools::fuzz::build::Builder;
    use endo_tools::fuzz::judge::{Verdict, judge};
    use endo_tools::fuzz::random::Random;

    let mut random = Random::new(1);
    let mut builder = Builder::new(&mut random);
    assert!(builder.push(iced_x86::Code::Add_r64_rm64));
    let case = builder.finish();
    let pairs = Runner::new().expect("memory").run(&[case], 1).expect("children can be forked");
    assert_eq!(judge(&case, &pairs[0]), Verdict::Same);
    let changes: [fn(&mut fuzz::case::Outcome); 6] = [
        |outcome| outcome.registers.gpr[3] ^= 1 << 40,
        |outcome| outcome.registers.flags.0 ^= 1,
        |outcome| outcome.registers.pc += 1,
        |outcome| outcome.vector[170] ^= 1,
        |outcome| outcome.memory ^= 1,
        |outcome| outcome.ending = fuzz::case::Ending::Exit(endo_core::Exit::Syscall),
    ];
    for change in changes {
        let mut pair = pairs[0].clone();
        change(&mut pair.translated);
        assert!(matches!(judge(&case, &pair), Verdict::Different(_)), "{pair:x?}");
    }
}

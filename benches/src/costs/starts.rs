//! Programs that mostly start: what translation and verification cost them, and how large their translations are.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use endo_testing::run_to_end;

use crate::inputs::Inputs;
use crate::measure::{Variant, command, measure};
use crate::workloads::{ALL, Scale, Workload};

/// Names of the workloads that are looked at.
pub const NAMES: [&str; 6] = ["/bin/true", "ls", "perl -e 1", "python -c pass", "sqlite script", "gcc -S"];

/// What was found out about a program.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name.
    pub name: &'static str,
    /// Seconds of CPU time: natively, verified, and not verified.
    pub native: f64,
    /// See `native`.
    pub verified: f64,
    /// See `native`.
    pub unverified: f64,
    /// What `--stats` says.
    pub figures: Figures,
}

/// Figures of `--stats`, summed over the processes of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Guest instructions translated.
    pub instructions: u64,
    /// Guest bytes that fragments cover.
    pub guest_bytes: u64,
    /// Bytes emitted.
    pub emitted_bytes: u64,
}

impl Figures {
    /// From the text of `--stats`, of one or several processes.
    pub fn parse(text: &str) -> anyhow::Result<Figures> {
        let mut sums: HashMap<&str, u64> = HashMap::new();
        for line in text.lines() {
            let Some((number, name)) = line.trim_start().split_once(' ') else { continue };
            let name = name.trim_start();
            let name = name.strip_prefix("bytes ").unwrap_or(name);
            if let Ok(number) = number.parse::<u64>() {
                *sums.entry(name).or_default() += number;
            }
        }
        let figure =
            |name| sums.get(name).copied().with_context(|| format!("`{name}` is not in the figures"));
        Ok(Figures {
            instructions: figure("guest instructions translated")?,
            guest_bytes: figure("guest code covered")?,
            emitted_bytes: figure("code emitted")?,
        })
    }

    /// Bytes in the code cache for each guest byte.
    pub fn expansion(&self) -> f64 {
        self.emitted_bytes as f64 / self.guest_bytes as f64
    }
}

impl Start {
    /// Nanoseconds that verification takes for each translated instruction.
    pub fn verification(&self) -> f64 {
        (self.verified - self.unverified) * 1e9 / self.figures.instructions as f64
    }

    /// Nanoseconds over native, all in all, for each translated instruction. Of a program that only starts this is what its
    /// translation takes; others also run slower afterwards.
    pub fn over_native(&self) -> f64 {
        (self.verified - self.native) * 1e9 / self.figures.instructions as f64
    }

    /// The part of the time over native that is verification.
    pub fn share(&self) -> f64 {
        (self.verified - self.unverified) / (self.verified - self.native)
    }
}

/// Runs a program natively, verified and not, in turn, and once for its figures.
pub fn look_at(name: &'static str, inputs: &Inputs, rounds: usize) -> anyhow::Result<Start> {
    let workload = ALL.iter().find(|workload| workload.name == name).context("a workload has this name")?;
    let on = Variant::Endo("--backend sfi --no-cache --verify on".to_owned());
    let off = Variant::Endo("--backend sfi --no-cache --verify off".to_owned());
    let samples = measure(workload, &[Variant::Native, on, off], inputs, Scale::Quick, rounds)?;
    let cost = |index: usize| match &samples[index].failure {
        Some(failure) => Err(anyhow::anyhow!("{name}: {failure}")),
        None => Ok(samples[index].cpu()),
    };
    let figures = figures(workload, inputs).with_context(|| name)?;
    Ok(Start { name, native: cost(0)?, verified: cost(1)?, unverified: cost(2)?, figures })
}

fn figures(workload: &Workload, inputs: &Inputs) -> anyhow::Result<Figures> {
    let variant = Variant::Endo("--backend sfi --no-cache --stats".to_owned());
    let mut command = command(&[], workload, &variant, inputs, Scale::Quick);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let input = workload.input(inputs, Scale::Quick)?;
    let ended = run_to_end(&mut command, input.as_deref(), Some(std::time::Duration::from_secs(120)))?;
    ensure!(ended.status.success(), "{}", ended.status);
    Figures::parse(&String::from_utf8_lossy(&ended.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "system calls:\n           8 mmap\n          29 in all\nbackend:\n         395  fragments translated\n       \
                        1000  guest instructions translated\n        4000 bytes guest code covered\n      6000 bytes code emitted\n";

    #[test]
    fn figures_of_several_processes_are_summed() {
        let figures = Figures::parse(&TEXT.repeat(2)).unwrap();
        assert_eq!(figures, Figures { instructions: 2000, guest_bytes: 8000, emitted_bytes: 12000 });
        assert!((figures.expansion() - 1.5).abs() < 1e-12);
    }

    #[test]
    fn figures_without_a_backend_are_refused() {
        assert!(Figures::parse("system calls:\n 8 mmap\n").is_err());
    }

    #[test]
    fn verification_is_what_comes_on_top_of_the_unverified_run() {
        let figures = Figures::parse(TEXT).unwrap();
        let start = Start { name: "x", native: 0.001, verified: 0.0011, unverified: 0.00108, figures };
        assert!((start.verification() - 20.0).abs() < 1e-6);
        assert!((start.over_native() - 100.0).abs() < 1e-6);
        assert!((start.share() - 0.2).abs() < 1e-6);
    }
}

//! Running variants of a workload in turn.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use endo_testing::{Ended, Usage, endo_binary, run_to_end};

use crate::inputs::Inputs;
use crate::workloads::{Kind, Scale, Workload};

/// A way to run a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Variant {
    /// Without Endo.
    Native,
    /// Under `endo run` with these options.
    Endo(String),
}

impl Variant {
    /// Its name in tables.
    pub fn name(&self) -> &str {
        match self {
            Variant::Native => "native",
            Variant::Endo(options) => options,
        }
    }
}

/// What came of the rounds of one variant.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The cost in seconds (or seconds a unit), one a round.
    pub costs: Vec<f64>,
    /// What the rounds used.
    pub usages: Vec<Usage>,
    /// Bytes resident at most, of workloads that start and end.
    pub resident: Vec<f64>,
    /// Why there is nothing, if the program failed.
    pub failure: Option<String>,
}

impl Samples {
    /// The median cost.
    pub fn cost(&self) -> f64 {
        median(self.costs.iter().copied())
    }

    /// The median CPU time, in seconds.
    pub fn cpu(&self) -> f64 {
        self.median_of(|usage| usage.cpu().as_secs_f64())
    }

    /// How far the rounds lie apart: half of the range between the quartiles, relative to the median.
    pub fn spread(&self) -> f64 {
        let mut costs = self.costs.clone();
        costs.sort_by(f64::total_cmp);
        let Some(last) = costs.len().checked_sub(1) else { return 0.0 };
        (costs[last - last / 4] - costs[last / 4]) / 2.0 / self.cost()
    }

    /// The median of a figure of all rounds.
    pub fn median_of(&self, figure: impl Fn(&Usage) -> f64) -> f64 {
        median(self.usages.iter().map(figure))
    }
}

/// The middle of some figures; not a number if there are none.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => figures[n / 2],
        n => (figures[n / 2 - 1] + figures[n / 2]) / 2.0,
    }
}

/// Runs every variant of a workload in every round, one after the other.
pub fn measure(
    workload: &Workload,
    variants: &[Variant],
    inputs: &Inputs,
    scale: Scale,
    rounds: usize,
) -> anyhow::Result<Vec<Samples>> {
    let mut samples = vec![Samples::default(); variants.len()];
    for _ in 0..rounds {
        for (variant, samples) in variants.iter().zip(&mut samples) {
            if samples.failure.is_some() {
                continue;
            }
            let ended = run_once(workload, variant, inputs, scale)?;
            match cost(workload, &ended) {
                Ok(cost) => {
                    samples.costs.push(cost);
                    samples.usages.push(ended.usage);
                    if workload.kind == Kind::Start {
                        samples.resident.push(resident_bytes(workload, variant, inputs, scale)?);
                    }
                }
                Err(error) => samples.failure = Some(error.to_string()),
            }
        }
    }
    Ok(samples)
}

/// The command that runs a workload, with the words of another before it.
pub fn command(
    before: &[PathBuf],
    workload: &Workload,
    variant: &Variant,
    inputs: &Inputs,
    scale: Scale,
) -> Command {
    let (words, _) = workload.words(scale);
    let mut all: Vec<PathBuf> = before.to_vec();
    if let Variant::Endo(options) = variant {
        all.push(endo_binary());
        all.push("run".into());
        all.extend(options.split_whitespace().map(PathBuf::from));
        all.push("--".into());
    }
    all.push(inputs.program(&words[0]));
    all.extend(words[1..].iter().map(PathBuf::from));
    let mut command = Command::new(&all[0]);
    command.args(&all[1..]).current_dir(&inputs.directory).env_clear();
    command.envs([
        ("PATH", "/usr/bin:/bin"),
        ("LC_ALL", "C"),
        ("PERL_HASH_SEED", "0"),
        ("PYTHONHASHSEED", "0"),
    ]);
    command
}

fn run_once(workload: &Workload, variant: &Variant, inputs: &Inputs, scale: Scale) -> anyhow::Result<Ended> {
    let mut command = command(&[], workload, variant, inputs, scale);
    // A file, for programs like grep and tar do nothing when they see that nobody reads what they write.
    let output = inputs.directory.join("output");
    let is_read = workload.kind == Kind::Throughput;
    command
        .stdout(if is_read { Stdio::piped() } else { File::create(&output)?.into() })
        .stderr(Stdio::null());
    // Each run finds the same files.
    let _ = fs::remove_file(inputs.directory.join("temporary.db"));
    let limit = Some(Duration::from_secs(120));
    let input = workload.input(inputs, scale)?;
    run_to_end(&mut command, input.as_deref(), limit).with_context(|| format!("run {}", workload.name))
}

/// The most memory that a workload has resident.
fn resident_bytes(
    workload: &Workload,
    variant: &Variant,
    inputs: &Inputs,
    scale: Scale,
) -> anyhow::Result<f64> {
    let mut command = command(&[inputs.program("resident")], workload, variant, inputs, scale);
    command.stdout(Stdio::piped());
    let ended = run_to_end(&mut command, None, Some(Duration::from_secs(120)))?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let kibibytes: f64 = text.trim().parse().with_context(|| format!("{}: `{text}`", workload.name))?;
    Ok(kibibytes * 1024.0)
}

/// What a run cost, in seconds of CPU time or seconds a unit of throughput.
fn cost(workload: &Workload, ended: &Ended) -> anyhow::Result<f64> {
    ensure!(!ended.timed_out, "timed out");
    ensure!(ended.status.success(), "{}", ended.status);
    if workload.kind != Kind::Throughput {
        return Ok(ended.usage.cpu().as_secs_f64());
    }
    let text = String::from_utf8_lossy(&ended.stdout);
    let line = text.lines().rfind(|line| line.starts_with("+F:")).context("no line of results")?;
    let figure = line.rsplit(':').next().unwrap_or_default();
    let throughput: f64 = figure.trim().parse().with_context(|| format!("`{figure}` is no figure"))?;
    ensure!(throughput > 0.0, "no throughput");
    Ok(1.0 / throughput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-12);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-12);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn the_spread_ignores_one_stray_round() {
        let samples = Samples { costs: vec![1.0, 1.0, 1.0, 1.0, 9.0], ..Samples::default() };
        assert!(samples.spread() < 1e-12);
    }
}

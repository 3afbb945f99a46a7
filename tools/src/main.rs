//! The command line of the tools: `cargo tools`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use endo_tools::fuzz;

/// Tools for whoever works on Endo's translator.
#[derive(Parser)]
#[command(name = "cargo tools")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run random instructions natively and translated, and compare all that they leave behind.
    Fuzz(FuzzArguments),
}

#[derive(clap::Args)]
struct FuzzArguments {
    /// Decides everything random; a run's seed is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How long to go on, with a new seed after each pass.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Cases of each instruction alone in a pass.
    #[arg(long, default_value_t = 8)]
    singles: usize,
    /// Cases of several instructions in a pass.
    #[arg(long, default_value_t = 20_000)]
    sequences: usize,
    /// Only instructions with this in the name of their iced-x86 `Code`. May be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Stop after so many divergences.
    #[arg(long, default_value_t = 20)]
    most: usize,
    /// Print which instructions were covered.
    #[arg(long)]
    coverage: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Fuzz(arguments) => run_fuzz(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False if anything differed.
fn run_fuzz(arguments: &FuzzArguments) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs_f64(arguments.minutes * 60.0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut seed = arguments.seed.unwrap_or(time.as_micros() as u64);
    loop {
        let plan = fuzz::Plan {
            seed,
            singles: arguments.singles,
            sequences: arguments.sequences,
            deadline,
            only: arguments.only.clone(),
            most_divergences: arguments.most,
        };
        let findings = fuzz::run(&plan)?;
        for divergence in &findings.divergences {
            println!("{divergence}");
        }
        if arguments.coverage {
            print!("{}", findings.coverage);
        }
        println!(
            "seed {seed}: {} cases, {} divergences, {:.1} s",
            findings.coverage.cases,
            findings.divergences.len(),
            begun.elapsed().as_secs_f64()
        );
        if !findings.divergences.is_empty() {
            return Ok(false);
        }
        if Instant::now() >= deadline {
            return Ok(true);
        }
        seed = seed.wrapping_add(1);
    }
}

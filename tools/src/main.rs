//! The command line of the tools: `cargo tools`.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use endo_sfi::step::Stride;
use endo_tools::{dump, fuzz, lockstep};

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
    /// Translate bytes and show guest and emitted code side by side.
    Dump(DumpArguments),
    /// Run a program translated and, step by step, natively, up to the first divergence.
    Lockstep(LockstepArguments),
}

#[derive(clap::Args)]
struct DumpArguments {
    /// The bytes, in hexadecimal.
    #[arg(required = true)]
    bytes: Vec<String>,
    /// Guest address of the first, in hexadecimal.
    #[arg(long, default_value = "400000", value_parser = parse_address)]
    at: u32,
}

#[derive(clap::Args)]
struct LockstepArguments {
    /// Compare after whole fragments, as they would be translated in earnest, instead of after every instruction.
    #[arg(long)]
    fragments: bool,
    /// Let the instruction at this address come out wrong, to see that it is found.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, hide = true)]
    wrong_at: Option<u32>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
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
    /// Translate returns as in programs with very much code.
    #[arg(long)]
    predict_returns: bool,
    /// Print which instructions were covered.
    #[arg(long)]
    coverage: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Fuzz(arguments) => run_fuzz(&arguments),
        Command::Dump(arguments) => run_dump(&arguments),
        Command::Lockstep(arguments) => run_lockstep(&arguments),
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

fn parse_address(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|error| format!("no guest address: {error}"))
}

fn run_dump(arguments: &DumpArguments) -> anyhow::Result<bool> {
    let bytes = dump::parse_hex(&arguments.bytes.concat()).context("the bytes are not hexadecimal")?;
    for text in dump::listings(&bytes, arguments.at) {
        println!("{text}");
    }
    Ok(true)
}

/// Ends as the program does.
fn run_lockstep(arguments: &LockstepArguments) -> anyhow::Result<bool> {
    let stride = if arguments.fragments { Stride::Fragment } else { Stride::Instruction };
    let program: Result<Vec<CString>, _> =
        arguments.program.iter().map(|word| CString::new(word.as_bytes())).collect();
    let ending = lockstep::run(&program?, stride, arguments.wrong_at.map(u64::from))?;
    eprintln!("no divergence; the program ended with {ending:?}");
    Ok(true)
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
            predict_returns: arguments.predict_returns,
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

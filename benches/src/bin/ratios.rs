//! `ratios`: how long programs take under Endo compared with native runs.
//!
//! Build `endo` in the same profile first; see `--help`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use endo_benches::inputs::Inputs;
use endo_benches::measure::{Variant, measure};
use endo_benches::report::{Row, json, tables};
use endo_benches::workloads::{ALL, Kind, Scale};
use endo_benches::{rates, services};

/// Measures programs natively and under Endo in turn and prints the ratios of their CPU time (user and system, with
/// children), the time that starting takes, and resident memory. Marked (!) is what misses its target.
#[derive(Parser)]
struct Arguments {
    /// Only workloads whose name contains one of these.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Rounds; of the times the median counts.
    #[arg(short = 'n', long, default_value_t = 5)]
    rounds: usize,
    /// A fifth of the work.
    #[arg(long)]
    quick: bool,
    /// Options of `endo run` to measure, instead of `--backend sfi`; may be repeated.
    #[arg(long = "variant", value_name = "OPTIONS", allow_hyphen_values = true)]
    variants: Vec<String>,
    /// Writes every sample to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the tables to a file too.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let scale = if arguments.quick { Scale::Quick } else { Scale::Full };
    let mut variants = vec![Variant::Native];
    match arguments.variants.as_slice() {
        [] => variants.push(Variant::Endo("--backend sfi".to_owned())),
        options => variants.extend(options.iter().cloned().map(Variant::Endo)),
    }
    let inputs = Inputs::prepare(scale)?;
    let is_wanted = |name: &str| {
        arguments.filter.is_empty() || arguments.filter.iter().any(|text| name.contains(text.as_str()))
    };
    let mut rows = Vec::new();
    for workload in ALL.iter().filter(|workload| is_wanted(workload.name)) {
        // What takes milliseconds needs more rounds than what takes seconds.
        let rounds = if workload.kind == Kind::Start { arguments.rounds * 6 } else { arguments.rounds };
        let samples = measure(workload, &variants, &inputs, scale, rounds)?;
        let row = Row { workload: *workload, samples };
        let ratios: Vec<String> = (1..variants.len())
            .map(|index| match (&row.samples[index].failure, row.ratio(index)) {
                (Some(failure), _) => failure.clone(),
                (None, ratio) => format!("{:.3}", ratio.unwrap_or(f64::NAN)),
            })
            .collect();
        eprintln!("{}: {}", workload.name, ratios.join("  "));
        rows.push(row);
    }
    let mut rate_rows = Vec::new();
    for service in services::ALL.iter().filter(|service| is_wanted(service.name)) {
        let row = rates::measure(service, &variants, scale, arguments.rounds)?;
        eprintln!(
            "{}",
            rates::table(std::slice::from_ref(&row), &variants)
                .trim_end()
                .rsplit('\n')
                .next()
                .unwrap_or_default()
        );
        rate_rows.push(row);
    }
    let text = tables(&rows, &variants) + &rates::table(&rate_rows, &variants);
    print!("{text}");
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, &text).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, json(&rows, &variants)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

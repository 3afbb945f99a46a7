//! `costs`: what each kind of guard and dispatch costs, what verification costs, how large translations are.
//!
//! Build `endo` in the same profile first; see `--help`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use endo_benches::costs::kinds::{ALL, CYCLE, Program};
use endo_benches::costs::{report, starts};
use endo_benches::inputs::Inputs;
use endo_benches::workloads::Scale;

/// Measures small loops, each of one kind of operation, and programs that mostly start, natively and under Endo in turn, and
/// prints what an operation costs, what verification costs, and how large translations are.
#[derive(Parser)]
struct Arguments {
    /// Only kinds and programs whose name contains one of these.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Rounds; of the times the median counts.
    #[arg(short = 'n', long, default_value_t = 5)]
    rounds: usize,
    /// Writes the tables to a file too.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let is_wanted = |name: &str| {
        arguments.filter.is_empty() || arguments.filter.iter().any(|text| name.contains(text.as_str()))
    };
    let program = Program::new();
    let mut costs = Vec::new();
    for &kind in ALL.iter().filter(|kind| kind.0 == CYCLE || is_wanted(kind.0)) {
        let cost = program.measure(kind, arguments.rounds)?;
        eprintln!("{}: {:.3} {:.3} ns", kind.0, cost.native, cost.ours);
        costs.push((kind.0, cost));
    }
    let mut text = report::kinds(&costs);
    let names: Vec<&str> = starts::NAMES.into_iter().filter(|name| is_wanted(name)).collect();
    if !names.is_empty() {
        let inputs = Inputs::prepare(Scale::Quick)?;
        let mut rows = Vec::new();
        for name in names {
            let row = starts::look_at(name, &inputs, arguments.rounds * 2)?;
            eprintln!("{name}: verification {:.1} ns an instruction", row.verification());
            rows.push(row);
        }
        text += &report::starts(&rows);
    }
    print!("{text}");
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, &text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

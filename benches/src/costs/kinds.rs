//! Kinds of operations, and how long each takes natively and under Endo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use endo_testing::{compile, endo_binary, guests_directory, run_to_end};

use super::listing::{Count, Listing, Places};
use crate::measure::median;

/// What a kind belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// What keeps loads, stores and the stack pointer inside, and arithmetic for comparison.
    Guard,
    /// How control gets from one place to another.
    Dispatch,
}

use Group::{Dispatch, Guard};

/// The kind whose time is one cycle.
pub const CYCLE: &str = "dependent_add";

/// Every kind: its name in `programs/costs.c`, its group, and what it is.
#[rustfmt::skip]
pub const ALL: &[(&str, Group, &str)] = &[
    (CYCLE, Guard, "addition that waits for the one before: a cycle"),
    ("register_move", Guard, "move between registers"),
    ("load", Guard, "load"),
    ("load_chain", Guard, "load whose address the load before fetched"),
    ("store", Guard, "store"),
    ("load_vector", Guard, "load of 16 bytes"),
    ("relative_load", Guard, "load relative to the pc"),
    ("relative_store", Guard, "store relative to the pc"),
    ("segment_load", Guard, "load relative to fs"),
    ("segment_indexed", Guard, "load relative to fs and a register"),
    ("lea", Guard, "lea"),
    ("relative_lea", Guard, "lea relative to the pc"),
    ("stack_add", Guard, "rsp down and up, flags not used"),
    ("stack_add_flags", Guard, "rsp down and up, flags used: truncations"),
    ("stack_load", Guard, "rsp loaded: truncation"),
    ("push_pop", Guard, "push and pop"),
    ("string_store", Guard, "stos, with a move"),
    ("string_move", Guard, "movs, with two moves"),
    ("string_repeat", Guard, "rep movs of 64 bytes, with three moves"),
    ("write_r11", Guard, "write of r11: a copy to the context"),
    ("loop_instruction", Dispatch, "loop, not taken, with a move"),
    ("direct_jump", Dispatch, "direct jump inside a fragment"),
    ("linked_jump", Dispatch, "two direct jumps between fragments: links"),
    ("direct_call", Dispatch, "direct call, address popped"),
    ("call_return", Dispatch, "direct call and return"),
    ("pointer_call", Dispatch, "indirect call by a register, one target, and return"),
    ("memory_call", Dispatch, "indirect call by memory, one target, and return"),
    ("four_calls", Dispatch, "indirect call of four targets in turn, and return"),
    ("random_calls", Dispatch, "indirect call of four targets at random, and return"),
    ("switch_table", Dispatch, "switch by a jump table, eight cases in turn"),
    ("linkage_call", Dispatch, "call through the linkage table, and return"),
];

/// What was found out about a kind.
#[derive(Clone, Debug)]
pub struct Cost {
    /// What it is.
    pub what: &'static str,
    /// Its group.
    pub group: Group,
    /// Nanoseconds an operation, natively.
    pub native: f64,
    /// Nanoseconds an operation, under Endo.
    pub ours: f64,
    /// Instructions an operation.
    pub count: Count,
}

/// The compiled program of all kinds.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Compiles it.
    pub fn new() -> Program {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/costs.c");
        Program { path: compile("gcc -O2 -no-pie", &[source]) }
    }

    /// Measures a kind in rounds that run natively and under Endo in turn; of each the median counts.
    pub fn measure(
        &self,
        (name, group, what): (&'static str, Group, &'static str),
        rounds: usize,
    ) -> anyhow::Result<Cost> {
        let (mut native, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            native.push(self.nanoseconds(&[], name)?);
            ours.push(self.nanoseconds(&["run", "--backend", "sfi", "--"], name)?);
        }
        Ok(Cost {
            what,
            group,
            native: median(native.into_iter()),
            ours: median(ours.into_iter()),
            count: self.count(name)?,
        })
    }

    fn nanoseconds(&self, endo: &[&str], name: &str) -> anyhow::Result<f64> {
        let text = self.run(endo, &[name, "40"])?;
        text.trim().parse().with_context(|| format!("{name}: `{text}` is no figure"))
    }

    /// Counts a kind's instructions in what the translator made of it.
    fn count(&self, name: &str) -> anyhow::Result<Count> {
        let places = Places::parse(&self.run(&[], &["places"])?, name)?;
        let file = guests_directory().join(format!("costs-fragments-{}", std::process::id()));
        let path = file.to_str().context("the target directory has a name in UTF-8")?;
        let run = self.run(&["run", "--backend", "sfi", "--dump-fragments", path, "--"], &[name, "1"]);
        let text = fs::read_to_string(&file);
        let _ = fs::remove_file(&file);
        run?;
        Ok(Listing::parse(&text?).count(&places))
    }

    fn run(&self, endo: &[&str], arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = match endo {
            [] => Command::new(&self.path),
            options => {
                let mut command = Command::new(endo_binary());
                command.args(options).arg(&self.path);
                command
            }
        };
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = run_to_end(&mut command, None, Some(Duration::from_secs(60)))?;
        let error = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "costs {arguments:?}: {}: {error}", ended.status);
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    }
}

impl Default for Program {
    fn default() -> Self {
        Program::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_table_is_in_the_program() {
        let program = Program::new();
        let places = program.run(&[], &["places"]).unwrap();
        let names: Vec<&str> = places.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ALL.iter().map(|kind| kind.0).collect::<Vec<_>>());
    }

    #[test]
    fn a_kind_natively_takes_a_time() {
        assert!(Program::new().nanoseconds(&[], CYCLE).unwrap() > 0.01);
    }
}

//! `cargo xtask tidy`: the rules of the house that the compiler does not know.
//!
//! A rule is a function from the tree to what is wrong in it. Lists that go with a rule (`unsafe-places.txt`,
//! `long-files.txt`) lie beside this package's `Cargo.toml`: a path, a colon, a reason, one a line.

use std::fmt;
use std::path::PathBuf;

use anyhow::bail;

use crate::tree::Tree;

mod attacks;
mod binary;
mod changelog;
mod layers;
mod length;
mod links;
mod list;
mod text;
mod tokens;
mod unsafe_places;

/// What to check.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Check this `endo` executable instead of the source: its fast paths must leave vector registers alone.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// Counted from 1; 0 if the file as a whole is meant.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    unsafe_places::check,
    length::check,
    tokens::check,
    layers::check,
    text::check,
    links::check,
    changelog::check,
    attacks::check,
];

/// Runs every rule and prints what it finds.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (findings, checked) = match &arguments.binary {
        Some(path) => binary::check(path)?,
        None => {
            let tree = Tree::load()?;
            let findings = RULES.iter().flat_map(|rule| rule(&tree)).collect();
            (findings, format!("{} files", tree.files.len()))
        }
    };
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} of the rules' findings to mend", findings.len());
    }
    println!("tidy: {checked}");
    Ok(())
}

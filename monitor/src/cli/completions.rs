//! `endo completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure, print};

/// Options of `endo completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsOptions {
    /// The shell that is to complete.
    pub shell: Shell,
}

/// Prints the script.
pub fn execute(options: &CompletionsOptions) -> Result<i32, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "endo", &mut script);
    print(&String::from_utf8_lossy(&script))
}

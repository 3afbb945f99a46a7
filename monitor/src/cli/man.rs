//! `endo man`.

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{Cli, Failure, exit, print};

/// Prints the page.
pub fn execute() -> Result<i32, Failure> {
    let page = page().map_err(|error| Failure::new(format!("cannot make the manual page: {error}")))?;
    print(&String::from_utf8_lossy(&page))
}

/// One page for the command and all its subcommands.
fn page() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let source = format!("endo {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).section("1").manual("Endo").source(source);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let title = format!("endo {}", subcommand.get_name()).to_uppercase();
        Roff::new().control("SH", [title.as_str()]).to_writer(&mut page)?;
        // The sections of a subcommand's own page, one level lower.
        let man = Man::new(subcommand.clone());
        let mut sections = Vec::new();
        man.render_synopsis_section(&mut sections)?;
        man.render_description_section(&mut sections)?;
        man.render_options_section(&mut sections)?;
        page.extend(String::from_utf8_lossy(&sections).replace(".SH ", ".SS ").into_bytes());
    }
    statuses().to_writer(&mut page)?;
    Ok(page)
}

fn statuses() -> Roff {
    let rows = [
        (exit::FAILURE, "endo failed: bad options, no usable backend."),
        (exit::NOT_EXECUTABLE, "The program cannot be executed."),
        (exit::NOT_FOUND, "The program, or an interpreter that it needs, was not found."),
    ];
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman("The program's own; a signal that ended the program ends endo too. Besides:")]);
    for (status, meaning) in rows {
        roff.control("TP", []).text([roman(status.to_string())]).text([roman(meaning)]);
    }
    roff
}

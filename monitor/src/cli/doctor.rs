//! `endo doctor`.

mod machine;

use std::fmt::Write;

use endo_core::{Against, Confinement, Properties};

use super::{Failure, print};
use crate::backends::{self, Report};
use crate::persist;

/// Options of `endo doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorOptions {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// A titled list of facts, in the order in which they are printed.
struct Section {
    title: &'static str,
    facts: Vec<(String, String)>,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Section { title, facts: Vec::new() }
    }

    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.facts.push((name.into(), value.into()));
    }
}

/// Prints the report.
pub fn execute(options: &DoctorOptions) -> Result<i32, Failure> {
    let reports = backends::probe_all();
    let sections = [
        backend_section(&reports),
        machine::kernel(),
        machine::processor(),
        machine::memory(),
        machine::limits(),
    ];
    print(&if options.json { as_json(&sections) } else { as_text(&sections) })
}

fn backend_section(reports: &[Report]) -> Section {
    let mut section = Section::new("backends");
    for report in reports {
        section.add(
            report.name,
            match &report.outcome {
                Ok(properties) => format!("usable: {}", promise(properties)),
                Err(reasons) => format!("not usable: {reasons}"),
            },
        );
    }
    let choice =
        backends::pick(reports).map_or("nothing: no backend that isolates is usable", |report| report.name);
    section.add("auto picks", choice);
    section.add("translations are kept", persist::describe());
    section
}

/// What a backend promises, in a line.
fn promise(properties: &Properties) -> String {
    let accesses: Vec<&str> = [
        (Confinement::LOADS, "loads"),
        (Confinement::STORES, "stores"),
        (Confinement::JUMPS, "jumps"),
        (Confinement::SYSCALLS, "system calls"),
    ]
    .into_iter()
    .filter(|(access, _)| properties.confinement.contains(*access))
    .map(|(_, name)| name)
    .collect();
    let against = match properties.against {
        Against::Nobody => "nobody",
        Against::Accidents => "accidents",
        Against::HostileCode => "hostile code",
    };
    let mut line = match accesses.as_slice() {
        [] => "confines nothing".to_owned(),
        accesses => format!("confines {} against {against}", accesses.join(", ")),
    };
    let gib = properties.address_space as f64 / f64::from(1 << 30);
    let _ = write!(line, "; {} domains, {gib:.0} GiB of address space", properties.max_domains);
    for caveat in &properties.caveats {
        let _ = write!(line, "; {caveat}");
    }
    line
}

fn as_text(sections: &[Section]) -> String {
    let mut text = format!("endo {}\n", env!("CARGO_PKG_VERSION"));
    for section in sections {
        let _ = writeln!(text, "\n{}", section.title);
        let width = section.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &section.facts {
            let _ = writeln!(text, "  {name:width$}  {value}");
        }
    }
    text
}

/// An object of objects of strings.
fn as_json(sections: &[Section]) -> String {
    let section_text = |section: &Section| {
        let facts =
            section.facts.iter().map(|(name, value)| format!("    {}: {}", quoted(name), quoted(value)));
        format!("  {}: {{\n{}\n  }}", quoted(section.title), facts.collect::<Vec<_>>().join(",\n"))
    };
    let version = format!("  \"version\": {}", quoted(env!("CARGO_PKG_VERSION")));
    let parts: Vec<String> = [version].into_iter().chain(sections.iter().map(section_text)).collect();
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

/// A JSON string (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }

    #[test]
    fn every_backend_is_reported_with_its_reasons() {
        let reports = backends::probe_all();
        let section = backend_section(&reports);
        let names: Vec<&str> = section.facts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sfi", "mpk", "poe", "mte", "null", "auto picks", "translations are kept"]);
    }
}

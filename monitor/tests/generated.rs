//! Documents that are made from the code say what the code says. `cargo xtask bless` rewrites them.

use std::fmt::Write;
use std::path::Path;

use endo::errno::Errno;
use endo::fast;
use endo::syscall::table::{Class, ROWS, Row};
use endo_core::{FastKind, SyscallNumber};

#[path = "generated/reasons.rs"]
mod reasons;

use reasons::REASONS;

/// Compares a document with what it should be, or writes it if that is asked for.
fn same_as_file(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if std::env::var_os("ENDO_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let different = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{name} is out of date (`cargo xtask bless` renews it), first at {different:?}"
    );
}

fn number(number: Option<u32>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| number.to_string())
}

fn answered_by(row: &Row) -> String {
    let fast_path = row.number().map_or(FastKind::None, |number| fast::kind(SyscallNumber(number)));
    match row.class {
        Class::Pass => match fast_path {
            FastKind::None => "kernel".to_owned(),
            FastKind::Check => "kernel, directly".to_owned(),
            FastKind::Call => "vDSO".to_owned(),
            FastKind::Copy => "kernel, directly or after a look".to_owned(),
        },
        Class::Check if fast_path != FastKind::None => "kernel, directly or after a look".to_owned(),
        Class::Check => "kernel, after a look".to_owned(),
        Class::Emulate => "monitor".to_owned(),
        Class::Deny(_) => "nobody".to_owned(),
    }
}

fn arguments(row: &Row) -> String {
    let kinds: Vec<String> = row.arguments.iter().map(|kind| format!("{kind:?}")).collect();
    kinds.join(", ")
}

/// What is done about a call, in a word.
fn word(row: &Row) -> &'static str {
    match row.class {
        Class::Pass => "passed",
        Class::Check => "checked",
        Class::Emulate => "emulated",
        Class::Deny(_) => "denied",
    }
}

fn reason(row: &Row) -> (&'static str, &'static str) {
    let known: Vec<_> = REASONS.iter().filter(|(calls, ..)| calls.contains(&row.name)).collect();
    match (row.class, &known[..]) {
        (Class::Pass, []) => ("", ""),
        (Class::Check | Class::Emulate | Class::Deny(_), [(_, errnos, text)]) => (errnos, text),
        _ => panic!("{} has {} reasons in tests/generated/reasons.rs", row.name, known.len()),
    }
}

/// What a call is refused with: for one that nobody answers, what the table says.
fn refused_with(row: &Row, errnos: &str) -> String {
    match row.class {
        Class::Deny(errno) => {
            let name = Errno(errno).name().expect("the table's errnos have names");
            assert!(
                errnos.split(", ").any(|errno| errno == name),
                "{}: {name} is not among {errnos}",
                row.name
            );
            name.to_owned()
        }
        _ => errnos.to_owned(),
    }
}

#[test]
fn the_document_of_capabilities_follows_the_table() {
    let counts = ["passed", "checked", "emulated", "denied"].map(|wanted| {
        let rows = ROWS.iter().filter(|row| row.x86_64.is_some() && word(row) == wanted);
        format!("{} are {wanted}", rows.count())
    });
    let mut text = format!(
        "# Capabilities: every system call\n\
         \n\
         Made from `monitor/src/syscall/table.rs` and `monitor/tests/generated/reasons.rs` by `cargo xtask bless`; a test keeps it\n\
         current. A number that is not here fails with ENOSYS. Of the calls of x86-64 {}.\n\
         \n\
         - **passed**: the kernel answers. Before that every pointer among the arguments was found to lie in the guest's window\n  \
           (EFAULT), arrays of pointers were copied and each of them looked at, no descriptor is one of the monitor's (EBADF), and\n  \
           no path leads to one (ENOENT).\n\
         - **checked**: the kernel answers after a function of the call's own has looked at the arguments, or on a copy of them.\n\
         - **emulated**: the monitor answers; the kernel sees other calls or none.\n\
         - **denied**: nobody answers.\n\
         \n\
         *Answered by* says who does, and whether a fast path leads there *directly*, at least in the call's simple form. An\n\
         index in an argument's kind names the argument with its length.\n\
         \n\
         | call | x86-64 | aarch64 | what happens | refused with | what is looked at or done, and why | answered by | arguments |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        counts.join(", ")
    );
    for row in ROWS {
        let numbers = [number(row.x86_64), number(row.aarch64)].join(" | ");
        let (errnos, why) = reason(row);
        let (word, refused, by) = (word(row), refused_with(row, errnos), answered_by(row));
        let arguments = arguments(row);
        writeln!(
            text,
            "| `{}` | {numbers} | **{word}** | {refused} | {why} | {by} | {arguments} |",
            row.name
        )
        .unwrap();
    }
    same_as_file("docs/capabilities.md", &text);
}

#[test]
fn a_reason_is_given_for_calls_that_exist() {
    let names = REASONS.iter().flat_map(|(calls, ..)| calls.iter());
    let unknown: Vec<_> = names.filter(|name| !ROWS.iter().any(|row| row.name == **name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

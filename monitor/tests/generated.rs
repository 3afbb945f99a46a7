//! Documents that are made from the code say what the code says. `cargo xtask bless` rewrites them.

use std::fmt::Write;
use std::path::Path;

use endo::errno::Errno;
use endo::fast;
use endo::syscall::table::{Class, ROWS, Row};
use endo_core::{FastKind, SyscallNumber};

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
        },
        Class::Check if fast_path == FastKind::Check => "kernel, directly or after a look".to_owned(),
        Class::Check => "kernel, after a look".to_owned(),
        Class::Emulate => "monitor".to_owned(),
        Class::Deny(errno) => format!("nobody: {}", Errno(errno).name().unwrap_or("an errno without a name")),
    }
}

fn arguments(row: &Row) -> String {
    let kinds: Vec<String> = row.arguments.iter().map(|kind| format!("{kind:?}")).collect();
    kinds.join(", ")
}

#[test]
fn the_document_of_system_calls_follows_the_table() {
    let mut text = String::from(
        "# System calls\n\
         \n\
         Made from `monitor/src/syscall/table.rs` by `cargo xtask bless`. A number that is not here fails with ENOSYS.\n\
         \n\
         *Kernel*: made as it stands once every argument has been checked by its kind; *directly*: on a fast path, in\n\
         its simple form. *vDSO*: by the host's. *After a look*: a handler of the call's own decides first. *Monitor*: the kernel does not see it, or sees\n\
         other calls. An index in an argument's kind names the argument with its length.\n\
         \n\
         | call | x86-64 | aarch64 | answered by | arguments |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for row in ROWS {
        let numbers = [number(row.x86_64), number(row.aarch64)].join(" | ");
        writeln!(text, "| `{}` | {numbers} | {} | {} |", row.name, answered_by(row), arguments(row)).unwrap();
    }
    same_as_file("docs/syscalls.md", &text);
}

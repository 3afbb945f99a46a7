//! Text files end their lines cleanly and speak of no particular machine.

use super::Finding;
use crate::tree::{File, Tree};

const EXTENSIONS: &[&str] = &[
    "rs", "md", "toml", "txt", "yaml", "yml", "json", "sh", "py", "c", "cc", "cpp", "h", "s", "S", "asm",
    "ld",
];

/// Expected outputs are what a program printed, byte for byte.
const AS_PRINTED: &[&str] = &["/expected/", "/snapshots/", "/golden/", "/data/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| EXTENSIONS.contains(&file.extension()) || file.path.starts_with(".ci/"))
        .filter(|file| !AS_PRINTED.iter().any(|part| file.path.contains(part)))
        .flat_map(check_file)
        .collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |line, message| findings.push(Finding::new(&file.path, line, message));
    for (index, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            found(index + 1, "white space at the end of the line");
        }
        if line.ends_with('\r') || file.text.contains("\r\n") && index == 0 {
            found(index + 1, "carriage return");
        }
        if names_a_machine(line) {
            found(index + 1, "a directory that only one machine has");
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        found(file.text.lines().count(), "no newline at the end of the file");
    }
    findings
}

/// Whether a line names a directory of whoever wrote it: his home, or where his checkout lies.
fn names_a_machine(line: &str) -> bool {
    ["work", "root"].into_iter().any(|name| {
        let directory = format!("/{name}");
        line.match_indices(&directory).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + directory.len()..].chars().next();
            !before.is_some_and(|c| c.is_alphanumeric() || "._-}*/".contains(c)) && after == Some('/')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        check(&Tree::of(&[("a.md", text)])).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn white_space_at_the_end_is_found() {
        assert_eq!(messages("a \nb\n"), ["white space at the end of the line"]);
    }

    #[test]
    fn a_missing_last_newline_is_found() {
        assert_eq!(messages("a"), ["no newline at the end of the file"]);
    }

    #[test]
    fn a_carriage_return_is_found() {
        assert_eq!(messages("a\r\n"), ["carriage return"]);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_part_of_a_path_is_not() {
        let directory = ["", "work", "endo"].join("/");
        assert_eq!(messages(&format!("see {directory}\n")), ["a directory that only one machine has"]);
        assert_eq!(messages("see frame/work/endo and the workshop\n"), Vec::<String>::new());
    }

    #[test]
    fn what_a_program_printed_stays_as_it_is() {
        assert_eq!(check(&Tree::of(&[("tests/expected/a.txt", "a \nb")])), []);
    }
}

//! docs/attacks.md has one row for each attack, and what it names as a test is one.
//!
//! A row is `| A1 | what | where | status |`. The status begins with `test:` (shown by the tests named in backquotes),
//! `part:` (they show a part of it), `cannot apply:` (with the reason) or `pending:` (with what it waits for).

use super::Finding;
use crate::source::{code_only, words};
use crate::tree::Tree;

const PATH: &str = "docs/attacks.md";
const ATTACKS: usize = 92;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.get(PATH) else {
        return vec![Finding::new(PATH, 0, "missing")];
    };
    let functions = functions(tree);
    let mut findings = Vec::new();
    let mut rows = 0;
    for (index, line) in file.text.lines().enumerate().filter(|(_, line)| line.starts_with("| A")) {
        rows += 1;
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let message = match cells[..] {
            [number, ..] if number != format!("A{rows}") => Some(format!("A{rows} was expected here")),
            [_, _, _, status] => wrong_status(status, &functions, tree),
            _ => Some("not four cells".to_owned()),
        };
        findings.extend(message.map(|message| Finding::new(PATH, index + 1, message)));
    }
    if rows != ATTACKS {
        findings.push(Finding::new(PATH, 0, format!("{rows} rows, not {ATTACKS}")));
    }
    findings
}

fn wrong_status(status: &str, functions: &[String], tree: &Tree) -> Option<String> {
    let (kind, text) = status.split_once(": ").unwrap_or(("", ""));
    let tests: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    match kind {
        "test" | "part" if tests.is_empty() => Some("no test is named in backquotes".to_owned()),
        "test" | "part" => tests
            .into_iter()
            .find(|test| !functions.iter().any(|function| function == test) && !tree.has(test))
            .map(|test| format!("there is no test `{test}`")),
        "cannot apply" | "pending" if text.len() >= 10 => None,
        _ => Some(format!("`{status}` is no status")),
    }
}

/// The names of all functions and macro-made tests: every word that follows `fn`.
fn functions(tree: &Tree) -> Vec<String> {
    let mut names = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        let code = code_only(&file.text);
        let mut all = words(&code).map(|(_, word)| word);
        while all.any(|word| word == "fn") {
            names.extend(all.next().map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(row: &str) -> String {
        let tree = Tree::of(&[(PATH, row), ("tests/a.rs", "#[test]\nfn a_thief_gets_nothing() {}\n")]);
        let findings = check(&tree);
        findings[0].message.clone()
    }

    #[test]
    fn a_row_that_names_a_test_passes() {
        assert_eq!(first("| A1 | theft | any | test: `a_thief_gets_nothing` |\n"), "1 rows, not 92");
        assert_eq!(first("| A1 | theft | any | part: `tests/a.rs` |\n"), "1 rows, not 92");
    }

    #[test]
    fn a_row_that_names_no_test_is_found() {
        assert_eq!(first("| A1 | theft | any | test: `nothing` |\n"), "there is no test `nothing`");
        assert_eq!(first("| A1 | theft | any | test: surely |\n"), "no test is named in backquotes");
    }

    #[test]
    fn a_row_out_of_order_is_found() {
        assert_eq!(first("| A2 | theft | any | pending: threads come later |\n"), "A1 was expected here");
    }

    #[test]
    fn a_status_without_a_reason_is_found() {
        assert_eq!(first("| A1 | theft | any | pending: no |\n"), "`pending: no` is no status");
        assert_eq!(first("| A1 | theft | any | done |\n"), "`done` is no status");
    }
}

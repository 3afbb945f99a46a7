//! A source file has 500 lines at most; tests and fuzz targets may have more, and the tables that
//! `xtask/long-files.txt` names.

use super::{Finding, list};
use crate::tree::Tree;

const LIST: &str = "xtask/long-files.txt";
const MOST_LINES: usize = 500;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let long: Vec<(&str, usize)> = tree
        .files
        .iter()
        .filter(|file| file.is_rust() && !is_exempt(&file.path))
        .map(|file| (file.path.as_str(), file.text.lines().count()))
        .filter(|&(_, lines)| lines > MOST_LINES)
        .collect();
    let (entries, mut findings) = list::read(
        tree,
        LIST,
        |entry| long.iter().any(|(path, _)| entry.covers(path)),
        "no longer than others: remove the line",
    );
    for (path, lines) in long {
        if !entries.iter().any(|entry| entry.covers(path)) {
            let message = format!("{lines} lines: split it by noun, or name the table in {LIST}");
            findings.push(Finding::new(path, 0, message));
        }
    }
    findings
}

fn is_exempt(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "fuzz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_a_long_test_is_not() {
        let text = "\n".repeat(MOST_LINES + 1);
        let tree = Tree::of(&[("a/src/b.rs", &text), ("a/tests/b.rs", &text), ("a/src/b/tests.rs", &text)]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "a/src/b.rs");
    }

    #[test]
    fn a_named_table_may_be_long_and_500_lines_are_not() {
        let long = "\n".repeat(MOST_LINES + 1);
        let short = "\n".repeat(MOST_LINES);
        let tree = Tree::of(&[
            ("a/src/table.rs", &long),
            ("a/src/b.rs", &short),
            (LIST, "a/src/table.rs: one row for each system call\n"),
        ]);
        assert_eq!(check(&tree), []);
    }
}

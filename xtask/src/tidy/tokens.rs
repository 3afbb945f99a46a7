//! What source may not contain: lints silenced without a reason, tests ignored without one, and what is left over
//! from writing it.

use super::Finding;
use crate::source::{code_only, words};
use crate::tree::{File, Tree};

/// Macros that stand for work not done.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter(|file| file.is_rust()).flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let code = code_only(&file.text);
    let mut findings = Vec::new();
    for (line, attribute) in attributes(&code) {
        let names: Vec<&str> = words(attribute).map(|(_, word)| word).collect();
        if names.contains(&"allow") {
            findings.push(Finding::new(&file.path, line, "`allow`: use `expect` with a reason"));
        }
        if names.contains(&"expect") && !names.contains(&"reason") {
            findings.push(Finding::new(&file.path, line, "`expect` without a reason"));
        }
        if names == ["ignore"] && !attribute.contains('=') {
            findings.push(Finding::new(&file.path, line, "`ignore` without a reason"));
        }
    }
    for (index, line) in code.lines().enumerate() {
        for unfinished in UNFINISHED.into_iter().filter(|unfinished| calls(line, unfinished)) {
            findings.push(Finding::new(&file.path, index + 1, format!("`{unfinished}`")));
        }
    }
    findings
}

/// The text between the brackets of every attribute, with its line.
fn attributes(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices('#') {
        let rest = code[at + 1..].strip_prefix('!').unwrap_or(&code[at + 1..]);
        let Some(inside) = rest.strip_prefix('[') else { continue };
        let mut depth = 1;
        let end = inside.find(|c| {
            depth += match c {
                '[' => 1,
                ']' => -1,
                _ => 0,
            };
            depth == 0
        });
        let line = code[..at].matches('\n').count() + 1;
        found.push((line, &inside[..end.unwrap_or(inside.len())]));
    }
    found
}

fn calls(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before == '_' || before.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        check(&Tree::of(&[("a.rs", text)])).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_silenced_lint_is_found() {
        assert_eq!(
            findings("\n#[allow(dead_code)]\nfn f() {}"),
            ["a.rs:2: `allow`: use `expect` with a reason"]
        );
        assert_eq!(findings("#![cfg_attr(test, allow(dead_code))]").len(), 1);
    }

    #[test]
    fn an_expectation_needs_a_reason() {
        assert_eq!(findings("#[expect(dead_code)]"), ["a.rs:1: `expect` without a reason"]);
        assert_eq!(findings("#[expect(dead_code, reason = \"table\")]"), Vec::<String>::new());
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        assert_eq!(findings("#[ignore]"), ["a.rs:1: `ignore` without a reason"]);
        assert_eq!(findings("#[ignore = \"needs a machine with keys\"]"), Vec::<String>::new());
    }

    #[test]
    fn unfinished_work_is_found_outside_comments_and_strings() {
        assert_eq!(findings("fn f() { todo!() }"), ["a.rs:1: `todo!`"]);
        assert_eq!(findings("// todo!\nlet s = \"dbg!\"; my_dbg!();"), Vec::<String>::new());
    }
}

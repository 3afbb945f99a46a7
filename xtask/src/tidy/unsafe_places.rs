//! Unsafe code lives in the files that `xtask/unsafe-places.txt` names, each with the reason why it must.
//!
//! `global_asm!` counts as unsafe too, though the language does not ask for the word.

use super::{Finding, list};
use crate::source::{code_only, words};
use crate::tree::{File, Tree};

const LIST: &str = "xtask/unsafe-places.txt";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let places: Vec<(&File, usize)> = tree
        .files
        .iter()
        .filter(|file| file.is_rust())
        .filter_map(|file| Some((file, first_unsafe_line(&file.text)?)))
        .collect();
    let (entries, mut findings) = list::read(
        tree,
        LIST,
        |entry| places.iter().any(|(file, _)| entry.covers(&file.path)),
        "nothing unsafe is there (any more): remove the line",
    );
    for (file, line) in places {
        if !entries.iter().any(|entry| entry.covers(&file.path)) {
            let message = format!("unsafe code in a file that {LIST} does not name");
            findings.push(Finding::new(&file.path, line, message));
        }
    }
    findings
}

fn first_unsafe_line(text: &str) -> Option<usize> {
    words(&code_only(text)).find(|(_, word)| matches!(*word, "unsafe" | "global_asm")).map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlisted_file_is_found_at_its_line() {
        let tree = Tree::of(&[("a/b.rs", "// unsafe\nfn f() {\n    unsafe { g() }\n}\n")]);
        assert_eq!(
            check(&tree)[0].to_string(),
            "a/b.rs:3: unsafe code in a file that xtask/unsafe-places.txt does not name"
        );
    }

    #[test]
    fn a_listed_file_and_a_listed_directory_pass() {
        let tree = Tree::of(&[
            ("a/b.rs", "unsafe fn f() {}"),
            ("c/d/e.rs", "unsafe fn f() {}"),
            (LIST, "a/b.rs: talks to the kernel\nc/d/: tests that call libc\n"),
        ]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn an_entry_that_covers_nothing_is_found() {
        let tree = Tree::of(&[("a/b.rs", "fn f() {}"), (LIST, "a/b.rs: talks to the kernel\n")]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn an_entry_without_a_reason_is_found() {
        let tree = Tree::of(&[("a/b.rs", "unsafe fn f() {}"), (LIST, "a/b.rs: because\n")]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn global_assembly_counts_as_unsafe() {
        let tree = Tree::of(&[("a/b.rs", "core::arch::global_asm!(\"nop\");")]);
        assert_eq!(check(&tree).len(), 1);
    }
}

//! The lists that go with a rule: `path: reason`, one a line, sorted by path; `#` begins a comment line.

use super::Finding;
use crate::tree::Tree;

/// An entry of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// A file; or, with a slash at its end, all files below a directory.
    pub(super) path: String,
    line: usize,
}

impl Entry {
    /// Whether the entry speaks of this file.
    pub(super) fn covers(&self, path: &str) -> bool {
        if self.path.ends_with('/') { path.starts_with(&self.path) } else { path == self.path }
    }
}

/// Reads a list. Entries without a reason, out of order, or that `needed` finds no use for are findings.
pub(super) fn read(
    tree: &Tree,
    list: &str,
    needed: impl Fn(&Entry) -> bool,
    unneeded: &str,
) -> (Vec<Entry>, Vec<Finding>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut findings = Vec::new();
    let text = tree.get(list).map_or("", |file| &file.text);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((path, reason)) = line.split_once(": ") else {
            findings.push(Finding::new(list, number, "no `path: reason`"));
            continue;
        };
        if reason.trim().len() < 10 {
            findings.push(Finding::new(list, number, "the reason says nothing"));
        }
        let entry = Entry { path: path.to_owned(), line: number };
        if entries.last().is_some_and(|last| last.path >= entry.path) {
            findings.push(Finding::new(list, number, "not in alphabetical order"));
        }
        if !needed(&entry) {
            findings.push(Finding::new(list, entry.line, format!("{}: {unneeded}", entry.path)));
        }
        entries.push(entry);
    }
    (entries, findings)
}

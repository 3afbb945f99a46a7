//! A link in a document leads to a file of the tree and, where it names a heading, to a heading that is there.

use super::Finding;
use crate::tree::{File, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.extension() == "md")
        .flat_map(|file| check_file(tree, file))
        .collect()
}

fn check_file(tree: &Tree, file: &File) -> Vec<Finding> {
    prose(&file.text)
        .flat_map(|(line, text)| targets(text).map(move |target| (line, target)))
        .filter_map(|(line, target)| {
            Some(Finding::new(&file.path, line, format!("{target}: {}", wrong(tree, file, target)?)))
        })
        .collect()
}

/// The lines outside code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return None;
        }
        (!in_code).then_some((index + 1, line))
    })
}

/// The targets of the inline links in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, opening)| {
        let rest = &line[at + opening.len()..];
        Some(&rest[..rest.find(')')?])
    })
}

/// What is wrong with a link of a file, if anything.
fn wrong(tree: &Tree, file: &File, target: &str) -> Option<&'static str> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
    if !tree.has(&path) {
        return Some("no such file");
    }
    let has_heading = heading.is_empty()
        || tree.get(&path).is_none_or(|file| headings(&file.text).any(|slug| slug == heading));
    (!has_heading).then_some("no such heading")
}

fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What links call the headings of a document: lower case, hyphens for spaces, no punctuation.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        line.trim_start_matches('#')
            .trim()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                '-' | '_' => Some(c),
                c => c.is_alphanumeric().then(|| c.to_ascii_lowercase()),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let tree =
            Tree::of(&[("docs/a.md", text), ("README.md", "# The one, `big` heading\n"), ("src/b.rs", "")]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn links_to_files_directories_and_headings_pass() {
        let text =
            "[a](../README.md) [b](../src) [c](../README.md#the-one-big-heading) [d](https://example.org)\n";
        assert_eq!(messages(text), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        assert_eq!(messages("[a](README.md)\n"), ["README.md: no such file"]);
        assert_eq!(messages("[a](../README.md#two)\n"), ["../README.md#two: no such heading"]);
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(messages("```\n[a](b)\n```\n"), Vec::<String>::new());
    }
}

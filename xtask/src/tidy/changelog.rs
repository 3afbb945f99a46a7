//! CHANGELOG.md keeps the form of <https://keepachangelog.com/en/1.1.0/>.

use super::Finding;
use crate::tree::Tree;

const PATH: &str = "CHANGELOG.md";
const GROUPS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.get(PATH) else {
        return vec![Finding::new(PATH, 0, "missing")];
    };
    let mut findings = Vec::new();
    let mut found = |line, message: String| findings.push(Finding::new(PATH, line, message));
    if file.text.lines().next() != Some("# Changelog") {
        found(1, "the first line is not `# Changelog`".to_owned());
    }
    let mut versions = 0;
    let mut heading: Option<(usize, &str)> = None;
    for (index, line) in file.text.lines().enumerate() {
        let number = index + 1;
        if let Some(version) = line.strip_prefix("## ") {
            versions += 1;
            if !is_version(version, versions) {
                found(number, format!("`{version}` is not `[Unreleased]` (first) or `[1.2.3] - 2026-01-31`"));
            }
        }
        if let Some(group) = line.strip_prefix("### ") {
            if !GROUPS.contains(&group) {
                found(number, format!("`{group}` is none of {}", GROUPS.join(", ")));
            }
            if let Some((line, group)) = heading.replace((number, group)) {
                found(line, format!("nothing under `{group}`"));
            }
        } else if line.starts_with("- ") {
            heading = None;
        }
    }
    if let Some((line, group)) = heading {
        found(line, format!("nothing under `{group}`"));
    }
    if versions == 0 {
        found(1, "no `## [Unreleased]`".to_owned());
    }
    findings
}

fn is_version(text: &str, nth: usize) -> bool {
    if nth == 1 {
        return text == "[Unreleased]";
    }
    let Some((number, date)) = text.strip_prefix('[').and_then(|rest| rest.split_once("] - ")) else {
        return false;
    };
    let numeric = |text: &str, lengths: &[usize]| {
        text.bytes().all(|b| b.is_ascii_digit()) && (lengths.is_empty() || lengths.contains(&text.len()))
    };
    let parts: Vec<&str> = date.split('-').collect();
    number.split('.').count() == 3
        && number.split('.').all(|part| !part.is_empty() && numeric(part, &[]))
        && matches!(parts[..], [y, m, d] if numeric(y, &[4]) && numeric(m, &[2]) && numeric(d, &[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Tree::of(&[(PATH, text)])).len()
    }

    #[test]
    fn the_form_passes() {
        let text = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- a\n\n## [0.1.0] - 2026-01-31\n\n### Fixed\n\n- b\n";
        assert_eq!(findings(text), 0);
    }

    #[test]
    fn a_version_without_a_date_is_found() {
        assert_eq!(findings("# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n"), 1);
    }

    #[test]
    fn an_unknown_or_empty_group_is_found() {
        assert_eq!(findings("# Changelog\n\n## [Unreleased]\n\n### News\n\n- a\n"), 1);
        assert_eq!(findings("# Changelog\n\n## [Unreleased]\n\n### Added\n\n### Fixed\n\n- a\n"), 1);
    }

    #[test]
    fn a_missing_unreleased_is_found() {
        assert_eq!(findings("# Changelog\n"), 1);
    }
}

//! Who may depend on whom: `core` on nothing here, a backend on `core` alone. Each outside dependency is named once,
//! in the root manifest, with a reason; a member that needs another version or other features says why.

use super::Finding;
use crate::tree::Tree;

/// Manifests and the packages of this workspace that they may name.
const LAYERS: &[(&str, &[&str])] = &[
    ("core/Cargo.toml", &[]),
    ("backend-sfi/Cargo.toml", &["endo-core"]),
    ("backend-mpk/Cargo.toml", &["endo-core"]),
    ("backend-aarch64/Cargo.toml", &["endo-core"]),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let layered = LAYERS.iter().flat_map(|(path, allowed)| check_layer(tree, path, allowed));
    let outside = tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")).flat_map(|file| {
        dependencies(&file.text)
            .filter(|&(line, _, value)| {
                !value.contains("workspace = true") && !is_explained(&file.text, line)
            })
            .map(|(line, name, _)| {
                let message = format!("{name}: neither taken from the root manifest nor explained");
                Finding::new(&file.path, line, message)
            })
    });
    layered.chain(outside).chain(check_reasons(tree)).collect()
}

fn check_layer(tree: &Tree, path: &str, allowed: &[&str]) -> Vec<Finding> {
    let text = tree.get(path).map_or("", |file| &file.text);
    dependencies(text)
        .filter(|(_, name, _)| name.starts_with("endo") && !allowed.contains(name))
        .map(|(line, name, _)| Finding::new(path, line, format!("{name} lies in a higher layer")))
        .collect()
}

fn check_reasons(tree: &Tree) -> Vec<Finding> {
    let text = tree.get("Cargo.toml").map_or("", |file| &file.text);
    let lines: Vec<&str> = text.lines().collect();
    let mut explained = false;
    let mut findings = Vec::new();
    for (line, name, value) in dependencies(text) {
        // A family of crates released together shares the reason above its first member.
        explained = is_explained(text, line) || (explained && same_family(lines[line - 2], name));
        if !explained && !value.contains("path = ") {
            findings.push(Finding::new("Cargo.toml", line, format!("{name}: no reason above it")));
        }
    }
    findings
}

/// Whether the line above says why.
fn is_explained(text: &str, line: usize) -> bool {
    line > 1 && text.lines().nth(line - 2).is_some_and(|above| above.starts_with('#'))
}

fn same_family(line: &str, name: &str) -> bool {
    let family = |name: &str| name.split(['-', '_', ' ', '.']).next().unwrap_or_default().to_owned();
    family(line) == family(name)
}

/// Lines of the form `name = …` or `name.workspace = true` in the dependency tables of a manifest.
fn dependencies(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
            return None;
        }
        let (key, _) = line.split_once('=').filter(|_| inside && !line.starts_with('#'))?;
        let name = key.trim().trim_end_matches(".workspace");
        Some((index + 1, name, line.trim_start_matches(name).trim_start_matches('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_knows_the_monitor_is_found() {
        let tree = Tree::of(&[("backend-sfi/Cargo.toml", "[dependencies]\nendo.workspace = true\n")]);
        assert_eq!(check(&tree)[0].to_string(), "backend-sfi/Cargo.toml:2: endo lies in a higher layer");
    }

    #[test]
    fn a_version_outside_the_root_manifest_needs_a_reason() {
        let tree = Tree::of(&[("a/Cargo.toml", "[dependencies]\nlibc = \"0.2\"\nx.workspace = true\n")]);
        assert_eq!(check(&tree).len(), 1);
        let tree = Tree::of(&[("a/Cargo.toml", "[dependencies]\n# Older, because.\nlibc = \"0.2\"\n")]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found_unless_its_family_has_one() {
        let text =
            "[workspace.dependencies]\n# Stubs.\ncranelift-a = \"1\"\ncranelift-b = \"1\"\nlibc = \"0.2\"\n";
        let tree = Tree::of(&[("Cargo.toml", text)]);
        assert_eq!(check(&tree), [Finding::new("Cargo.toml", 5, "libc: no reason above it")]);
    }
}

//! What cargo builds for the machine: the `endo` executable and test programs, with the profile that CI uses.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// The executable of `endo`.
pub(super) fn endo(root: &Path) -> anyhow::Result<PathBuf> {
    let artifacts = cargo(root, &["build", "--workspace", "--bin", "endo"])?;
    executable(&artifacts, &root.join("monitor/src/main.rs"))
}

/// The programs of tests, each named by its source file relative to the root.
pub(super) fn tests(root: &Path, sources: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let mut arguments = vec!["test", "--workspace", "--no-run"];
    for source in sources {
        let (directory, name) =
            source.rsplit_once('/').with_context(|| format!("{source}: no test's source"))?;
        match name.strip_suffix(".rs") {
            Some("lib") if directory.ends_with("src") => arguments.push("--lib"),
            Some(name) if directory.ends_with("tests") => arguments.extend(["--test", name]),
            _ => anyhow::bail!("{source}: name a file like core/tests/NAME.rs or core/src/lib.rs"),
        }
    }
    let artifacts = cargo(root, &arguments)?;
    sources.iter().map(|source| executable(&artifacts, &root.join(source))).collect()
}

/// Runs cargo and returns its messages.
fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--profile", "ci", "--locked", "--message-format", "json-render-diagnostics", "--quiet"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("could not run cargo")?;
    ensure!(output.status.success(), "cargo {} failed", arguments.join(" "));
    let text = String::from_utf8(output.stdout).context("cargo wrote something that is not UTF-8")?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("cargo wrote {line}")))
        .collect()
}

/// The executable that was made from a source file.
fn executable(artifacts: &[Value], source: &Path) -> anyhow::Result<PathBuf> {
    artifacts
        .iter()
        .filter(|artifact| artifact["target"]["src_path"].as_str() == source.to_str())
        .find_map(|artifact| artifact["executable"].as_str())
        .map(PathBuf::from)
        .with_context(|| format!("cargo made no program from {}", source.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_of_a_source_file_is_found() {
        let message = |source: &str, executable: &str| {
            let line = format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"a","src_path":"{source}"}},"executable":{executable}}}"#
            );
            serde_json::from_str(&line).unwrap()
        };
        let artifacts = [
            message("/x/src/lib.rs", "null"),
            message("/y/tests/a.rs", r#""/t/a-2""#),
            message("/x/tests/a.rs", r#""/t/a-1""#),
        ];
        assert_eq!(executable(&artifacts, Path::new("/x/tests/a.rs")).unwrap(), Path::new("/t/a-1"));
        let error = executable(&artifacts, Path::new("/x/src/lib.rs")).unwrap_err();
        assert_eq!(error.to_string(), "cargo made no program from /x/src/lib.rs");
    }

    #[test]
    fn what_names_no_test_is_refused() {
        let error = tests(Path::new("/nowhere"), &["core/src/addr.rs"]).unwrap_err();
        assert!(error.to_string().starts_with("core/src/addr.rs: name a file like"), "{error}");
    }
}

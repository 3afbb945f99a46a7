//! A program to be run natively and under Endo.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::{Outcome, Status, backend, endo_binary, run_to_end, store_directory};

/// What runs the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Under {
    /// The machine itself.
    Native,
    /// `endo run` with the backend under test.
    Endo,
    /// `endo run` with these options instead of the choice of a backend.
    EndoWith(Vec<String>),
}

/// A program with all that it depends on. It runs in a directory of its own, with a small fixed environment; each run
/// finds the directory at the same path and as it was given, whatever another run did to it.
#[derive(Debug)]
pub struct Guest {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    files: Vec<(String, u32, Vec<u8>)>,
    limit: Duration,
}

impl Guest {
    /// The program at a path, without arguments, with an empty input and half a minute to finish.
    pub fn new(program: impl Into<PathBuf>) -> Guest {
        Guest {
            program: program.into(),
            arguments: Vec::new(),
            environment: [
                ("PATH", "/usr/bin:/bin"),
                ("HOME", "/nonexistent"),
                ("LC_ALL", "C"),
                ("TZ", "UTC"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            stdin: Vec::new(),
            files: Vec::new(),
            limit: Duration::from_secs(30),
        }
    }

    /// A shell script for `/bin/sh`.
    pub fn shell(script: &str) -> Guest {
        Guest::new("/bin/sh").arguments(["-c", script])
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Guest {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Guest {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Guest {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What it reads from its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Guest {
        self.stdin = bytes.into();
        self
    }

    /// A file that it finds in its directory.
    #[must_use]
    pub fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Guest {
        self.files.push((path.to_owned(), 0o644, contents.into()));
        self
    }

    /// An executable file that it finds in its directory.
    #[must_use]
    pub fn executable_file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Guest {
        self.files.push((path.to_owned(), 0o755, contents.into()));
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit_seconds(mut self, seconds: u64) -> Guest {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Runs it natively and under Endo and compares: output, status, files. Returns the native outcome, so that a test
    /// can make sure that the program did what it is there for.
    ///
    /// # Panics
    ///
    /// If the outcomes differ, with where; if the program does not end.
    pub fn same(&self) -> Outcome {
        self.same_under(&Under::Endo)
    }

    /// [`same`](Self::same), under Endo with these options.
    ///
    /// # Panics
    ///
    /// As `same`.
    pub fn same_with(&self, options: &[&str]) -> Outcome {
        self.same_under(&Under::EndoWith(options.iter().map(|&option| option.to_owned()).collect()))
    }

    fn same_under(&self, under: &Under) -> Outcome {
        let place = TempDir::new().expect("there is room for scratch files");
        let native = self.run_in(&place, &Under::Native);
        assert_ne!(native.status, Status::TimedOut, "{} does not even end natively", self.program.display());
        let ours = self.run_in(&place, under);
        if let Some(difference) = ours.difference_from(&native) {
            panic!("{}\n{difference}", self.command_line(under));
        }
        native
    }

    /// [`same`](Self::same), and the program must succeed.
    ///
    /// # Panics
    ///
    /// As `same`, and if the status is not 0.
    pub fn same_and_succeeds(&self) -> Outcome {
        let outcome = self.same();
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        assert_eq!(outcome.status, Status::Exited(0), "{} {stderr}", self.program.display());
        outcome
    }

    /// Runs it once.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn run(&self, under: &Under) -> Outcome {
        self.run_in(&TempDir::new().expect("there is room for scratch files"), under)
    }

    /// The command that runs it, without its directory, environment and input.
    pub fn command(&self, under: &Under) -> Command {
        let options = match under {
            Under::Native => None,
            Under::Endo => {
                let store = store_directory().to_string_lossy().into_owned();
                Some(vec!["--backend".to_owned(), backend(), "--cache-dir".to_owned(), store])
            }
            Under::EndoWith(options) => Some(options.clone()),
        };
        let mut command = match options {
            None => Command::new(&self.program),
            Some(options) => {
                let mut command = Command::new(endo_binary());
                command.arg("run").args(options).arg("--").arg(&self.program);
                command
            }
        };
        command.args(&self.arguments).env_clear().envs(self.environment.iter().cloned());
        command
    }

    fn run_in(&self, place: &TempDir, under: &Under) -> Outcome {
        let directory = place.path().join("here");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).expect("the scratch directory can be written");
        for (path, mode, contents) in &self.files {
            write(&directory.join(path), *mode, contents);
        }
        let mut command = self.command(under);
        command.current_dir(&directory).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = run_to_end(&mut command, Some(&self.stdin), Some(self.limit))
            .unwrap_or_else(|error| panic!("{}: {error}", self.command_line(under)));
        Outcome::new(ended, &directory)
    }

    fn command_line(&self, under: &Under) -> String {
        let command = self.command(under);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let line: String = words.join(" ").chars().take(600).collect();
        line
    }
}

fn write(path: &Path, mode: u32, contents: &[u8]) {
    let directory = path.parent().expect("a file lies in a directory");
    fs::create_dir_all(directory).expect("the scratch directory can be written");
    fs::write(path, contents).expect("the scratch directory can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the file is ours");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::open(path).and_then(|file| file.set_modified(time)).expect("the file is ours");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_finds_its_files_input_and_environment() {
        let guest =
            Guest::shell("cat f; cat; echo $LC_ALL; echo new > g").file("f", "file\n").stdin("input\n");
        let outcome = guest.run(&Under::Native);
        assert_eq!(outcome.text(), "file\ninput\nC\n");
        assert_eq!(outcome.files["g"].1, b"new\n");
        assert_eq!(outcome.status, Status::Exited(0));
    }
}

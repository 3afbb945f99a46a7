//! What came of running a program, and how two outcomes differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::{Ended, Usage};

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It returned this.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It did not end within its limit.
    TimedOut,
}

/// What came of running a program.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// The files in its directory afterwards: mode and contents (for a link, where it leads) by path.
    pub files: BTreeMap<String, (u32, Vec<u8>)>,
    /// What it used.
    pub usage: Usage,
}

impl Outcome {
    pub(crate) fn new(ended: Ended, directory: &Path) -> Outcome {
        let status = match (ended.timed_out, ended.status.code(), ended.status.signal()) {
            (true, ..) => Status::TimedOut,
            (_, Some(code), _) => Status::Exited(code),
            (_, None, signal) => Status::Killed(signal.unwrap_or(0)),
        };
        let mut files = BTreeMap::new();
        collect(directory, "", &mut files);
        Outcome { status, stdout: ended.stdout, stderr: ended.stderr, files, usage: ended.usage }
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Where this outcome differs from the native one, in words; `None` if nowhere.
    pub fn difference_from(&self, native: &Outcome) -> Option<String> {
        let mut text = String::new();
        if self.status != native.status {
            let _ = writeln!(text, "status: native {:?}, under endo {:?}", native.status, self.status);
        }
        for (what, ours, theirs) in
            [("stdout", &self.stdout, &native.stdout), ("stderr", &self.stderr, &native.stderr)]
        {
            if ours != theirs {
                let _ = writeln!(text, "{what} {}", first_difference(ours, theirs));
            }
        }
        let names: Vec<&String> = native.files.keys().chain(self.files.keys()).collect();
        for name in names {
            match (self.files.get(name), native.files.get(name)) {
                (Some(ours), Some(theirs)) if ours == theirs => {}
                (Some((our_mode, ours)), Some((their_mode, theirs))) => {
                    let difference = first_difference(ours, theirs);
                    let _ = writeln!(text, "file {name}: mode {their_mode:o}, {our_mode:o}; {difference}");
                }
                (None, _) => drop(writeln!(text, "file {name}: missing under endo")),
                (_, None) => drop(writeln!(text, "file {name}: only under endo")),
            }
        }
        if text.is_empty() {
            return None;
        }
        if native.stderr.is_empty() && !self.stderr.is_empty() {
            let _ = writeln!(text, "stderr under endo:\n{}", shortened(&self.stderr, 0));
        }
        Some(text)
    }
}

fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        let contents = if metadata.is_file() {
            fs::read(entry.path()).unwrap_or_default()
        } else if metadata.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            target.into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        files.insert(name.clone(), (metadata.permissions().mode(), contents));
        if metadata.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        }
    }
}

/// Where two texts part: the line, and a few lines of both from there.
pub(crate) fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let line = theirs[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = theirs[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    format!(
        "differs from line {line}, byte {at} (native has {} bytes, endo {}):\n--- native\n{}\n--- under endo\n{}",
        theirs.len(),
        ours.len(),
        shortened(theirs, start),
        shortened(ours, start)
    )
}

fn shortened(bytes: &[u8], start: usize) -> String {
    const MOST: usize = 1500;
    let rest = &bytes[start.min(bytes.len())..];
    let part = &rest[..rest.len().min(MOST)];
    let text = str::from_utf8(part).map_or_else(|_| part.escape_ascii().to_string(), str::to_owned);
    if rest.len() > MOST { text + "…" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(stdout: &str, code: i32) -> Outcome {
        Outcome {
            status: Status::Exited(code),
            stdout: stdout.as_bytes().to_owned(),
            stderr: Vec::new(),
            files: BTreeMap::new(),
            usage: Usage::default(),
        }
    }

    #[test]
    fn equal_outcomes_do_not_differ() {
        assert_eq!(outcome("a", 0).difference_from(&outcome("a", 0)), None);
    }

    #[test]
    fn output_status_and_files_each_make_a_difference() {
        let native = outcome("a\nb\n", 0);
        assert!(outcome("a\nc\n", 0).difference_from(&native).unwrap().contains("line 2"));
        assert!(outcome("a\nb\n", 1).difference_from(&native).unwrap().contains("Exited(1)"));
        let mut more = outcome("a\nb\n", 0);
        more.files.insert("f".to_owned(), (0o100_644, Vec::new()));
        assert!(more.difference_from(&native).unwrap().contains("only under endo"));
    }
}

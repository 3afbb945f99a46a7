//! Running `endo` to see it complain.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Endo's own failure.
pub(crate) const FAILURE: i32 = 125;
/// The program cannot be executed.
pub(crate) const NOT_EXECUTABLE: i32 = 126;
/// It was not found.
pub(crate) const NOT_FOUND: i32 = 127;

/// A line on standard error, and the status that goes with it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Complaint {
    pub(crate) status: i32,
    /// Without the `endo: ` that it begins with.
    pub(crate) text: String,
}

/// Runs `endo` with these arguments, which must fail as a bad command line or program does.
pub(crate) fn complaint(arguments: &[impl AsRef<OsStr>]) -> Complaint {
    complaint_of(Command::new(endo_testing::endo_binary()).args(arguments))
}

/// Runs a program, which must not start.
pub(crate) fn complaint_about(program: impl AsRef<OsStr>) -> Complaint {
    let options = ["run", "--backend", "null", "--"].map(OsStr::new);
    complaint(&[options.as_slice(), &[program.as_ref()]].concat())
}

/// Runs a command, which must fail with one line.
pub(crate) fn complaint_of(command: &mut Command) -> Complaint {
    let Output { status, stdout, stderr } = command.output().expect("endo can be started");
    let stderr = String::from_utf8(stderr).expect("messages are UTF-8");
    assert_eq!(String::from_utf8_lossy(&stdout), "", "standard output is the program's");
    assert_eq!(stderr.matches('\n').count(), 1, "one line: {stderr}");
    let text = stderr.trim_end().strip_prefix("endo: ");
    let text = text.unwrap_or_else(|| panic!("it says who complains: {stderr}")).to_owned();
    Complaint { status: status.code().unwrap_or_else(|| panic!("{status}: {text}")), text }
}

/// A directory for files that cannot be run.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(TempDir::new().expect("there is room for scratch files"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An executable file.
    pub(crate) fn executable(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        self.file(name, contents, 0o755)
    }

    /// A file.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).expect("the scratch directory can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        path
    }
}

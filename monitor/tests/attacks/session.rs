//! A guest that talks: it says a line, is told a line, and stays until somebody has looked at it from outside.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};

use endo_testing::{Guest, Status, Under, compile};
use tempfile::TempDir;

/// What is looked for on endo's stack: a variable of its environment, which nobody changes.
pub(crate) const CANARY: &str = "ENDO_TEST_CANARY=a-canary-of-8-bytes-or-more-that-nobody-changes";

/// Builds a guest of this directory.
pub(crate) fn program(source: &str) -> PathBuf {
    built("gcc -O1 -w", source)
}

/// The same with a compiler and flags of the caller's.
pub(crate) fn built(command: &str, source: &str) -> PathBuf {
    compile(command, &[format!("{}/tests/attacks/{source}", env!("CARGO_MANIFEST_DIR")).into()])
}

/// A guest says "free" of itself natively, and "confined" under Endo, as often.
#[track_caller]
pub(crate) fn is_always_confined(guest: &Guest, times: usize) -> [String; 2] {
    let [native, ours] = [Under::Native, Under::Endo].map(|under| guest.run(&under));
    let [theirs, text] = [native.text(), ours.text()];
    assert_eq!((theirs.matches(": free\n").count(), native.status), (times, Status::Exited(0)), "{theirs}");
    assert_eq!((text.matches(": confined\n").count(), ours.status), (times, Status::Exited(0)), "{text}");
    assert!(!text.contains("free"), "{text}");
    [theirs, text]
}

/// A running guest.
pub(crate) struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Where it may leave files.
    _place: TempDir,
}

impl Session {
    pub(crate) fn start(guest: &Guest, under: &Under) -> Session {
        let (name, value) = CANARY.split_once('=').expect("the canary is a variable with a value");
        let mut command = guest.command(under);
        let place = TempDir::new().expect("there is room for scratch files");
        command.current_dir(&place);
        // Without it a restartable sequence is registered already.
        command.env(name, value).env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("it can be started");
        let output = BufReader::new(child.stdout.take().expect("the output is a pipe"));
        let input = child.stdin.take();
        Session { child, input, output, _place: place }
    }

    /// The process that runs the guest.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it says next: the words of a line.
    pub(crate) fn hear(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("what it says is text");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Tells it a line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("it listens"), "{line}").expect("it listens");
    }

    /// Lets it end.
    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.input.take());
        self.child.wait().expect("the guest is a child of ours")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already unless the test fails; there is nothing to do about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

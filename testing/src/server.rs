//! A program that runs until it is told to stop, and what a session with it says natively and under Endo.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::outcome::first_difference;
use crate::{Status, Under, kill};

/// How long a server may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropped, it is killed with all its descendants.
#[derive(Debug)]
pub struct Server {
    child: Child,
    output: File,
}

impl Server {
    /// Starts a command in a process group of its own, without input, and collects what it writes.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Server {
        let output = tempfile::tempfile().expect("there is room for scratch files");
        let handle = || Stdio::from(output.try_clone().expect("descriptors are not that short"));
        command.process_group(0).stdin(Stdio::null()).stdout(handle()).stderr(handle());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Server { child, output }
    }

    /// Waits until the server is ready.
    ///
    /// # Panics
    ///
    /// If it ends instead, or takes half a minute.
    #[must_use]
    pub fn ready_when(mut self, is_ready: impl FnMut() -> bool) -> Server {
        self.wait_until("the server is ready", is_ready);
        self
    }

    /// Waits until something has come about while the server runs.
    ///
    /// # Panics
    ///
    /// If the server ends before, or it takes half a minute.
    pub fn wait_until(&mut self, what: &str, mut has_come: impl FnMut() -> bool) {
        let is_in_time = poll(|| {
            let has_come = has_come();
            let ended = self.child.try_wait().expect("the child is ours");
            assert!(has_come || ended.is_none(), "ended with {ended:?} before {what}: {}", self.output());
            has_come
        });
        assert!(is_in_time, "not in {PATIENCE:?}: {what}; {}", self.output());
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        kill(i64::from(self.child.id()), signal);
    }

    /// Sends it a signal and waits for its end; what of it is left then is killed.
    ///
    /// # Panics
    ///
    /// If it does not end in half a minute.
    pub fn stop(self, signal: i32) -> Status {
        self.signal(signal);
        self.end()
    }

    /// Waits for its end; what of it is left then is killed.
    ///
    /// # Panics
    ///
    /// If it does not end in half a minute.
    pub fn end(mut self) -> Status {
        let mut status = None;
        poll(|| {
            status = self.child.try_wait().expect("the child is ours");
            status.is_some()
        });
        let status = status.unwrap_or_else(|| panic!("did not end in {PATIENCE:?}: {}", self.output()));
        status.code().map_or(Status::Killed(status.signal().unwrap_or(0)), Status::Exited)
    }

    /// What it has written to standard output and standard error.
    pub fn output(&self) -> String {
        // Opened anew: the position of this descriptor is the server's, too.
        let bytes = fs::read(format!("/proc/self/fd/{}", self.output.as_raw_fd()));
        let bytes = bytes.expect("an open file can be opened again");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.id();
        // Children may have left the group; those of a parent that has ended can only be reached by it.
        let mut doomed = vec![id];
        let mut next = 0;
        while let Some(&process) = doomed.get(next) {
            doomed.extend(children(process));
            next += 1;
        }
        // Asked before it is killed: afterwards its children, which nobody waits for, would be spared.
        let is_running = self.child.try_wait().is_ok_and(|status| status.is_none());
        kill(-i64::from(id), libc::SIGKILL);
        if is_running {
            doomed.iter().for_each(|&process| kill(i64::from(process), libc::SIGKILL));
            let _ = self.child.wait();
        }
    }
}

/// Waits until something has come about.
///
/// # Panics
///
/// If it takes half a minute.
pub fn wait_until(what: &str, has_come: impl FnMut() -> bool) {
    assert!(poll(has_come), "not in {PATIENCE:?}: {what}");
}

/// Asks again and again; says whether the answer was yes in time.
fn poll(mut has_come: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        if has_come() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes that a process has started and that it has not waited for, in the order of their numbers.
pub fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut children: Vec<u32> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>())
        .collect();
    children.sort_unstable();
    children
}

/// Whether a process is there and has not ended.
pub fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name in parentheses comes the state: zombies and the dead have ended.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Holds the same session natively and under Endo, each in the same directory, empty at first, and compares what it
/// returns. Returns the native session's text.
///
/// # Panics
///
/// If the texts differ, with where.
pub fn same_session(session: impl Fn(&Under, &Path) -> String) -> String {
    let place = TempDir::new().expect("there is room for scratch files");
    let [native, ours] = [Under::Native, Under::Endo].map(|under| {
        let directory = place.path().join("here");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).expect("the scratch directory can be written");
        session(&under, &directory)
    });
    assert!(ours == native, "the session {}", first_difference(ours.as_bytes(), native.as_bytes()));
    native
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_server_runs_until_it_is_told_to_stop() {
        let mut server = Server::start(sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"));
        let mut polls = 0;
        server.wait_until("it has been asked three times", || {
            polls += 1;
            polls == 3
        });
        wait_until("it has said so", || server.output() == "ready\n");
        assert_eq!(server.stop(libc::SIGTERM), Status::Exited(3));
    }

    #[test]
    #[should_panic(expected = "before the server is ready: no socket\n")]
    fn a_server_that_ends_too_early_is_reported_with_its_output() {
        let _ = Server::start(sh("echo no socket; exit 1")).ready_when(|| false);
    }

    #[test]
    fn a_dropped_server_leaves_no_process() {
        let server = Server::start(sh("sleep 1000 & setsid sleep 1000 & wait"));
        let id = server.id();
        wait_until("both children run", || children(id).len() == 2);
        let children = children(id);
        drop(server);
        assert!(!is_running(id));
        wait_until("the children are gone", || !children.iter().any(|&child| is_running(child)));
    }

    #[test]
    #[should_panic(expected = "the session differs from line 2")]
    fn a_session_that_is_different_under_endo_is_found_out() {
        let _ = same_session(|under, _| format!("same\n{under:?}\n"));
    }
}

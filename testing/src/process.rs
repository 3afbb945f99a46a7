//! Starting a process, waiting for it with a limit, and what it used.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a process and the children that it waited for used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time from start to end.
    pub wall: Duration,
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The largest resident set of any of them, in bytes.
    pub peak_resident_bytes: u64,
}

impl Usage {
    /// CPU time in both modes.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to its standard output, if that was a pipe.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, if that was a pipe.
    pub stderr: Vec<u8>,
    /// What it used.
    pub usage: Usage,
    /// Whether it ran into the limit and was killed.
    pub timed_out: bool,
}

/// Starts a command in a process group of its own, feeds it `stdin`, collects what it writes to pipes, and kills the
/// group when the limit is over.
pub fn run_to_end(command: &mut Command, stdin: Option<&[u8]>, limit: Option<Duration>) -> io::Result<Ended> {
    command.process_group(0);
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let start = Instant::now();
    let mut child = command.spawn()?;
    let (input, output, error) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        if let (Some(mut pipe), Some(bytes)) = (input, stdin) {
            // A program that does not read all of its input is no failure of ours.
            scope.spawn(move || drop(pipe.write_all(bytes)));
        }
        let output = output.map(|pipe| scope.spawn(move || read_all(pipe)));
        let error = error.map(|pipe| scope.spawn(move || read_all(pipe)));
        let timed_out = match limit {
            Some(limit) if !ends_within(&child, limit)? => {
                kill(-i64::from(child.id()), libc::SIGKILL);
                true
            }
            _ => false,
        };
        let (status, mut usage) = wait(&child)?;
        usage.wall = start.elapsed();
        if limit.is_some() {
            // What the program left behind would keep the pipes open.
            kill(-i64::from(child.id()), libc::SIGKILL);
        }
        let join = |reader: Option<std::thread::ScopedJoinHandle<'_, Vec<u8>>>| {
            reader.map_or_else(Vec::new, |reader| reader.join().expect("reading a pipe does not panic"))
        };
        Ok(Ended { status, stdout: join(output), stderr: join(error), usage, timed_out })
    })
}

fn read_all(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error is what there is to compare.
    let _ = pipe.read_to_end(&mut bytes);
    bytes
}

/// Sends a signal to a process, or with a negative number to a group; one that has gone gets none.
pub fn kill(process: i64, signal: i32) {
    let Ok(process) = i32::try_from(process) else { return };
    // SAFETY: kill takes plain numbers and touches no memory of this process.
    unsafe { libc::kill(process, signal) };
}

/// Waits until the process has ended or the limit is over; says which.
fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    // SAFETY: pidfd_open takes plain numbers; the child is ours and not reaped yet, so the number is its own.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let number = i32::try_from(number).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor and nothing else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let end = Instant::now() + limit;
    loop {
        let mut entry = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let left = end.saturating_duration_since(Instant::now());
        let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `entry` is one valid entry and lives across the call.
        let ready = unsafe { libc::poll(&raw mut entry, 1, milliseconds) };
        match ready {
            0 => return Ok(false),
            1.. => return Ok(true),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

fn wait(child: &Child) -> io::Result<(ExitStatus, Usage)> {
    let process = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers lead to live values of the types that wait4 fills in.
    while unsafe { libc::wait4(process, &raw mut status, 0, &raw mut used) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let usage = Usage {
        wall: Duration::ZERO,
        user: duration(used.ru_utime),
        system: duration(used.ru_stime),
        peak_resident_bytes: u64::try_from(used.ru_maxrss).unwrap_or(0) * 1024,
    };
    Ok((ExitStatus::from_raw(status), usage))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn output_error_and_status_come_back() {
        let ended = run_to_end(&mut sh("cat; echo e >&2; exit 3"), Some(b"in"), None).unwrap();
        assert_eq!(ended.stdout, b"in");
        assert_eq!(ended.stderr, b"e\n");
        assert_eq!(ended.status.code(), Some(3));
        assert!(!ended.timed_out);
    }

    #[test]
    fn a_process_past_its_limit_is_killed_with_its_children() {
        let start = Instant::now();
        let ended =
            run_to_end(&mut sh("sleep 60 & sleep 60"), None, Some(Duration::from_millis(50))).unwrap();
        assert!(ended.timed_out);
        assert_eq!(ended.status.signal(), Some(libc::SIGKILL));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn cpu_time_is_that_of_the_process_and_its_children() {
        let ended =
            run_to_end(&mut sh("sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'"), None, None);
        assert!(ended.unwrap().usage.cpu() > Duration::ZERO);
    }
}

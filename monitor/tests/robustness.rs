//! Programs that do the same hard things again and again behave as they do natively, and under Endo nothing of theirs adds up:
//! no descriptor, no mapping, no memory, no child.
//!
//! Each guest in `robustness/` stops eight times and is looked at from outside, natively and under Endo; what it prints
//! is compared. The sizes are those of a test run; `ENDO_STORM=1000000 ENDO_BIRTHS=100000 ENDO_FORKS=10000 ENDO_ENDS=10000`
//! (and `--nocapture` to see what was found) make it one of hours. `ENDO_BACKEND` chooses the backend.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use endo_testing::{Guest, Under, children, compile, kill};

/// What a process holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Holdings {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    children: usize,
    /// Pages of its own and page tables.
    kibibytes: u64,
}

/// What may be more at the last look than at an early one.
#[derive(Clone, Copy, Debug)]
struct Slack {
    mappings: usize,
    kibibytes: u64,
}

/// What any program may: the stacks of as many threads as have been on their way out at a time are kept for the next.
const LITTLE: Slack = Slack { mappings: 64, kibibytes: 3 << 10 };
/// A program that changes code: what was translated from the old is kept until it is worth while to begin anew, and where it
/// forks, each piece of the cache becomes a mapping of its own.
const UNTIL_CLEARED: Slack = Slack { mappings: 96, kibibytes: 16 << 10 };

impl Holdings {
    fn of(process: u32) -> Holdings {
        let count =
            |directory| fs::read_dir(format!("/proc/{process}/{directory}")).map_or(0, Iterator::count);
        let text =
            |file| fs::read_to_string(format!("/proc/{process}/{file}")).expect("the process is there");
        let status = text("status");
        let figure = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        Holdings {
            descriptors: count("fd"),
            mappings: text("maps").lines().count(),
            threads: count("task"),
            children: children(process).len(),
            kibibytes: figure("RssAnon:") + figure("VmPTE:"),
        }
    }

    /// What it holds more of than before, besides what any program may.
    fn excess_over(self, before: Holdings, slack: Slack) -> Option<String> {
        let is_more = self.descriptors > before.descriptors
            || self.threads > before.threads
            || self.children > before.children
            || self.mappings > before.mappings + slack.mappings
            || self.kibibytes > before.kibibytes + slack.kibibytes;
        is_more.then(|| format!("{before:?} has become {self:?}"))
    }
}

/// What came of a run.
#[derive(Debug)]
struct Soaked {
    text: String,
    looks: Vec<Holdings>,
    took: Duration,
}

/// Runs a guest to its end, and looks at it whenever it stops.
fn soak(guest: &Guest, under: &Under, patience: Duration) -> Soaked {
    let start = Instant::now();
    let mut command = guest.command(under);
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the guest can be started");
    let mut input = child.stdin.take().expect("it is a pipe");
    let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let (sender, lines) = channel();
    let reader =
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut soaked = Soaked { text: String::new(), looks: Vec::new(), took: Duration::ZERO };
    loop {
        match lines.recv_timeout(patience) {
            Ok(line) if line.starts_with("checkpoint ") => {
                // A thread that has been joined may still be on its way out, natively too.
                thread::sleep(Duration::from_millis(20));
                soaked.looks.push(Holdings::of(child.id()));
                input.write_all(b"\n").expect("the guest waits for it");
            }
            Ok(line) => soaked.text += &(line + "\n"),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let state = state_of(&child);
                kill(-i64::from(child.id()), libc::SIGKILL);
                panic!("{under:?}: nothing was heard for {patience:?}: {soaked:?}\n{state}");
            }
        }
    }
    reader.join().expect("reading does not panic").expect("there was somebody to listen");
    let status = child.wait().expect("the child is ours");
    assert!(status.success(), "{under:?}: {status}, {soaked:?}");
    soaked.took = start.elapsed();
    soaked
}

/// Where its threads are and those of its children, for whoever has to find out why it hangs.
fn state_of(child: &Child) -> String {
    let mut text = String::new();
    for process in [child.id()].into_iter().chain(children(child.id())) {
        for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let word = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            text += &format!("{:?}: {} in {}", task.path(), word("wchan"), word("syscall"));
        }
    }
    text
}

fn guest(name: &str, count: &str) -> Guest {
    let source = format!("{}/tests/robustness/{name}.c", env!("CARGO_MANIFEST_DIR"));
    Guest::new(compile("gcc -O1 -w -pthread", &[source.into()])).argument(count)
}

/// Runs a guest natively and under Endo, and compares; returns what it says.
fn same(name: &str, variable: &str, usual: &str, slack: Slack) -> String {
    let count = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    let guest = guest(name, &count);
    let patience = if count == usual { Duration::from_secs(60) } else { Duration::from_secs(1800) };
    let [native, ours] = [Under::Native, Under::Endo].map(|under| soak(&guest, &under, patience));
    println!("{name} {count}: natively {:?}, under Endo {:?}", native.took, ours.took);
    for (at, (native, ours)) in native.looks.iter().zip(&ours.looks).enumerate() {
        println!("{at}: natively {native:?}\n   under Endo {ours:?}");
    }
    assert_eq!(ours.text, native.text);
    assert_flat(&ours, slack);
    ours.text
}

/// Between the second look and the last there is six times as much work as before the first.
fn assert_flat(soaked: &Soaked, slack: Slack) {
    assert_eq!(soaked.looks.len(), 8, "{soaked:?}");
    let excess = soaked.looks[7].excess_over(soaked.looks[1], slack);
    assert_eq!(excess, None, "{:#?}", soaked.looks);
}

#[test]
fn ten_thousand_signals_a_second_are_neither_lost_nor_doubled() {
    let text = same("storm", "ENDO_STORM", "2000", UNTIL_CLEARED);
    assert_eq!(text.matches("disorder 0 nested 0 alarms 1 others 1").count(), 2, "{text}");
}

#[test]
fn threads_come_and_go() {
    let text = same("births", "ENDO_BIRTHS", "1600", LITTLE);
    assert!(text.contains("joined 1, returned 1, cancelled 1\ncleaned 1\n"), "{text}");
}

#[test]
fn children_are_forked_while_threads_run() {
    let text = same("forks", "ENDO_FORKS", "512", UNTIL_CLEARED);
    assert_eq!(text, "children 1, wrong 0, ticks 1\n");
}

#[test]
fn threads_and_processes_end_in_every_state() {
    let text = same("ends", "ENDO_ENDS", "180", LITTLE);
    assert!(text.starts_with("cancelled 1, killed 1, ended 1\n"), "{text}");
}

/// With a cache of the smallest size it has to be cleared often. A run that counts how often has no fast paths, which is
/// where threads sleep in the other.
#[test]
fn no_sleep_is_cut_short_when_translations_are_dropped() {
    let guest = guest("sleepers", "5000");
    let under = |more: &[&str]| {
        let options = ["--backend", "sfi", "--no-cache", "--cache-size=1M"].iter().chain(more);
        guest.run(&Under::EndoWith(options.map(|&option| option.to_owned()).collect()))
    };
    let counted = String::from_utf8_lossy(&under(&["--stats"]).stderr).into_owned();
    let flushes = counted.lines().find_map(|line| line.trim().strip_suffix("  cache flushes"));
    assert!(flushes.is_some_and(|count| count.trim() != "0"), "{counted}");
    assert_eq!(under(&[]).text(), guest.run(&Under::Native).text());
}

#[test]
#[should_panic(expected = "has become")]
fn what_adds_up_is_found() {
    let guest = guest("hoarder", "800");
    assert_flat(&soak(&guest, &Under::Endo, Duration::from_secs(60)), LITTLE);
}

#[test]
#[should_panic(expected = "nothing was heard")]
fn what_hangs_is_found() {
    let _ = soak(&Guest::new("/bin/sleep").argument("1000"), &Under::Endo, Duration::from_millis(300));
}

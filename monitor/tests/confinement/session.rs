//! A conversation with the guest `outside`: it says when it is ready, is told where to aim, and reports.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use endo_testing::{Guest, Under, compile, has_processor_flag, kill};

use crate::aims::mappings;

/// How long a guest may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A running guest.
pub(crate) struct Session {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Dropped when the guest has ended, which stops whoever would kill it for taking too long.
    _alive: Sender<()>,
}

/// What the guest said: a line for each form, below a line for each aim.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<String>,
}

impl Session {
    /// Starts the guest and waits until it is ready.
    pub(crate) fn start(under: &Under, canary: &str) -> Session {
        Session::of(&Guest::new(program()), under, canary)
    }

    /// Starts the guest in the way in which it tries a single store.
    pub(crate) fn start_for_one_store(under: &Under, canary: &str) -> Session {
        Session::of(&Guest::new(program()).argument("one"), under, canary)
    }

    fn of(guest: &Guest, under: &Under, canary: &str) -> Session {
        let (name, value) = canary.split_once('=').expect("the canary is a variable with a value");
        let mut command = guest.command(under);
        command.env(name, value);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("endo can be started");
        let output = BufReader::new(child.stdout.take().expect("the output is a pipe"));
        let (alive, ended) = channel::<()>();
        let process = i64::from(child.id());
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                kill(process, 9);
            }
        });
        let mut session = Session { child, output, _alive: alive };
        assert_eq!(session.line().as_deref(), Some("ready"), "the guest did not start");
        session
    }

    /// The process that runs the guest.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// An address in the guest's writable page below the hole that it has made: stores without an end stop there.
    pub(crate) fn own_memory(&self) -> u64 {
        let all = mappings(self.process());
        let below_a_hole = |end: u64| all.iter().all(|mapping| mapping.start != end || !mapping.is_readable);
        let own = all.iter().find(|mapping| {
            (0x40_0000..0x100_0000).contains(&mapping.start)
                && mapping.is_writable
                && below_a_hole(mapping.end)
        });
        own.expect("the guest has data below a hole").end - 4096 + 64
    }

    /// Has the guest try every form on every address and returns what it says. It then waits.
    pub(crate) fn aim_at(&mut self, aims: &[u64]) -> Report {
        let bytes: Vec<u8> = aims.iter().flat_map(|aim| aim.to_le_bytes()).collect();
        self.child.stdin.as_mut().expect("the input is a pipe").write_all(&bytes).expect("the guest reads");
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            if line == "done" {
                return Report { lines };
            }
            lines.push(line);
        }
        panic!("the guest ended early, after: {}", lines.last().map_or("", String::as_str));
    }

    /// Lets the guest end; it must succeed.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("the guest is a child of ours");
        assert!(status.success(), "{status}");
    }

    fn line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let size = self.output.read_until(b'\n', &mut bytes).expect("the output can be read");
        (size > 0).then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already unless the test fails; there is nothing to do about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// How many forms were tried on each address.
    pub(crate) fn forms(&self) -> usize {
        let aims = self.lines.iter().filter(|line| line.starts_with("aim ")).count();
        (self.lines.len() - aims) / aims.max(1)
    }

    /// Lines that differ; for forms that cut registers to their lower halves, in the lower halves.
    pub(crate) fn differences_from(&self, other: &Report) -> Vec<String> {
        self.compare(other, |line| if cuts_registers(line) { lower_halves(line) } else { line.to_owned() })
    }

    /// Lines that differ in whether the access faulted.
    pub(crate) fn differences_in_faults(&self, other: &Report) -> Vec<String> {
        self.compare(other, |line| {
            let form = line.split(':').next().unwrap_or_default();
            format!("{form} {}", line.contains(": signal b ") || line.contains(": signal 7 "))
        })
    }

    fn compare(&self, other: &Report, view: impl Fn(&str) -> String) -> Vec<String> {
        let mut differences = Vec::new();
        if self.lines.len() != other.lines.len() {
            differences.push(format!("{} lines, natively {}", self.lines.len(), other.lines.len()));
        }
        let mut aim = "";
        for (ours, theirs) in self.lines.iter().zip(&other.lines) {
            if ours.starts_with("aim ") {
                aim = ours;
            }
            if view(ours) != view(theirs) {
                differences.push(format!("{aim}\n  native {theirs}\n  endo   {ours}"));
            }
        }
        differences
    }
}

/// Whether a line is about a form of which the emitted code has cut the pointer before the access: strings, the stack
/// and jumps; or whose address no register tells: bit tests from afar, gathers and scatters.
fn cuts_registers(line: &str) -> bool {
    const FORMS: [&str; 24] = [
        "rep ",
        "repne ",
        "lods",
        "scas",
        "cmps",
        "movs",
        "stos",
        "pop from",
        "popf",
        "leave",
        "ret",
        "push to",
        "pushf",
        "call with",
        "call through a register",
        "enter",
        "store through rsp",
        "bit test",
        "bts",
        "btr",
        "btc",
        "lock bt",
        "gather",
        "scatter",
    ];
    let jumps = ["jump to", "call to", "return", "jump through memory", "call through memory", "jump into"];
    FORMS.iter().chain(&jumps).any(|form| line.starts_with(form))
}

/// Cuts every number of more than eight digits to its last eight.
fn lower_halves(line: &str) -> String {
    line.split(' ').map(lower_half).collect::<Vec<_>>().join(" ")
}

fn lower_half(word: &str) -> String {
    let (name, value) = word.split_at(word.find('=').map_or(0, |at| at + 1));
    match u64::from_str_radix(value, 16) {
        Ok(number) => format!("{name}{:x}", number as u32),
        Err(_) => word.to_owned(),
    }
}

fn program() -> std::path::PathBuf {
    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/guests").join(name);
    let mut command = "gcc -static -nostdlib -no-pie -O2 -ffreestanding -fno-stack-protector \
                       -fno-tree-loop-distribute-patterns"
        .to_owned();
    if has_processor_flag("avx2") {
        command += " -DAVX2";
    }
    if has_processor_flag("avx512vl") && has_processor_flag("avx512dq") {
        command += " -DAVX512";
    }
    compile(&command, &["outside.S", "aims.c", "runtime.c", "runtime_entry.S"].map(source))
}

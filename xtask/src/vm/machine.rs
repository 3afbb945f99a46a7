//! One start of the emulated machine: from QEMU's first instruction to the end of the last command, or to whatever comes
//! before.

use std::fmt;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::emulator::Emulator;
use super::wire::{self, Channel, Message, Outcome};

/// How long a start may take: three seconds are enough on an idle machine.
const LONGEST_START: Duration = Duration::from_secs(90);

/// What the kernel is told. `panic=-1` restarts at once, which QEMU is told to end at; a busy host is late with the timer
/// interrupts that `no_timer_check` leaves unchecked.
const KERNEL_WORDS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check cryptomgr.notests";

/// How the machine is made.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Hardware {
    /// Memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..=65536))]
    pub(super) memory: u32,
    /// Processors.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(super) cpus: u32,
    /// One instruction takes one nanosecond of the machine's time: figures are repeatable, and slower to get.
    #[arg(long, conflicts_with = "cpus")]
    pub(super) icount: bool,
}

/// Why there are no more outcomes of commands.
#[derive(Debug)]
pub(super) enum Ending {
    /// All commands have ended.
    Done,
    /// The running command's time was up.
    OutOfTime(Duration),
    /// The kernel panicked: the end of what it printed.
    Panicked(String),
    /// The machine turned itself off, or QEMU ended: how, and the end of what the kernel printed.
    Vanished(String),
    /// It never got as far as the first command.
    NotStarted(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Done => f.write_str("all commands have ended"),
            Ending::OutOfTime(limit) => write!(f, "stopped after {} s", limit.as_secs()),
            Ending::Panicked(console) => write!(f, "the machine's kernel panicked:\n{console}"),
            Ending::Vanished(how) => write!(f, "the machine ended before the command: {how}"),
            Ending::NotStarted(how) => write!(f, "the machine did not start: {how}"),
        }
    }
}

/// What came of a start.
#[derive(Debug)]
pub(super) struct Run {
    /// The outcomes of the commands that ended, in order.
    pub(super) outcomes: Vec<Outcome>,
    /// Why there are no more.
    pub(super) ending: Ending,
}

/// What happens in the machine, as it happens.
pub(super) enum Event {
    /// A command begins.
    Begin(usize),
    /// A command ended.
    End(usize, Outcome),
    /// A command prints.
    Prints(Channel, Vec<u8>),
}

/// Passes on what a command prints.
pub(super) fn print(channel: Channel, content: &[u8]) -> std::io::Result<()> {
    match channel {
        Channel::Output => {
            let mut output = std::io::stdout().lock();
            output.write_all(content)?;
            output.flush()
        }
        _ => std::io::stderr().lock().write_all(content),
    }
}

/// Starts the machine with a tree of files, and once more if it does not get as far as the first command.
pub(super) fn run(
    emulator: &Emulator,
    hardware: Hardware,
    archive: &Path,
    limit: &dyn Fn(usize) -> Duration,
    events: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<Run> {
    let first = run_once(emulator, hardware, archive, limit, events)?;
    let Ending::NotStarted(why) = &first.ending else { return Ok(first) };
    eprintln!("vm: the machine did not start, trying again: {why}");
    run_once(emulator, hardware, archive, limit, events)
}

fn run_once(
    emulator: &Emulator,
    hardware: Hardware,
    archive: &Path,
    limit: &dyn Fn(usize) -> Duration,
    events: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<Run> {
    let console = archive.with_extension("console");
    let qemu = Qemu::start(command(emulator, hardware, archive, &console))?;
    qemu.follow(LONGEST_START, limit, &console, events)
}

fn command(emulator: &Emulator, hardware: Hardware, archive: &Path, console: &Path) -> Command {
    let mut command = emulator.command();
    command.args([
        "-M",
        "q35",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    command.args([
        "-display",
        "none",
        "-m",
        &hardware.memory.to_string(),
        "-smp",
        &hardware.cpus.to_string(),
    ]);
    if hardware.icount {
        command.args(["-icount", "shift=0,sleep=off"]);
    }
    command.arg("-kernel").arg(emulator.kernel()).arg("-initrd").arg(archive);
    // The kernel hands what follows the dashes to its first process, which is this program.
    command.args(["-append", &format!("{KERNEL_WORDS} -- vm guest")]);
    // Commas in a path would begin another option; two are one.
    let console = console.display().to_string().replace(',', ",,");
    command.args(["-chardev", &format!("file,id=console,path={console}"), "-serial", "chardev:console"]);
    // Not "stdio": at the end of its input QEMU takes the host for gone, and writes to the port block.
    command.args(["-chardev", "file,id=port,path=/dev/stdout", "-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=port,nr=1"]);
    command
}

/// A running QEMU. It ends with this value.
struct Qemu {
    child: Child,
    frames: Receiver<std::io::Result<(Channel, Vec<u8>)>>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not start QEMU")?;
        let mut stream = BufReader::new(child.stdout.take().context("QEMU has no output")?);
        let (sender, frames) = mpsc::channel();
        thread::spawn(move || {
            while let Some(frame) = wire::read(&mut stream).transpose() {
                let failed = frame.is_err();
                if sender.send(frame).is_err() || failed {
                    break;
                }
            }
        });
        Ok(Qemu { child, frames })
    }

    fn follow(
        mut self,
        start: Duration,
        limit: &dyn Fn(usize) -> Duration,
        console: &Path,
        events: &mut dyn FnMut(Event) -> anyhow::Result<()>,
    ) -> anyhow::Result<Run> {
        let mut outcomes = Vec::new();
        let mut ready = false;
        let mut since = Instant::now();
        let mut most = start;
        loop {
            let frame = self.frames.recv_timeout(most.saturating_sub(since.elapsed()));
            let ending = match frame {
                Ok(Ok((Channel::Control, text))) => match Message::parse(&String::from_utf8_lossy(&text)) {
                    Some(Message::Ready) => {
                        ready = true;
                        continue;
                    }
                    Some(Message::Begin(number)) => {
                        (since, most) = (Instant::now(), limit(number));
                        events(Event::Begin(number))?;
                        continue;
                    }
                    Some(Message::End(number, outcome)) => {
                        outcomes.push(outcome);
                        events(Event::End(number, outcome))?;
                        continue;
                    }
                    Some(Message::Done) => Ending::Done,
                    None => Ending::Vanished(format!("it said {text:02x?}")),
                },
                Ok(Ok((channel, content))) => {
                    events(Event::Prints(channel, content))?;
                    continue;
                }
                Ok(Err(error)) => Ending::Vanished(error.to_string()),
                Err(RecvTimeoutError::Timeout) if ready => Ending::OutOfTime(most),
                Err(RecvTimeoutError::Timeout) => {
                    Ending::NotStarted(format!("nothing within {} s\n{}", most.as_secs(), tail(console)))
                }
                Err(RecvTimeoutError::Disconnected) => self.post_mortem(ready, console)?,
            };
            return Ok(Run { outcomes, ending });
        }
    }

    /// Why QEMU ended by itself.
    fn post_mortem(&mut self, ready: bool, console: &Path) -> anyhow::Result<Ending> {
        let status = self.child.wait()?;
        let mut errors = String::new();
        if let Some(stream) = &mut self.child.stderr {
            stream.read_to_string(&mut errors)?;
        }
        let text = tail(console);
        Ok(match (ready, text.contains("Kernel panic")) {
            (true, true) => Ending::Panicked(text),
            (true, false) => Ending::Vanished(format!("QEMU: {status}\n{errors}{text}")),
            (false, _) => Ending::NotStarted(format!("QEMU: {status}\n{errors}{text}")),
        })
    }
}

/// The end of what the kernel printed.
fn tail(console: &Path) -> String {
    const LINES: usize = 40;
    let text = std::fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a shell script that stands in for QEMU.
    fn follow(script: &str, console: &str, limit: Duration) -> (Run, String) {
        let place = tempfile::TempDir::new().unwrap();
        let log = place.path().join("console");
        std::fs::write(&log, console).unwrap();
        let mut command = Command::new("bash");
        let frames = "say() { printf '\\0\\x'$(printf %02x ${#1})'\\0\\0\\0%s' \"$1\"; }\n\
                      out() { printf '\\1\\x'$(printf %02x ${#1})'\\0\\0\\0%s' \"$1\"; }\n";
        command.args(["-c", &format!("{frames}{script}")]);
        let mut printed = String::new();
        let run = Qemu::start(command).unwrap().follow(limit, &|_| limit, &log, &mut |event| {
            match event {
                Event::Prints(_, content) => printed.push_str(&String::from_utf8_lossy(&content)),
                Event::Begin(number) => printed.push_str(&format!("<{number}")),
                Event::End(number, _) => printed.push_str(&format!("{number}>")),
            }
            Ok(())
        });
        (run.unwrap(), printed)
    }

    const LONG: Duration = Duration::from_secs(60);
    const PANIC: &str = "[ 1.0] Kernel panic - not syncing: sysrq triggered crash\n";

    #[test]
    fn outcomes_and_output_come_in_order() {
        let script = "say ready; say 'begin 0'; out hello; say 'end 0 exited 7'; say 'begin 1'; say 'end 1 killed 9'; say done";
        let (run, printed) = follow(script, "", LONG);
        assert_eq!(run.outcomes, [Outcome::Exited(7), Outcome::Killed(9)]);
        assert!(matches!(run.ending, Ending::Done));
        assert_eq!(printed, "<0hello0><11>");
    }

    #[test]
    fn what_a_command_prints_is_no_message() {
        let (run, printed) = follow("say ready; say 'begin 0'; out 'end 0 exited 0'; out done", "", LONG);
        assert_eq!(run.outcomes, []);
        assert!(matches!(run.ending, Ending::Vanished(_)), "{:?}", run.ending);
        assert_eq!(printed, "<0end 0 exited 0done");
    }

    #[test]
    fn a_panic_is_told_from_a_machine_that_ends() {
        let (run, _) = follow("say ready; say 'begin 0'", PANIC, LONG);
        assert!(matches!(&run.ending, Ending::Panicked(text) if text.contains("sysrq")), "{:?}", run.ending);
        let (run, _) = follow("say ready; say 'begin 0'; echo broken >&2; exit 3", "", LONG);
        let Ending::Vanished(how) = run.ending else { panic!("{:?}", run.ending) };
        assert!(how.contains("exit status: 3") && how.contains("broken"), "{how}");
    }

    #[test]
    fn a_panic_before_the_first_command_is_a_failed_start() {
        let (run, _) = follow("exit 0", PANIC, LONG);
        assert!(matches!(&run.ending, Ending::NotStarted(how) if how.contains("sysrq")), "{:?}", run.ending);
    }

    #[test]
    fn a_command_that_hangs_is_told_from_a_start_that_hangs() {
        let limit = Duration::from_secs(1);
        let (run, _) = follow("say ready; say 'begin 0'; exec sleep 600", "", limit);
        assert!(matches!(run.ending, Ending::OutOfTime(_)), "{:?}", run.ending);
        let (run, _) = follow("exec sleep 600", "", limit);
        assert!(matches!(run.ending, Ending::NotStarted(_)), "{:?}", run.ending);
    }
}

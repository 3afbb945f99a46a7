//! The machine's first process: this same program, started by the kernel. It prepares the machine, runs the commands that
//! the host has written down, one after the other, and passes on what they print and how they end.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::mount::MountFlags;
use rustix::process::{WaitOptions, WaitStatus};

use super::image::Image;
use super::wire::{self, Channel, Message, Outcome};

/// Where the host has written the commands down: a directory each.
const COMMANDS: &str = "/machine/commands";
/// The port whose other end the host reads.
const PORT: &str = "/dev/vport0p1";

/// What the kernel starts it with.
pub(super) const INIT: &str = "/init";

/// Directories and what is mounted there: type, options.
const MOUNTS: [(&str, &str, &CStr); 5] = [
    ("/dev", "devtmpfs", c""),
    ("/proc", "proc", c""),
    ("/sys", "sysfs", c""),
    ("/dev/pts", "devpts", c"mode=620,ptmxmode=666"),
    ("/dev/shm", "tmpfs", c"mode=1777"),
];

/// Links that programs expect in `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Where programs are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables that a command gets if nobody says otherwise.
pub(super) fn variables() -> BTreeMap<String, OsString> {
    [("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into()
}

/// A command to be run in the machine.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The program, by its path or its name, and its arguments.
    pub(super) words: Vec<OsString>,
    /// Its variables; it gets no others.
    pub(super) variables: BTreeMap<String, OsString>,
    /// Where it starts.
    pub(super) directory: PathBuf,
}

impl Order {
    /// Writes it down where the machine looks for it.
    pub(super) fn put(&self, image: &mut Image, number: usize) -> anyhow::Result<()> {
        let place = format!("{COMMANDS}/{number}");
        let variables = self.variables.iter().map(|(name, value)| {
            let mut assignment = OsString::from(name);
            assignment.push("=");
            assignment.push(value);
            assignment
        });
        image.text(&format!("{place}/words"), 0o644, join(self.words.iter().cloned()))?;
        image.text(&format!("{place}/variables"), 0o644, join(variables))?;
        image.text(&format!("{place}/directory"), 0o644, self.directory.as_os_str().as_bytes())
    }

    fn get(number: usize) -> io::Result<Option<Self>> {
        let place = Path::new(COMMANDS).join(number.to_string());
        if !place.exists() {
            return Ok(None);
        }
        let words = split(&fs::read(place.join("words"))?);
        let variables = split(&fs::read(place.join("variables"))?).into_iter().filter_map(|assignment| {
            let (name, value) = assignment.to_str()?.split_once('=')?;
            Some((name.to_owned(), value.into()))
        });
        let directory = OsString::from_vec(fs::read(place.join("directory"))?).into();
        Ok(Some(Order { words, variables: variables.collect(), directory }))
    }
}

/// A zero byte ends each word, as in `/proc/PID/cmdline`.
fn join(words: impl Iterator<Item = OsString>) -> Vec<u8> {
    words.flat_map(|word| [word.as_bytes(), &[0]].concat()).collect()
}

fn split(words: &[u8]) -> Vec<OsString> {
    words
        .split_inclusive(|&byte| byte == 0)
        .map(|word| OsStr::from_bytes(&word[..word.len() - 1]).into())
        .collect()
}

/// Does all of it, and turns the machine off.
pub(super) fn run() -> anyhow::Result<()> {
    ensure!(std::process::id() == 1, "only the emulated machine runs this");
    prepare()?;
    let port = Port::open()?;
    port.say(Message::Ready)?;
    for number in 0.. {
        let Some(order) = Order::get(number)? else { break };
        port.say(Message::Begin(number))?;
        let outcome = port.follow(&order)?;
        port.say(Message::End(number, outcome))?;
    }
    port.say(Message::Done)?;
    rustix::system::reboot(rustix::system::RebootCommand::PowerOff).context("could not turn the machine off")
}

fn prepare() -> anyhow::Result<()> {
    for (place, kind, options) in MOUNTS {
        fs::create_dir_all(place).context(place)?;
        rustix::mount::mount(kind, place, kind, MountFlags::empty(), options).context(place)?;
    }
    for (link, target) in LINKS {
        std::os::unix::fs::symlink(target, link).context(link)?;
    }
    // Without busybox there is no loopback interface, which few programs need.
    let _ = Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]).status();
    Ok(())
}

/// The line to the host.
#[derive(Clone)]
struct Port(Arc<Mutex<File>>);

impl Port {
    /// Opens it, once its driver has made it.
    fn open() -> anyhow::Result<Self> {
        let mut tries = 0..100;
        loop {
            match File::options().write(true).open(PORT) {
                Ok(file) => return Ok(Port(Arc::new(Mutex::new(file)))),
                Err(_) if tries.next().is_some() => thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(error).context(PORT),
            }
        }
    }

    fn say(&self, message: Message) -> io::Result<()> {
        self.send(Channel::Control, message.to_string().as_bytes())
    }

    fn send(&self, channel: Channel, content: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        wire::write(&mut *file, channel, content)
    }

    /// Passes on all that comes out of a pipe.
    fn pump(&self, channel: Channel, mut from: impl Read + Send + 'static) -> JoinHandle<io::Result<()>> {
        let port = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                match from.read(&mut buffer)? {
                    0 => return Ok(()),
                    length => port.send(channel, &buffer[..length])?,
                }
            }
        })
    }

    /// Runs a command to its end. What it leaves running is ended with it.
    fn follow(&self, order: &Order) -> anyhow::Result<Outcome> {
        let (program, arguments) = order.words.split_first().context("a command without words")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&order.variables);
        command.current_dir(&order.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Outcome::NotStarted(error.raw_os_error().unwrap_or_default())),
        };
        let output = child.stdout.take().map(|pipe| self.pump(Channel::Output, pipe));
        let errors = child.stderr.take().map(|pipe| self.pump(Channel::Errors, pipe));
        let outcome = wait_for(child.id())?;
        end_all_others()?;
        for pump in [output, errors].into_iter().flatten() {
            pump.join().expect("it does not panic").context("could not pass on what the command prints")?;
        }
        Ok(outcome)
    }
}

/// Waits for a child, and buries every orphan that ends before it.
fn wait_for(child: u32) -> anyhow::Result<Outcome> {
    loop {
        let ended = rustix::process::wait(WaitOptions::empty()).context("could not wait for the command")?;
        if let Some((process, status)) = ended
            && process.as_raw_nonzero().get().unsigned_abs() == child
            && let Some(outcome) = outcome(status)
        {
            return Ok(outcome);
        }
    }
}

fn outcome(status: WaitStatus) -> Option<Outcome> {
    let exited = status.exit_status().map(|status| Outcome::Exited(status as u8));
    exited.or_else(|| status.terminating_signal().map(|signal| Outcome::Killed(signal as u8)))
}

/// Kills every process but this one and waits until all have ended.
fn end_all_others() -> anyhow::Result<()> {
    // "Send a SIGKILL to all processes, except for init" (Documentation/admin-guide/sysrq.rst).
    fs::write("/proc/sysrq-trigger", "i").context("/proc/sysrq-trigger")?;
    while rustix::process::wait(WaitOptions::empty()).is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        let words: Vec<OsString> = ["sh", "-c", "", "a b\nc"].map(Into::into).to_vec();
        assert_eq!(split(&join(words.iter().cloned())), words);
        assert_eq!(split(&join(std::iter::empty())), Vec::<OsString>::new());
    }

    #[test]
    fn nobody_but_the_kernel_can_start_it() {
        assert_eq!(run().unwrap_err().to_string(), "only the emulated machine runs this");
    }
}

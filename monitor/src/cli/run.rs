//! `endo run`.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use endo_core::syscall::{CountingMonitor, NullMonitor};
use endo_core::{BackendConfig, Statistic, VerifyMode};

use super::log::{self, Inherited};
use super::{Cli, Command, Failure};
use crate::backends::{self, BackendChoice};
use crate::launch::Guest;
use crate::loader::{self, Program};
use crate::persist::{Off, Persistence, Wish};
use crate::process::{Ending, Handover, Report};
use crate::syscall::trace;

/// Options of `endo run`.
#[derive(Debug, Default, clap::Args)]
pub struct RunOptions {
    /// What confines the program.
    #[arg(long, value_enum, default_value_t, value_name = "BACKEND")]
    pub backend: BackendChoice,

    /// Prints every system call and its result, as strace(1) does.
    #[arg(long)]
    pub trace: bool,

    /// Prints figures at the end: system calls, and what the backend did.
    #[arg(long)]
    pub stats: bool,

    /// Where trace, figures and warnings go; standard error without it.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// The log of the endo before an exec. For Endo's own use.
    #[arg(long, hide = true, value_name = "FD,PID")]
    pub inherited_log: Option<Inherited>,

    /// Most memory for translated code, in bytes, or with K, M or G after the number.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub cache_size: Option<usize>,

    /// Where translated code is kept for later runs; without it, in $ENDO_CACHE_DIR, $XDG_CACHE_HOME/endo or ~/.cache/endo.
    #[arg(long, value_name = "DIRECTORY")]
    pub cache_dir: Option<PathBuf>,

    /// Keeps no translated code for later runs, and takes none from earlier ones.
    #[arg(long, conflicts_with = "cache_dir")]
    pub no_cache: bool,

    /// How much translated code is verified before it runs.
    #[arg(long, value_enum, default_value_t, value_name = "HOW_MUCH")]
    pub verify: VerifyChoice,

    /// Writes /tmp/perf-PID.map, by which perf(1) names translated code.
    #[arg(long)]
    pub perf_map: bool,

    /// Adds every translated fragment to a file, guest and emitted code side by side. For who works on the translator.
    #[arg(long, value_name = "FILE", hide = true)]
    pub dump_fragments: Option<PathBuf>,

    /// Lets the processor predict returns. For who works on the translator.
    #[arg(long, hide = true)]
    pub predict_returns: bool,

    /// The program and its arguments. Without a slash it is looked up in PATH. Everything after it is its own; a `--`
    /// before it is needed only if its name begins with a dash.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// What `--verify` can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum VerifyChoice {
    /// Nothing. To measure what verification costs; never for a program that is not trusted.
    Off,
    /// One block in 64, and every uncommon one.
    Sample,
    /// Everything.
    #[default]
    On,
}

impl From<VerifyChoice> for VerifyMode {
    fn from(choice: VerifyChoice) -> Self {
        match choice {
            VerifyChoice::Off => VerifyMode::Off,
            VerifyChoice::Sample => VerifyMode::Sample,
            VerifyChoice::On => VerifyMode::On,
        }
    }
}

/// Runs the program to its end. If a signal ended it, this does not return.
pub fn execute(options: &RunOptions, environment: &[&CStr]) -> Result<i32, Failure> {
    let arguments: Vec<CString> = options.program.iter().map(|argument| c_string(argument)).collect();
    let arguments: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
    let name = options.program[0].to_string_lossy();
    let path = variable(environment, b"PATH=");
    let program = loader::find(arguments[0], path).map_err(|error| Failure::load(&name, &error))?;
    prepare_log(options)?;
    start(options, program, &arguments, environment, None)
}

/// Opens the log, if there is anything to log, and starts the trace.
fn prepare_log(options: &RunOptions) -> Result<(), Failure> {
    let first = match options.inherited_log {
        Some(inherited) => {
            log::resume(inherited)?;
            inherited.first
        }
        None => {
            if options.trace || options.stats || options.log_file.is_some() {
                log::open(options.log_file.as_deref())?;
            }
            std::process::id()
        }
    };
    if options.trace {
        trace::turn_on(first);
    }
    Ok(())
}

/// Goes on as the program that a guest has exec'd. The endo before this one found that it could be done; if that has
/// changed since, there is nobody left to tell, and the process ends as the kernel would end it.
pub fn resume(handover: &Handover) -> i32 {
    let outcome = parse_options(&handover.options).and_then(|options| {
        let program = handover.open().map_err(|error| Failure::load("exec", &error))?;
        prepare_log(&options)?;
        let arguments: Vec<&CStr> = handover.arguments.iter().map(CString::as_c_str).collect();
        trace::exec_succeeded(&program.exec_name, &arguments);
        let environment: Vec<&CStr> = handover.environment.iter().map(CString::as_c_str).collect();
        start(&options, program, &arguments, &environment, Some(handover))
    });
    outcome.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        Ending::Killed(libc::SIGKILL).finish()
    })
}

fn start(
    options: &RunOptions,
    program: Program,
    arguments: &[&CStr],
    environment: &[&CStr],
    before: Option<&Handover>,
) -> Result<i32, Failure> {
    let persistence = Persistence::open(&options.kept());
    let config = BackendConfig {
        store: persistence.store.as_ref().ok().cloned(),
        cache_bytes: options.cache_size,
        verify: options.verify.into(),
        perf_map: options.perf_map.then(|| format!("/tmp/perf-{}.map", std::process::id()).into()),
        fragment_dump: options.dump_fragments.clone(),
        bequest: before.map(|before| before.bequest.clone()).unwrap_or_default(),
        predict_returns: options.predict_returns,
        ..BackendConfig::default()
    };
    let name = program.exec_name.to_string_lossy().into_owned();
    let handed_on = options.to_bytes();
    let calls = Arc::new(CountingMonitor::new());
    let not_kept = persistence.store.err();
    let report = options.stats.then(|| report(Arc::clone(&calls), not_kept));
    let scatter = persistence.scatter;
    let legacy = before.map(|before| before.legacy);
    let guest = Guest { program, arguments, environment, legacy, options: &handed_on, scatter, report };
    let ending = if options.stats {
        backends::run(options.backend, config, calls, guest)
    } else {
        backends::run(options.backend, config, NullMonitor, guest)
    };
    // Other threads of the guest may be running: nothing is to be torn down under them.
    ending.map_err(|error| Failure::launch(&name, &error))?.finish()
}

/// Prints the figures when the process ends. A forked child has counts of its own, which are not what was asked for.
fn report(calls: Arc<CountingMonitor>, not_kept: Option<Off>) -> Report {
    let own_pid = std::process::id();
    Report(Box::new(move |figures: Vec<Statistic>| {
        if std::process::id() == own_pid {
            log::report(&calls, &figures, not_kept.as_ref());
        }
    }))
}

impl RunOptions {
    /// Where translations are to be kept. Only a backend that translates has any.
    fn kept(&self) -> Wish {
        match &self.cache_dir {
            _ if self.no_cache || self.backend == BackendChoice::Null => Wish::Off,
            Some(directory) => Wish::In(directory.clone()),
            None => Wish::Default,
        }
    }

    /// Sets what a word of [`Self::to_bytes`] says, if it is a common one.
    fn take_common(&mut self, word: &OsStr) -> bool {
        let Some(word) = word.to_str() else { return false };
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "--backend" => BackendChoice::from_str(value, false).map(|choice| self.backend = choice).is_ok(),
            "--verify" => VerifyChoice::from_str(value, false).map(|choice| self.verify = choice).is_ok(),
            "--inherited-log" => value.parse().map(|log| self.inherited_log = Some(log)).is_ok(),
            "--cache-dir" => {
                self.cache_dir = Some(value.into());
                true
            }
            "--no-cache" => {
                self.no_cache = true;
                true
            }
            "--trace" => {
                self.trace = true;
                true
            }
            "--stats" => {
                self.stats = true;
                true
            }
            _ => false,
        }
    }

    /// The options as a command line, without the program: each followed by a zero byte.
    fn to_bytes(&self) -> Vec<u8> {
        let mut words: Vec<OsString> = Vec::new();
        let mut value = |name: &str, value: OsString| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            words.push(word);
        };
        let named = |choice: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            choice().map(|choice| OsString::from(choice.get_name())).unwrap_or_default()
        };
        value("backend", named(&|| self.backend.to_possible_value()));
        value("verify", named(&|| self.verify.to_possible_value()));
        if let Some(bytes) = self.cache_size {
            value("cache-size", bytes.to_string().into());
        }
        if let Some(inherited) = log::to_hand_over() {
            value("inherited-log", inherited.to_string().into());
        }
        if let Some(file) = &self.dump_fragments {
            value("dump-fragments", std::path::absolute(file).unwrap_or_else(|_| file.clone()).into());
        }
        if let Some(directory) = &self.cache_dir {
            value("cache-dir", std::path::absolute(directory).unwrap_or_else(|_| directory.clone()).into());
        }
        let flags = [
            (self.trace, "--trace"),
            (self.stats, "--stats"),
            (self.perf_map, "--perf-map"),
            (self.no_cache, "--no-cache"),
            (self.predict_returns, "--predict-returns"),
        ];
        words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.into()));
        words.into_iter().flat_map(|word| word.into_vec().into_iter().chain([0])).collect()
    }
}

/// Undoes [`RunOptions::to_bytes`]. The command line's own parser takes a tenth of a millisecond, which every exec would
/// pay: it is asked only about what is rare.
fn parse_options(bytes: &[u8]) -> Result<RunOptions, Failure> {
    let words = || bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty()).map(OsStr::from_bytes);
    let mut options = RunOptions::default();
    if words().all(|word| options.take_common(word)) {
        return Ok(options);
    }
    let line = ["endo", "run"].map(OsStr::new).into_iter().chain(words());
    let line = line.chain(["--", "exec"].map(OsStr::new)).map(OsStr::to_owned);
    match Cli::try_parse_from(line).map(|cli| cli.command) {
        Ok(Command::Run(options)) => Ok(options),
        _ => Err(Failure::new("the options of an exec are broken")),
    }
}

/// Arguments come from C strings, so none holds a NUL.
fn c_string(argument: &OsStr) -> CString {
    CString::new(argument.to_owned().into_vec()).unwrap_or_default()
}

/// The value of the variable that begins with `name`, which ends with the equals sign.
fn variable<'a>(environment: &[&'a CStr], name: &[u8]) -> Option<&'a OsStr> {
    environment.iter().find_map(|variable| variable.to_bytes().strip_prefix(name)).map(OsStr::from_bytes)
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| "not a number of bytes like 500000, 64K, 64M or 1G")?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        Some(_) => Err("it must be more than 0".to_owned()),
        None => Err("larger than any memory".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(parse_bytes("123"), Ok(123));
        assert_eq!(parse_bytes("4K"), Ok(4096));
        assert_eq!(parse_bytes("2m"), Ok(2 << 20));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "K", "-1", "1T", "1.5M", "0", "99999999999999999999", "18446744073709551615G"] {
            assert!(parse_bytes(text).is_err(), "{text} is no size");
        }
    }

    #[test]
    fn options_reach_the_endo_of_an_exec() {
        let line = ["endo", "run", "--backend=null", "--trace", "--cache-size=4K", "x"];
        let Command::Run(options) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        let again = parse_options(&options.to_bytes()).unwrap();
        assert_eq!(again.to_bytes(), options.to_bytes());
        assert_eq!((again.backend, again.trace, again.stats), (BackendChoice::Null, true, false));
        assert_eq!(again.cache_size, Some(4096));
    }

    #[test]
    fn common_options_need_no_parser_and_mean_the_same() {
        let line = ["endo", "run", "--backend=sfi", "--verify=sample", "--cache-dir=/a b", "--stats", "x"];
        let Command::Run(options) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        let (bytes, mut again) = (options.to_bytes(), RunOptions::default());
        let mut words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
        assert!(words.all(|word| again.take_common(OsStr::from_bytes(word))));
        assert_eq!(again.to_bytes(), bytes);
        assert!(
            !again.take_common(OsStr::new("--backend=nosuch")) && !again.take_common(OsStr::new("--nosuch"))
        );
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = [c"PATHS=/a", c"PATH=/b", c"PATH=/c"];
        assert_eq!(variable(&environment, b"PATH="), Some(OsStr::new("/b")));
        assert_eq!(variable(&environment, b"HOME="), None);
    }
}

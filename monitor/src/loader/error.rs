//! Why a program cannot be loaded: for a person, and as the errno that execve(2) fails with.

use endo_core::GuestRange;

use super::elf::ElfError;
use super::script::{BadScript, MAX_DEPTH};
use crate::errno::Errno;

/// Why a program cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing has that name.
    #[error("no such file")]
    NotFound,
    /// No directory of PATH has it.
    #[error("not found in PATH")]
    NotInPath,
    /// The file is there and may not be read.
    #[error("no permission to read it")]
    Unreadable,
    /// It cannot be opened.
    #[error("cannot open it: {}", strerror(*.0))]
    Open(Errno),
    /// A directory.
    #[error("is a directory")]
    Directory,
    /// A device, a socket, a pipe.
    #[error("not a regular file")]
    NotRegular,
    /// No right to execute it, or the file system lets nothing be executed.
    #[error("not executable")]
    NotExecutable,
    /// Neither ELF nor script.
    #[error("neither an ELF program nor a script that begins with #!")]
    UnknownFormat,
    /// An ELF file that cannot run here.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A broken `#!` line.
    #[error(transparent)]
    Script(#[from] BadScript),
    /// Scripts that are each other's interpreters.
    #[error("more than {MAX_DEPTH} #! interpreters one after another")]
    TooDeep,
    /// The interpreter of a `#!` line cannot be run.
    #[error("its #! interpreter {path}: {source}")]
    ScriptInterpreter {
        /// As the script names it.
        path: String,
        /// What is wrong with it.
        source: Box<LoadError>,
    },
    /// The dynamic linker cannot be run.
    #[error("its interpreter (PT_INTERP) {path}: {source}")]
    ElfInterpreter {
        /// As the program names it.
        path: String,
        /// What is wrong with it.
        source: Box<LoadError>,
    },
    /// It wants addresses that guests cannot have.
    #[error("its segments lie at {span}, outside the addresses {window} of this backend")]
    OutsideWindow {
        /// What the program wants.
        span: GuestRange,
        /// What there is.
        window: GuestRange,
    },
    /// There is no place for it.
    #[error("no room for {what} of {bytes:#x} bytes")]
    NoRoom {
        /// What needed it, in a few lowercase words.
        what: &'static str,
        /// How much it needed.
        bytes: u64,
    },
    /// Arguments or environment beyond the kernel's limits.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// Something could not be mapped.
    #[error("cannot map {what}: {}", strerror(*.errno))]
    Map {
        /// Which thing, in a few lowercase words.
        what: &'static str,
        /// The memory map's or the host's answer.
        errno: Errno,
    },
}

/// Which limit of execve(2) is exceeded; lengths in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TooMuch {
    #[error(
        "an argument or environment string of {length} bytes; the longest that a program can be given has {limit}"
    )]
    String { length: u64, limit: u64 },
    #[error("too many arguments: {length} bytes with the environment, a program can be given {limit}")]
    Total { length: u64, limit: u64 },
}

impl LoadError {
    /// The errno that execve(2) fails with.
    pub fn errno(&self) -> Errno {
        match self {
            LoadError::NotFound | LoadError::NotInPath => Errno::ENOENT,
            LoadError::Script(BadScript::EmptyName) => Errno::ENOENT,
            LoadError::Unreadable
            | LoadError::Directory
            | LoadError::NotRegular
            | LoadError::NotExecutable => Errno::EACCES,
            LoadError::Open(errno) | LoadError::Map { errno, .. } => *errno,
            LoadError::UnknownFormat | LoadError::Script(_) => Errno::ENOEXEC,
            LoadError::Elf(error) => error.errno(),
            LoadError::TooDeep => Errno::ELOOP,
            LoadError::ScriptInterpreter { source, .. } => source.errno(),
            LoadError::ElfInterpreter { source, .. } => match **source {
                LoadError::Elf(ElfError::Read(_) | ElfError::Truncated { what: "its header", .. }) => {
                    Errno::EIO
                }
                LoadError::Elf(_) | LoadError::UnknownFormat => Errno(libc::ELIBBAD),
                _ => source.errno(),
            },
            LoadError::OutsideWindow { .. } | LoadError::NoRoom { .. } => Errno::ENOMEM,
            LoadError::TooMuch(_) => Errno::E2BIG,
        }
    }

    /// Whether it is the program, or an interpreter that it needs, that does not exist.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Errno::ENOENT
    }

    /// What to do about it, as a few words to a person.
    pub fn advice(&self) -> &'static str {
        match self {
            LoadError::NotFound => "check the path",
            LoadError::NotInPath => "give a path with a slash, or a name that is in PATH",
            LoadError::Unreadable => "endo must read a program to run it",
            LoadError::Open(_) => "check the path and its permissions",
            LoadError::Directory | LoadError::NotRegular => "name a program file",
            LoadError::NotExecutable => "chmod +x it, or check how its file system is mounted",
            LoadError::UnknownFormat => "run it through its interpreter, as in: endo run sh FILE",
            LoadError::Elf(error) => match error {
                ElfError::Class32 { .. } | ElfError::WrongMachine { .. } | ElfError::BigEndian => {
                    "use a build for this machine"
                }
                ElfError::NotAProgram { .. } => "link it into a program first",
                _ => "get an intact copy",
            },
            LoadError::Script(_) | LoadError::TooDeep => "correct its first line",
            LoadError::ScriptInterpreter { source, .. } => match **source {
                LoadError::NotFound => "install it, or correct the script's first line",
                _ => source.advice(),
            },
            LoadError::ElfInterpreter { source, .. } => match **source {
                LoadError::NotFound => "install the C library that the program was built for",
                _ => source.advice(),
            },
            LoadError::OutsideWindow { .. } => "link it at a lower address, or as a PIE",
            LoadError::NoRoom { .. } => "link it as a PIE, or with smaller segments",
            LoadError::TooMuch(_) => "pass less, or raise the stack limit (ulimit -s)",
            LoadError::Map { .. } => "check memory limits (ulimit -a)",
        }
    }
}

/// The C library's words for an errno.
pub(crate) fn strerror(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.0).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

//! Which files a program consists of: the file that was named, its interpreters, and what they do to the arguments.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};

use super::elf::{Bytes, ElfError, Image};
use super::error::{LoadError, TooMuch};
use super::host;
use super::script::{self, MAX_DEPTH, ScriptLine};
use super::stack::Arguments;
use crate::errno::Errno;

/// An ELF file that can be mapped.
#[derive(Debug)]
pub struct Executable {
    /// The file, open for reading.
    pub file: File,
    /// What its headers say.
    pub image: Image,
}

/// A program and all that it takes to run it. Nothing has been mapped yet: making one is the part of execve(2) that can
/// fail and leave the caller as it was.
#[derive(Debug)]
pub struct Program {
    /// The ELF file to run: the program, or the interpreter of a script.
    pub main: Executable,
    /// Its dynamic linker.
    pub interpreter: Option<Executable>,
    /// `AT_EXECFN`: the path as it was given, a script's too.
    pub exec_name: CString,
    /// What a script's arguments begin with in place of `argv[0]`.
    pub script_arguments: Vec<CString>,
}

impl Program {
    /// Opens the program at `path`, relative to the working directory.
    pub fn open(path: &CStr) -> Result<Program, LoadError> {
        Self::resolve(open(path)?, path.to_owned())
    }

    /// The program in an open file, of which messages and the program itself speak as `exec_name`.
    pub fn from_file(file: File, exec_name: CString) -> Result<Program, LoadError> {
        Self::resolve(check(file)?, exec_name)
    }

    /// The arguments that the program gets when the caller passed `argv`, within the limits of execve(2) for a stack of
    /// `stack_limit` bytes. Without any, the kernel adds an empty `argv[0]`.
    pub fn arguments<'a>(
        &'a self,
        argv: &[&'a CStr],
        environment: &[&'a CStr],
        stack_limit: u64,
    ) -> Result<Arguments<'a>, TooMuch> {
        let given = argv.iter().copied();
        let mut arguments: Vec<&CStr> = match self.script_arguments.len() {
            0 => given.collect(),
            _ => self.script_arguments.iter().map(CString::as_c_str).chain(given.skip(1)).collect(),
        };
        if arguments.is_empty() {
            arguments.push(c"");
        }
        let arguments =
            Arguments { arguments, environment: environment.to_vec(), exec_name: &self.exec_name };
        arguments.check(stack_limit)?;
        Ok(arguments)
    }

    fn resolve(mut source: Source, exec_name: CString) -> Result<Program, LoadError> {
        let mut name = exec_name.clone();
        let mut script_arguments = Vec::new();
        for depth in 0.. {
            let Some(line) = script::parse(source.head()) else { break };
            let ScriptLine { interpreter, argument } = line?;
            // It stands for the script's own name: argv[0] of the first script, and what the last one put there.
            let tail = script_arguments.drain(..).skip(1);
            script_arguments =
                [interpreter.clone()].into_iter().chain(argument).chain([name]).chain(tail).collect();
            source = open(&interpreter).map_err(|error| script_interpreter_error(&interpreter, error))?;
            name = interpreter;
            if depth == MAX_DEPTH {
                return Err(LoadError::TooDeep);
            }
        }
        let is_script = !script_arguments.is_empty();
        let main = Executable::parse(source);
        let main =
            if is_script { main.map_err(|error| script_interpreter_error(&name, error))? } else { main? };
        let interpreter = main.image.interpreter.as_deref().map(Executable::open_interpreter).transpose()?;
        Ok(Program { main, interpreter, exec_name, script_arguments })
    }
}

impl Executable {
    fn parse(source: Source) -> Result<Executable, LoadError> {
        match Image::parse(&source) {
            Ok(image) => Ok(Executable { file: source.file, image }),
            Err(ElfError::NotElf) => Err(LoadError::UnknownFormat),
            Err(error) => Err(error.into()),
        }
    }

    fn open_interpreter(name: &[u8]) -> Result<Executable, LoadError> {
        let path = CString::new(name).map_err(|_| ElfError::BadInterpreterName)?;
        open(&path).and_then(Self::parse).map_err(|source| LoadError::ElfInterpreter {
            path: path.to_string_lossy().into_owned(),
            source: Box::new(source),
        })
    }
}

fn script_interpreter_error(path: &CStr, source: LoadError) -> LoadError {
    LoadError::ScriptInterpreter { path: path.to_string_lossy().into_owned(), source: Box::new(source) }
}

/// How much of a file is read at once: the headers of nearly every program.
const HEAD_LENGTH: usize = 1024;

/// A file that may be executed, and its first bytes.
struct Source {
    file: File,
    length: u64,
    head: [u8; HEAD_LENGTH],
    head_length: usize,
}

impl Source {
    fn head(&self) -> &[u8] {
        &self.head[..self.head_length]
    }
}

impl Bytes for Source {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_some_and(|end| end <= self.head_length as u64) {
            return self.head().read_at(offset, buffer);
        }
        read_fully(&self.file, offset, buffer)
    }

    fn length(&self) -> u64 {
        self.length
    }
}

fn read_fully(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn open(path: &CStr) -> Result<Source, LoadError> {
    // Looked at before it is opened: opening a device or a pipe may do something.
    let path = OsStr::from_bytes(path.to_bytes());
    let status = std::fs::metadata(path).map_err(open_error)?;
    check_type(&status.file_type())?;
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    check(options.open(path).map_err(open_error)?)
}

fn open_error(error: io::Error) -> LoadError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => LoadError::NotFound,
        Some(libc::EACCES | libc::EPERM) => LoadError::Unreadable,
        other => LoadError::Open(other.map_or(Errno::EIO, Errno)),
    }
}

fn check_type(file_type: &std::fs::FileType) -> Result<(), LoadError> {
    if file_type.is_dir() {
        return Err(LoadError::Directory);
    }
    let is_other = file_type.is_fifo()
        || file_type.is_socket()
        || file_type.is_char_device()
        || file_type.is_block_device();
    if is_other { Err(LoadError::NotRegular) } else { Ok(()) }
}

/// The checks of `do_open_execat` (fs/exec.c), and a first read.
fn check(file: File) -> Result<Source, LoadError> {
    let status = file.metadata().map_err(open_error)?;
    check_type(&status.file_type())?;
    if !host::may_execute(file.as_raw_fd(), status.mode()) {
        return Err(LoadError::NotExecutable);
    }
    let mut head = [0; HEAD_LENGTH];
    let head_length = read_fully(&file, 0, &mut head).map_err(ElfError::Read)?;
    Ok(Source { file, length: status.len(), head, head_length })
}

//! From one endo to the next across execve(2).
//!
//! The kernel starts endo's own file again, with the guest's arguments as its arguments (so that other processes see
//! the right command line) and endo's *own* environment: the guest's could make the dynamic linker load the guest's code
//! into the monitor. The rest travels in a sealed memfd, whose number stands in the environment. Only an endo
//! that was started through a descriptor of its own file looks for it.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use crate::errno::Errno;
use crate::loader::{LoadError, Program};
use crate::memory::{Limit, MemoryLimits};
use crate::signal::SigSet;
use crate::syscall::hidden;

/// The environment variable that names the memfd.
const VARIABLE: &str = "ENDO_HANDOVER_FD";
const MAGIC: &[u8; 8] = b"endo-1\0\0";
const SEALS: libc::c_int = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// How endo was started: what the endo of an exec needs to be the same.
#[derive(Debug)]
pub struct Launch {
    /// The options of the command line, in whatever form the command line wants them back.
    pub options: Vec<u8>,
    /// Endo's own file.
    executable: OwnedFd,
}

impl Launch {
    /// Opens endo's own file, while /proc is sure to be the host's.
    pub fn new(options: Vec<u8>) -> io::Result<Self> {
        let executable = open_own_file()?;
        Ok(Launch { options, executable })
    }

    /// Endo's own file.
    pub(super) fn executable(&self) -> RawFd {
        self.executable.as_raw_fd()
    }
}

fn open_own_file() -> io::Result<OwnedFd> {
    // SAFETY: the path ends with a NUL and outlives the call.
    let fd = unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let opened = unsafe { OwnedFd::from_raw_fd(fd) };
    hidden::hide(opened).map_err(|errno| io::Error::from_raw_os_error(errno.0))
}

/// Which file an exec names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProgramName {
    /// A path.
    Path(CString),
    /// A descriptor that stays open across the exec (`fexecve`), and the name by which the program knows itself.
    Descriptor(RawFd, CString),
}

/// What an exec hands over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// [`Launch::options`].
    pub options: Vec<u8>,
    /// The program to run.
    pub program: ProgramName,
    /// Its arguments, as the guest gave them.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// What the monitor keeps for it, and the kernel does not.
    pub legacy: Legacy,
    /// What the backend leaves to the next one.
    pub bequest: Vec<u8>,
}

/// What a process keeps across an exec although the kernel does not know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Legacy {
    /// Its signal mask: the host process blocks all signals meanwhile, so that none that comes is lost.
    pub mask: SigSet,
    /// The signals of instructions that it ignores.
    pub ignored: SigSet,
    /// Its limits on memory.
    pub limits: MemoryLimits,
}

impl Legacy {
    fn to_words(self) -> [u64; 6] {
        let MemoryLimits { address_space, data } = self.limits;
        [self.mask.0, self.ignored.0, address_space.soft, address_space.hard, data.soft, data.hard]
    }

    fn from_words([mask, ignored, space_soft, space_hard, data_soft, data_hard]: [u64; 6]) -> Self {
        let address_space = Limit { soft: space_soft, hard: space_hard };
        let limits = MemoryLimits { address_space, data: Limit { soft: data_soft, hard: data_hard } };
        Legacy { mask: SigSet(mask), ignored: SigSet(ignored), limits }
    }
}

impl Handover {
    /// What the endo before this one left, if this process is an exec's. Called once, first of all.
    pub fn receive() -> io::Result<Option<Handover>> {
        if !was_started_by_descriptor() {
            return Ok(None);
        }
        let Some(fd) = std::env::var(VARIABLE).ok().and_then(|fd| fd.parse::<RawFd>().ok()) else {
            return Ok(None);
        };
        // SAFETY: the call takes no pointer.
        if unsafe { libc::fcntl(fd, libc::F_GET_SEALS) } & SEALS != SEALS {
            return Ok(None);
        }
        // SAFETY: endo made this descriptor for this process alone.
        let mut file = unsafe { File::from_raw_fd(fd) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        let handover = Handover::from_bytes(&bytes);
        handover.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a broken handover"))
    }

    /// Opens the program.
    pub fn open(&self) -> Result<Program, LoadError> {
        match &self.program {
            ProgramName::Path(path) => Program::open(path),
            ProgramName::Descriptor(fd, name) => {
                // SAFETY: the descriptor was kept open for this.
                let file = unsafe { File::from_raw_fd(*fd) };
                Program::from_file(file, name.clone())
            }
        }
    }

    /// A sealed memfd with all of it, which exec does not close.
    pub(super) fn into_memfd(self) -> Result<OwnedFd, Errno> {
        // SAFETY: the name ends with a NUL and outlives the call.
        let fd = unsafe { libc::memfd_create(c"endo-handover".as_ptr(), libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(Errno::last());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let mut file = unsafe { File::from_raw_fd(fd) };
        file.write_all(&self.to_bytes()).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
        // SAFETY: the call takes no pointer.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, SEALS) } < 0 {
            return Err(Errno::last());
        }
        Ok(file.into())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, &self.options);
        self.legacy.to_words().iter().for_each(|word| put(&mut bytes, &word.to_le_bytes()));
        match &self.program {
            ProgramName::Path(path) => {
                put(&mut bytes, &(-1_i32).to_le_bytes());
                put(&mut bytes, path.to_bytes());
            }
            ProgramName::Descriptor(fd, name) => {
                put(&mut bytes, &fd.to_le_bytes());
                put(&mut bytes, name.to_bytes());
            }
        }
        put(&mut bytes, &self.bequest);
        for list in [&self.arguments, &self.environment] {
            put(&mut bytes, &(list.len() as u64).to_le_bytes());
            list.iter().for_each(|string| put(&mut bytes, string.to_bytes()));
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Handover> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let options = take(&mut rest)?.to_vec();
        let mut words = [0; 6];
        for word in &mut words {
            *word = u64::from_le_bytes(take(&mut rest)?.try_into().ok()?);
        }
        let fd = i32::from_le_bytes(take(&mut rest)?.try_into().ok()?);
        let name = CString::new(take(&mut rest)?).ok()?;
        let program = if fd < 0 { ProgramName::Path(name) } else { ProgramName::Descriptor(fd, name) };
        let bequest = take(&mut rest)?.to_vec();
        let mut list = || {
            let count = u64::from_le_bytes(take(&mut rest)?.try_into().ok()?);
            (0..count).map(|_| CString::new(take(&mut rest)?).ok()).collect::<Option<Vec<_>>>()
        };
        let (arguments, environment) = (list()?, list()?);
        let legacy = Legacy::from_words(words);
        Some(Handover { options, program, arguments, environment, legacy, bequest })
    }
}

/// Endo's own environment for the endo of an exec whose memfd is `fd`.
pub(super) fn own_environment(fd: RawFd) -> Vec<CString> {
    let is_own = |name: &OsString| name.as_os_str() != VARIABLE;
    let variable = |(name, value): (OsString, OsString)| {
        let bytes = [name.as_bytes(), b"=", value.as_bytes()].concat();
        // What came out of the environment has no zeros inside.
        CString::new(bytes).ok()
    };
    let inherited = std::env::vars_os().filter(|(name, _)| is_own(name)).filter_map(variable);
    let number = CString::new(format!("{VARIABLE}={fd}")).ok();
    inherited.chain(number).collect()
}

/// Whether the kernel started this process through a descriptor (`execveat` with `AT_EMPTY_PATH`), as only exec does.
fn was_started_by_descriptor() -> bool {
    // SAFETY: no precondition.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    // SAFETY: where the kernel gives this entry it is a string on the stack, which stays for the life of the process.
    !name.is_null() && unsafe { CStr::from_ptr(name) }.to_bytes().starts_with(b"/dev/fd/")
}

/// Appends a length and that many bytes.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    to.extend_from_slice(bytes);
}

/// Takes off a length and that many bytes.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<8>()?;
    let (bytes, after) = after.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover() -> Handover {
        Handover {
            options: b"--trace".to_vec(),
            program: ProgramName::Path(c"/bin/echo".into()),
            arguments: vec![c"echo".into(), c"".into(), c"a b".into()],
            environment: vec![c"A=1".into()],
            legacy: Legacy::from_words([0x4001, 0x400, 2, 3, 4, 5]),
            bequest: vec![1, 2, 3],
        }
    }

    #[test]
    fn what_is_handed_over_arrives() {
        assert_eq!(Handover::from_bytes(&handover().to_bytes()), Some(handover()));
        let by_descriptor =
            Handover { program: ProgramName::Descriptor(7, c"/dev/fd/7".into()), ..handover() };
        assert_eq!(Handover::from_bytes(&by_descriptor.to_bytes()), Some(by_descriptor));
    }

    #[test]
    fn a_handover_cut_short_is_refused() {
        let bytes = handover().to_bytes();
        assert!((0..bytes.len()).all(|length| Handover::from_bytes(&bytes[..length]).is_none()));
    }

    #[test]
    fn the_memfd_cannot_be_changed() {
        let fd = handover().into_memfd().unwrap();
        let mut file = File::from(fd);
        file.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(file.set_len(0).is_err());
    }
}

//! `execve` and `execveat` (fs/exec.c): all that can fail is tried first, then the kernel starts endo again.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::Process;
use super::ending::abandon_locks;
use super::handover::{self, Handover, Legacy, ProgramName};
use crate::errno::{Errno, SyscallResult};
use crate::loader::{self, Program};
use crate::memory::user::UserMemory;
use crate::signal::{Disposition, SigSet, Signal, line::Line};
use crate::syscall::hidden::{self, Kept};
use crate::syscall::{proc_files, trace};
use crate::thread::Thread;

/// The memory of an exec under way. When it succeeds the kernel takes it; under a `vfork` the parent, whose memory it
/// is too, frees it. No descriptor may be owned here: those of the child are not the parent's.
#[derive(Debug)]
pub struct ExecInFlight {
    /// What the pointers point to.
    _strings: [Vec<CString>; 2],
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

/// `execve(path, argv, envp)`. It returns only when it fails.
pub fn execve<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [path, argv, envp, ..]: [u64; 6],
) -> SyscallResult {
    let path = thread.user().read_path(GuestAddr(path))?;
    exec(thread, Named::by_path(path), argv, envp)
}

/// `execveat(directory, path, argv, envp, flags)`. It returns only when it fails.
pub fn execveat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [directory, path, argv, envp, flags, _]: [u64; 6],
) -> SyscallResult {
    let path = thread.user().read_path(GuestAddr(path))?;
    if hidden::is_hidden(directory as i32) {
        return Err(Errno::EBADF);
    }
    let named = Named::by_directory(directory as i32, path, flags as i32)?;
    exec(thread, named, argv, envp)
}

/// A file that is to be executed.
enum Named {
    Path(CString),
    File(File, CString),
}

impl Named {
    fn by_path(path: CString) -> Self {
        Named::Path(path)
    }

    /// `do_open_execat` and `alloc_bprm`: what the name means, and what the program will be told its name is.
    fn by_directory(directory: RawFd, path: CString, flags: i32) -> Result<Self, Errno> {
        if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL);
        }
        let is_plain = path.to_bytes().starts_with(b"/") || directory == libc::AT_FDCWD;
        if is_plain && flags & libc::AT_SYMLINK_NOFOLLOW == 0 && !path.is_empty() {
            return Ok(Named::Path(path));
        }
        if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        let name = match (path.is_empty(), is_plain) {
            (true, _) => format!("/dev/fd/{directory}").into_bytes(),
            (false, true) => path.to_bytes().to_vec(),
            (false, false) => [format!("/dev/fd/{directory}/").as_bytes(), path.to_bytes()].concat(),
        };
        let file = open_at(directory, &path, flags)?;
        Ok(Named::File(file, CString::new(name).map_err(|_| Errno::ENOENT)?))
    }
}

fn open_at(directory: RawFd, path: &CStr, flags: i32) -> Result<File, Errno> {
    let nofollow = if flags & libc::AT_SYMLINK_NOFOLLOW != 0 { libc::O_NOFOLLOW } else { 0 };
    let by_descriptor =
        CString::new(format!("/proc/thread-self/fd/{directory}")).map_err(|_| Errno::EBADF)?;
    // Opened again rather than duplicated: a descriptor made with O_PATH cannot be read.
    let (directory, path) =
        if path.is_empty() { (libc::AT_FDCWD, by_descriptor.as_c_str()) } else { (directory, path) };
    let how = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK | nofollow;
    // SAFETY: the path ends with a NUL and outlives the call.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), how) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn exec<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    named: Named,
    argv: u64,
    envp: u64,
) -> SyscallResult {
    let process = thread.process;
    let user = thread.user();
    let named = guest_program(process, named)?;
    let (name, program, descriptor) = open(named)?;
    let mut budget = Budget::of_exec();
    let arguments = read_strings(user, GuestAddr(argv), &mut budget)?;
    let environment = read_strings(user, GuestAddr(envp), &mut budget)?;
    let window = process.memory().window();
    let (argv, envp) = (as_c_strs(&arguments), as_c_strs(&environment));
    let host_arguments = loader::check_arguments(window, &program, &argv, &envp);
    let host_arguments = host_arguments.map_err(|error| error.errno())?;
    report_lost_privilege(&program);
    process.monitor.exec(&program.exec_name);
    process.backend.keep_work();
    drop(program);
    let options = process.launch.options.clone();
    let bequest = process.backend.bequest();
    let legacy = Legacy {
        mask: thread.signals.mask(),
        ignored: ignored_faults(thread),
        limits: *process.memory().limits(),
    };
    let memfd = Handover { options, program: name, arguments, environment, legacy, bequest }.into_memfd()?;
    let flight = ExecInFlight::new(host_arguments, handover::own_environment(memfd.as_raw_fd()));
    let flight = &**thread.exec_in_flight.insert(Box::new(flight));
    let (argv, envp) = (flight.argv.as_ptr(), flight.envp.as_ptr());
    // What is pending is the kernel's to hand on. All signals are blocked until the endo to come sets the mask.
    let relinquished = thread.signals.before_exec();
    let errno = relinquished.err().unwrap_or_else(|| {
        trace::keep_sink_across_exec(Kept::Open);
        abandon_locks(thread);
        // SAFETY: both arrays end with a null pointer; they and their strings stay in `exec_in_flight` until the call is
        // over.
        let errno = unsafe { start(process.launch.executable(), argv, envp) };
        trace::keep_sink_across_exec(Kept::Closed);
        thread.signals.after_failed_exec();
        errno
    });
    thread.exec_in_flight = None;
    drop(memfd);
    drop(descriptor);
    Err(errno)
}

fn as_c_strs(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}

/// A path that means the program of a process under Endo means the guest's, not endo's.
fn guest_program<B, M>(process: &Process<B, M>, named: Named) -> Result<Named, Errno> {
    let Named::Path(path) = &named else { return Ok(named) };
    if proc_files::is_hidden_link(libc::AT_FDCWD, path) {
        return Err(Errno::ENOENT);
    }
    Ok(proc_files::guest_executable(process, libc::AT_FDCWD, path).map_or(named, Named::Path))
}

/// Opens a program as the endo of the exec will; for a file without a name of its own, with a descriptor that lasts.
fn open(named: Named) -> Result<(ProgramName, Program, Option<OwnedFd>), Errno> {
    match named {
        Named::Path(path) => {
            let program = Program::open(&path).map_err(|error| error.errno())?;
            Ok((ProgramName::Path(path), program, None))
        }
        Named::File(file, name) => {
            let kept = file.try_clone().map_err(|_| Errno::EMFILE)?;
            let program = Program::from_file(file, name.clone()).map_err(|error| error.errno())?;
            // SAFETY: the call takes no pointer.
            if unsafe { libc::fcntl(kept.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(Errno::last());
            }
            let kept = OwnedFd::from(kept);
            Ok((ProgramName::Descriptor(kept.as_raw_fd(), name), program, Some(kept)))
        }
    }
}

/// Bytes of strings and pointers that an exec may still read: no more than the kernel ever takes.
struct Budget(usize);

impl Budget {
    /// Three quarters of `_STK_LIM` (fs/exec.c, `bprm_stack_limits`).
    fn of_exec() -> Self {
        Budget(6 << 20)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Errno> {
        self.0 = self.0.checked_sub(bytes).ok_or(Errno::E2BIG)?;
        Ok(())
    }
}

/// The strings of a null-terminated array of pointers; a null array has none.
fn read_strings<B: IsolationBackend>(
    user: UserMemory<'_, B>,
    array: GuestAddr,
    budget: &mut Budget,
) -> Result<Vec<CString>, Errno> {
    /// `MAX_ARG_STRLEN`.
    const LONGEST: usize = 128 << 10;
    let mut strings = Vec::new();
    if array.0 == 0 {
        return Ok(strings);
    }
    loop {
        let at = array.checked_add(strings.len() as u64 * 8).ok_or(Errno::EFAULT)?;
        let pointer: u64 = user.read(at)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let string = user.read_cstr(GuestAddr(pointer), LONGEST);
        let string =
            string.map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::E2BIG } else { errno })?;
        budget.spend(string.as_bytes_with_nul().len() + 8)?;
        strings.push(string);
    }
}

/// A set-user-id program runs, like everything under endo, with the privilege that endo has.
fn report_lost_privilege(program: &Program) {
    let Ok(status) = program.main.file.metadata() else { return };
    // SAFETY: no precondition.
    let user = unsafe { libc::geteuid() };
    // SAFETY: no precondition.
    let group = unsafe { libc::getegid() };
    let gains_user = status.mode() & libc::S_ISUID != 0 && status.uid() != user;
    let gains_group = status.mode() & libc::S_ISGID != 0 && status.gid() != group;
    if gains_user || gains_group {
        let mut line = Line::new();
        line.text("endo: ").text(&program.exec_name.to_string_lossy());
        line.text(" is set-user-id or set-group-id: it runs without that privilege\n").write_to_stderr();
    }
}

/// The signals of instructions that the guest ignores. The kernel knows of the others; of these it has the monitor's
/// handler, which other threads need for as long as there are any.
fn ignored_faults<B: IsolationBackend, M: SyscallMonitor>(thread: &Thread<'_, B, M>) -> SigSet {
    let actions = thread.actions();
    let is_ignored = |signal: &Signal| actions.get(*signal).disposition() == Disposition::Ignore;
    Signal::SYNCHRONOUS.into_iter().filter(is_ignored).fold(SigSet::EMPTY, SigSet::with)
}

impl ExecInFlight {
    fn new(arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        let terminated = |strings: &[CString]| {
            strings.iter().map(|string| string.as_ptr()).chain([core::ptr::null()]).collect()
        };
        // The pointers are to the strings' own memory, which does not move with the vectors.
        let (argv, envp) = (terminated(&arguments), terminated(&environment));
        ExecInFlight { _strings: [arguments, environment], argv, envp }
    }
}

/// Starts the file behind `executable` in this process; comes back only to say why not.
///
/// # Safety
///
/// Both arrays end with a null pointer, and the rest are strings; all of it lives until the call is over.
unsafe fn start(
    executable: RawFd,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
) -> Errno {
    let path = c"".as_ptr();
    // SAFETY: the caller's promise, and the path ends with its NUL.
    unsafe { libc::syscall(libc::SYS_execveat, executable, path, argv, envp, libc::AT_EMPTY_PATH) };
    Errno::last()
}

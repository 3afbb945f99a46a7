//! /proc as the guest may see it.
//!
//! A file is judged after it has been opened, by what it then is: names lie (links, other mounts, relative paths,
//! `/proc/self/fd/N`), the object does not. What shows or changes the monitor's memory is refused, for this process and for every other
//! one under a monitor; what describes the process is replaced by a copy that describes the guest.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use endo_core::{IsolationBackend, SyscallMonitor};

use super::files::close_again;
use super::proc_views::{self, View};
use super::{hidden, raw};
use crate::errno::Errno;
use crate::process::Process;
use crate::thread::Thread;

/// include/uapi/linux/magic.h
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A file of a process in /proc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProcessFile<'a> {
    /// The process's id, as the path has it.
    pub(super) pid: u32,
    /// The thread's, if the path goes through `task`.
    pub(super) tid: Option<u32>,
    /// What follows the process or its thread: "mem", "fd/3".
    pub(super) name: &'a str,
}

/// What the monitor does about a file of a process that has a monitor in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// It is nothing special.
    Plain,
    /// It may not be opened.
    Refused,
    /// The guest gets a text of the monitor's instead.
    Replaced(View),
}

/// What to do about `name` (without leading directories of the process).
fn rule(name: &str) -> Rule {
    match name.split('/').next().unwrap_or_default() {
        "mem" | "pagemap" | "map_files" | "clear_refs" | "syscall" | "stack" | "numa_maps" => Rule::Refused,
        name => View::of(name).map_or(Rule::Plain, Rule::Replaced),
    }
}

/// Looks at what a guest has just opened. On error the descriptor is closed again; otherwise it stands for what the
/// guest may see. `path` is what the guest named.
pub(super) fn review<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    fd: i32,
    flags: i32,
    path: &CStr,
) -> Result<(), Errno> {
    let judged = judge(thread, fd, flags, path).and_then(|judgement| match judgement {
        Judgement::Fine => Ok(()),
        Judgement::Instead(text) => {
            let view = open_view(&text, flags)?;
            raw::duplicate_to(view.as_raw_fd(), fd, flags & libc::O_CLOEXEC)
        }
    });
    if judged.is_err() {
        close_again(fd);
    }
    judged
}

/// What a guest may get where it opens something.
#[derive(Debug)]
pub(super) enum Judgement {
    /// The file itself.
    Fine,
    /// A text instead.
    Instead(Vec<u8>),
}

/// Judges an open file that the guest would open with these flags, by a path descriptor or as it is.
pub(super) fn judge<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    fd: i32,
    flags: i32,
    path: &CStr,
) -> Result<Judgement, Errno> {
    let status = raw::fstat(fd)?;
    if is_machine_memory(&status) {
        return Err(Errno::EPERM);
    }
    if reaches_hidden(&status, path) {
        return Err(Errno::EACCES);
    }
    if !is_on_proc(fd, status.st_dev)? {
        return Ok(Judgement::Fine);
    }
    let target = raw::descriptor_path(fd)?;
    let target = target.to_string_lossy();
    let Some(file) = process_file(&target) else {
        return if target.ends_with("/kcore") { Err(Errno::EPERM) } else { Ok(Judgement::Fine) };
    };
    if !file.is_own() && !has_monitor(file.pid) {
        return Ok(Judgement::Fine);
    }
    match rule(file.name) {
        Rule::Plain => Ok(Judgement::Fine),
        // A path descriptor shows nothing, and whatever is opened through it is judged again.
        _ if flags & libc::O_PATH != 0 => Ok(Judgement::Fine),
        Rule::Refused => Err(Errno::EACCES),
        Rule::Replaced(view) => {
            let text = proc_views::text(thread, view, file)?;
            Ok(text.map_or(Judgement::Fine, Judgement::Instead))
        }
    }
}

/// A file with this content, which can only be read.
fn open_view(text: &[u8], flags: i32) -> Result<OwnedFd, Errno> {
    if flags & libc::O_ACCMODE != libc::O_RDONLY {
        return Err(Errno::EACCES);
    }
    raw::read_only_file(text)
}

/// Likewise, as a descriptor of the guest's.
pub(super) fn open_text(text: &[u8], flags: i32) -> Result<i32, Errno> {
    let view = open_view(text, flags)?;
    raw::duplicate_lowest(view.as_raw_fd(), flags & libc::O_CLOEXEC != 0)
}

/// /dev/mem, /dev/kmem, /dev/port: all memory of the machine, the monitor's included.
fn is_machine_memory(status: &libc::stat) -> bool {
    let is_device = status.st_mode & libc::S_IFMT == libc::S_IFCHR;
    is_device && libc::major(status.st_rdev) == 1 && matches!(libc::minor(status.st_rdev), 1 | 2 | 4)
}

/// Whether a link in /proc/self/fd led to a descriptor of the monitor's.
fn reaches_hidden(status: &libc::stat, path: &CStr) -> bool {
    let is_same =
        |fd| raw::fstat(fd).is_ok_and(|own| (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino));
    path.to_bytes().windows(3).any(|part| part == b"fd/") && hidden::guarded().any(is_same)
}

/// Whether a path names one of the monitor's descriptors in /proc: there is no such link, and no such `fdinfo`.
pub(crate) fn is_hidden_link(directory: i32, path: &CStr) -> bool {
    if !path.to_bytes().last().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let text = path.to_string_lossy();
    let (parent, name) = text.rsplit_once('/').unwrap_or((".", &text));
    if !name.parse().is_ok_and(hidden::is_hidden) {
        return false;
    }
    let parent = if parent.is_empty() { "/" } else { parent };
    let parent = CString::new(parent).expect("a part of a path has no zero byte");
    raw::open_directory(directory, &parent).is_ok_and(|parent| lists_descriptors(parent.as_raw_fd()))
}

/// Whether the file is on a proc file system. Devices that are not are remembered, one at a time.
fn is_on_proc(fd: i32, device: u64) -> Result<bool, Errno> {
    static LAST_OTHER: AtomicU64 = AtomicU64::new(u64::MAX);
    // File systems without a device have major number 0; /proc is one of them.
    if libc::major(device) != 0 || LAST_OTHER.load(Ordering::Relaxed) == device {
        return Ok(false);
    }
    let is_proc = raw::file_system_type(fd)? == PROC_SUPER_MAGIC;
    if !is_proc {
        LAST_OTHER.store(device, Ordering::Relaxed);
    }
    Ok(is_proc)
}

/// The process and the file that a path below some mount of /proc names.
fn process_file(path: &str) -> Option<ProcessFile<'_>> {
    let mut end = path.len();
    // From the right: what follows the last number that is followed by a name is the file.
    while let Some(slash) = path[..end].rfind('/') {
        let before = &path[..slash];
        let directory = before.rsplit('/').next().unwrap_or_default();
        if let Ok(id) = directory.parse() {
            let parents = before.strip_suffix(directory).unwrap_or_default();
            let owner = parents.strip_suffix("/task/").and_then(|path| path.rsplit('/').next()?.parse().ok());
            let tid = owner.is_some().then_some(id);
            return Some(ProcessFile { pid: owner.unwrap_or(id), tid, name: &path[slash + 1..] });
        }
        end = slash;
    }
    None
}

impl ProcessFile<'_> {
    /// Whether it is a file of this process.
    pub(super) fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// Whether a process runs Endo.
pub(super) fn has_monitor(pid: u32) -> bool {
    let own = own_identity();
    own.is_some() && identity(&format!("/proc/{pid}/exe")) == own
}

/// Device and inode of a file.
fn identity(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Those of endo's own file.
fn own_identity() -> Option<(u64, u64)> {
    static OWN: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    *OWN.get_or_init(|| identity("/proc/self/exe"))
}

/// If the path leads to the `exe` link in /proc of a process under Endo, by whatever name: the guest's program, or a path
/// that leads to it.
pub(crate) fn guest_executable<B, M>(
    process: &Process<B, M>,
    directory: i32,
    path: &CStr,
) -> Option<CString> {
    if !path.to_bytes().ends_with(b"exe") {
        return None;
    }
    let link = raw::open_path(directory, path).ok()?;
    if raw::file_system_type(link.as_raw_fd()).ok()? != PROC_SUPER_MAGIC {
        return None;
    }
    let target = raw::descriptor_path(link.as_raw_fd()).ok()?;
    let target = target.to_string_lossy();
    let file = process_file(&target).filter(|file| file.name == "exe")?;
    match file.is_own() {
        true => Some(process.image().executable.clone()),
        false if has_monitor(file.pid) => executable_of_other(file.pid),
        false => None,
    }
}

/// A link to the program of another process under Endo: its monitor keeps it open beside endo's own file, at the top of
/// the numbers.
fn executable_of_other(pid: u32) -> Option<CString> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<i32>().ok();
    let mut numbers: Vec<i32> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    let is_endo = |fd: &&i32| identity(&format!("/proc/{pid}/fd/{fd}")) == own_identity();
    let program = numbers.iter().rev().find(is_endo)? + 1;
    let link = format!("/proc/{pid}/fd/{program}");
    numbers.binary_search(&program).ok().and_then(|_| CString::new(link).ok())
}

/// Whether a directory lists the descriptors of a process under Endo.
pub(super) fn lists_descriptors(fd: i32) -> bool {
    let is_proc = raw::fstat(fd).and_then(|status| is_on_proc(fd, status.st_dev)).unwrap_or(false);
    is_proc
        && raw::descriptor_path(fd).is_ok_and(|path| {
            let path = path.to_string_lossy();
            let file = process_file(&path).filter(|file| matches!(file.name, "fd" | "fdinfo"));
            file.is_some_and(|file| file.is_own() || has_monitor(file.pid))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<(u32, &str)> {
        process_file(path).map(|file| (file.pid, file.name))
    }

    #[test]
    fn a_process_file_is_found_wherever_proc_is_mounted() {
        assert_eq!(parsed("/proc/12/mem"), Some((12, "mem")));
        assert_eq!(parsed("/mnt/7/other/12/mem"), Some((12, "mem")));
        assert_eq!(parsed("(unreachable)/12/maps"), Some((12, "maps")));
    }

    #[test]
    fn a_threads_file_belongs_to_its_process() {
        assert_eq!(parsed("/proc/12/task/13/mem"), Some((12, "mem")));
        assert_eq!(process_file("/proc/12/task/13/stat").unwrap().tid, Some(13));
    }

    #[test]
    fn a_number_at_the_end_is_part_of_the_name() {
        assert_eq!(parsed("/proc/12/fd/3"), Some((12, "fd/3")));
        assert_eq!(parsed("/proc/12/map_files/400000-401000"), Some((12, "map_files/400000-401000")));
    }

    #[test]
    fn what_is_no_process_file_is_none() {
        assert_eq!(parsed("/proc/meminfo"), None);
        assert_eq!(parsed("/proc/12"), None);
    }

    #[test]
    fn memory_of_a_monitored_process_is_refused_by_every_name() {
        let names =
            ["mem", "pagemap", "map_files", "map_files/400000-401000", "clear_refs", "syscall", "stack"];
        assert!(names.iter().all(|name| rule(name) == Rule::Refused));
    }
}

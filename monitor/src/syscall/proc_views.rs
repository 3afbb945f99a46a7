//! The texts that stand for files of /proc: the guest's truth about itself, and about other guests as far as the host
//! knows it. A text is that of the moment at which the file was opened.
#![deny(unsafe_code)]

use std::fs;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::proc_files::ProcessFile;
use super::proc_maps::{self, Guest};
use super::proc_status::{self, Masks};
use crate::errno::Errno;
use crate::thread::Thread;

/// A file that is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// `maps`.
    Maps,
    /// `smaps`.
    Smaps,
    /// `smaps_rollup`.
    SmapsRollup,
    /// `stat`.
    Stat,
    /// `statm`.
    Statm,
    /// `status`.
    Status,
    /// `limits`.
    Limits,
    /// `cmdline`.
    Cmdline,
    /// `environ`.
    Environ,
    /// `auxv`.
    Auxv,
}

impl View {
    /// The view of a file, if it has one.
    pub(super) fn of(name: &str) -> Option<View> {
        let view = match name {
            "maps" => View::Maps,
            "smaps" => View::Smaps,
            "smaps_rollup" => View::SmapsRollup,
            "stat" => View::Stat,
            "statm" => View::Statm,
            "status" => View::Status,
            "limits" => View::Limits,
            "cmdline" => View::Cmdline,
            "environ" => View::Environ,
            "auxv" => View::Auxv,
            _ => return None,
        };
        Some(view)
    }
}

/// What the guest reads; `None` where the host's file says it as well: the kernel knows where the strings of a guest
/// lie, so it answers for other processes.
pub(super) fn text<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    view: View,
    file: ProcessFile<'_>,
) -> Result<Option<Vec<u8>>, Errno> {
    let text = match view {
        View::Cmdline | View::Environ | View::Limits if !file.is_own() => return Ok(None),
        View::Auxv if !file.is_own() => return auxv_of_other(thread, file),
        View::Cmdline => return command_line(thread).map(Some),
        View::Environ => return environment(thread).map(Some),
        View::Auxv => return Ok(Some(thread.process.image().auxiliary_vector.clone())),
        View::Limits => proc_status::limits(&host_file(file, "limits")?, *thread.process.memory().limits()),
        View::Maps => with_guest(thread, file, || host_file(file, "maps"), proc_maps::maps)?,
        View::Smaps => with_guest(thread, file, || host_file(file, "smaps"), proc_maps::smaps)?,
        View::SmapsRollup => with_guest(thread, file, || host_file(file, "smaps"), proc_maps::rollup)?,
        View::Stat | View::Statm | View::Status => {
            let usage = with_guest(thread, file, || host_file(file, "smaps"), proc_maps::usage)?;
            let layout = file.is_own().then(|| thread.process.image().layout);
            match view {
                View::Stat => {
                    let heap = thread.process.memory().heap().start.0;
                    let layout = layout.map(|layout| (layout, heap));
                    proc_status::stat(&host_file(file, "stat")?, &usage, layout, masks(thread, file))
                }
                View::Statm => proc_status::statm(&usage, layout),
                _ => {
                    let status = host_file(file, "status")?;
                    proc_status::status(
                        &status,
                        &usage,
                        layout,
                        masks(thread, file),
                        highest_descriptor(file),
                    )
                }
            }
        }
    };
    Ok(Some(text.into_bytes()))
}

/// The host's text.
fn host_file(file: ProcessFile<'_>, name: &str) -> Result<String, Errno> {
    let path = match file.tid {
        Some(tid) => format!("/proc/{}/task/{tid}/{name}", file.pid),
        None => format!("/proc/{}/{name}", file.pid),
    };
    fs::read_to_string(path).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EACCES)))
}

/// Reads a text of the host and has something made of it and of what is known of the guest's mappings, which stay as they
/// are meanwhile.
fn with_guest<B: IsolationBackend, M: SyscallMonitor, T>(
    thread: &Thread<'_, B, M>,
    file: ProcessFile<'_>,
    host: impl FnOnce() -> Result<String, Errno>,
    make: impl FnOnce(Guest<'_>, &str) -> T,
) -> Result<T, Errno> {
    let memory = thread.process.memory();
    let guest = if file.is_own() { Guest::Own(&memory) } else { Guest::Other(memory.window()) };
    Ok(make(guest, &host()?))
}

/// What the guest does about signals; of its mask only its own is known to a thread.
fn masks<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    file: ProcessFile<'_>,
) -> Option<Masks> {
    let tid = file.tid.unwrap_or(file.pid);
    let is_caller = tid == crate::signal::host::thread_id() as u32;
    file.is_own().then(|| Masks::new(&thread.process.signals(), is_caller.then(|| thread.signals.mask())))
}

/// The highest descriptor that a process under Endo has opened.
fn highest_descriptor(file: ProcessFile<'_>) -> Option<i32> {
    let entries = fs::read_dir(format!("/proc/{}/fd", file.pid)).ok()?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|&fd| !super::hidden::is_hidden(fd)).max()
}

/// The guest may write over its arguments; what a title that is longer than they were looks like is fs/proc/base.c's
/// (`get_mm_cmdline`).
fn command_line<B: IsolationBackend, M: SyscallMonitor>(thread: &Thread<'_, B, M>) -> Result<Vec<u8>, Errno> {
    const LONGEST_TITLE: u64 = 4096;
    let layout = thread.process.image().layout;
    let (start, end) = layout.arguments;
    let arguments = strings(thread, (start, end))?;
    if arguments.last() == Some(&0) || arguments.is_empty() {
        return Ok(arguments);
    }
    let end = layout.environment.1.min(start + LONGEST_TITLE);
    let mut title = strings(thread, (start, end))?;
    let length = title.iter().position(|&byte| byte == 0).map_or(title.len(), |zero| zero + 1);
    title.truncate(length);
    Ok(title)
}

fn environment<B: IsolationBackend, M: SyscallMonitor>(thread: &Thread<'_, B, M>) -> Result<Vec<u8>, Errno> {
    strings(thread, thread.process.image().layout.environment)
}

/// Nothing where the guest has unmapped its strings, as the kernel has it.
fn strings<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    (start, end): (u64, u64),
) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(end.saturating_sub(start)).map_err(|_| Errno::ENOMEM)?;
    Ok(thread.user().read_bytes(GuestAddr(start), length).unwrap_or_default())
}

/// The kernel's copy is the guest's, if the kernel could be told; otherwise it is endo's own, which nobody may see.
fn auxv_of_other<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    file: ProcessFile<'_>,
) -> Result<Option<Vec<u8>>, Errno> {
    let bytes = fs::read(format!("/proc/{}/auxv", file.pid)).map_err(|_| Errno::EACCES)?;
    let (words, _) = bytes.as_chunks::<8>();
    let (entries, _) = words.as_chunks::<2>();
    let program_headers =
        entries.iter().map(|entry| entry.map(u64::from_le_bytes)).find(|&[kind, _]| kind == libc::AT_PHDR);
    let window = thread.process.memory().window();
    let is_guests = program_headers.is_some_and(|[_, address]| window.contains(GuestAddr(address)));
    if is_guests { Ok(None) } else { Err(Errno::EACCES) }
}

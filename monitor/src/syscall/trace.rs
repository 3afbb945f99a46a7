//! One line a system call, as strace writes it: what the table says about the arguments, and the result. And one a signal
//! that is delivered.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use endo_core::{GuestAddr, IsolationBackend};

use super::hidden::{self, Kept};
use super::table::{Call, Kind, Names, Row};
use super::trace_names as names;
use super::trace_signals as signals;
use super::trace_values as values;
use crate::errno::{Errno, SyscallResult};
use crate::memory::user::UserMemory;
use crate::signal::{SigInfo, host};

/// Where lines go. The process has one log, and so one of these.
static SINK: OnceLock<File> = OnceLock::new();
static IS_ON: AtomicBool = AtomicBool::new(false);
/// The first thread of the process that turned tracing on; lines of others carry their number.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// Sends lines (and [`note`]s) to `sink`. Later calls change nothing.
pub fn set_sink(sink: OwnedFd) {
    let _ = SINK.set(File::from(sink));
}

/// Starts tracing. Lines of threads other than the first one of the process `first` carry their number.
pub fn turn_on(first: u32) {
    FIRST.store(first, Ordering::Relaxed);
    IS_ON.store(true, Ordering::Relaxed);
}

/// What the endo of an exec goes on with: the sink, and the process whose lines carry no number.
pub fn to_hand_over() -> Option<(RawFd, u32)> {
    Some((SINK.get()?.as_raw_fd(), FIRST.load(Ordering::Relaxed)))
}

/// Lets the sink stay open across an exec, or not.
pub fn keep_sink_across_exec(kept: Kept) {
    if let Some(sink) = SINK.get() {
        hidden::keep_across_exec(sink.as_raw_fd(), kept);
    }
}

/// Writes the line of the exec that led here, which the endo before it could not end.
pub fn exec_succeeded(program: &CStr, arguments: &[&CStr]) {
    if is_on() {
        let shown: Vec<String> = arguments.iter().map(|argument| format!("{argument:?}")).collect();
        write(&format!("{}execve({program:?}, [{}]) = 0\n", prefix(), shown.join(", ")));
    }
}

/// What lines of other threads than the first begin with.
fn prefix() -> String {
    let id = host::thread_id();
    if id as u32 == FIRST.load(Ordering::Relaxed) { String::new() } else { format!("[pid {id}] ") }
}

/// Whether calls are traced.
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// A remark of the monitor's for whoever reads the log; nobody does unless there is a sink.
pub fn note(text: &str) {
    if let Some(mut sink) = SINK.get() {
        let _ = sink.write_all(format!("endo: {text}\n").as_bytes());
    }
}

/// A line whose call has not come back yet.
pub(super) struct Line {
    row: Option<&'static Row>,
    arguments: [u64; 6],
    text: String,
    /// Arguments that only the result tells, from this one on.
    shown: usize,
}

/// Starts a line: what can be told before the call.
pub(super) fn begin<B: IsolationBackend>(user: &UserMemory<'_, B>, number: u32, arguments: [u64; 6]) -> Line {
    let row = Call::from_number(number).map(Call::row);
    let prefix = prefix();
    let name = row.map_or_else(|| format!("syscall_{number:#x}"), |row| row.name.to_owned());
    let mut line = Line { row, arguments, text: format!("{prefix}{name}("), shown: 0 };
    let kinds = row.map_or(&[Kind::Long; 6][..], |row| row.arguments);
    let told_before = kinds.iter().position(|&kind| is_output(kind)).unwrap_or(kinds.len());
    show(user, &mut line, kinds, told_before, None);
    line
}

/// Ends the line and writes it.
pub(super) fn end<B: IsolationBackend>(user: &UserMemory<'_, B>, mut line: Line, result: SyscallResult) {
    let kinds = line.row.map_or(&[Kind::Long; 6][..], |row| row.arguments);
    show(user, &mut line, kinds, kinds.len(), Some(result));
    write(&format!("{}) = {}\n", line.text, result_text(line.row, result)));
}

/// Ends a line whose call does not come back.
pub(super) fn abandon(line: Line) {
    write(&format!("{}) = ?\n", line.text));
}

/// Writes the line of a signal that a thread is about to handle or to die of. What the kernel does alone, because the guest
/// left it to the default, has none.
pub(crate) fn signal(info: &SigInfo) {
    if is_on() {
        write(&format!("{}--- {} ---\n", prefix(), signals::signal(info)));
    }
}

/// Writes to the log, or to standard error without one. A log that cannot be written must not change what the guest does.
pub fn write(text: &str) {
    let _ = match SINK.get() {
        Some(mut sink) => sink.write_all(text.as_bytes()),
        None => std::io::stderr().write_all(text.as_bytes()),
    };
}

fn is_output(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Out(_)
            | Kind::InOut(_)
            | Kind::OutArray(..)
            | Kind::InOutArray(..)
            | Kind::OutBytes(_)
            | Kind::MsgOut
    )
}

fn show<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    line: &mut Line,
    kinds: &[Kind],
    until: usize,
    result: Option<SyscallResult>,
) {
    for (index, &kind) in kinds.iter().enumerate().take(until).skip(line.shown) {
        if is_unused_mode(kinds, line.arguments, index) {
            continue;
        }
        if index > 0 {
            line.text.push_str(", ");
        }
        let shown = argument(user, kind, line.arguments, index, result);
        line.text.push_str(&shown);
    }
    line.shown = until;
}

/// The mode of an open that creates nothing.
fn is_unused_mode(kinds: &[Kind], arguments: [u64; 6], index: usize) -> bool {
    let follows_flags =
        index > 0 && kinds[index] == Kind::Mode && kinds[index - 1] == Kind::Flags(Names::Open);
    let creates = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
    follows_flags && arguments[index - 1] & creates == 0
}

/// One argument. `result` is none before the call.
fn argument<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    kind: Kind,
    arguments: [u64; 6],
    index: usize,
    result: Option<SyscallResult>,
) -> String {
    let value = arguments[index];
    let start = GuestAddr(value);
    let is_filled = matches!(result, Some(Ok(_)));
    match kind {
        Kind::Int | Kind::Pid | Kind::Fd | Kind::FdOrNone => (value as i32).to_string(),
        Kind::DirFd => names::directory(value as i32),
        Kind::Long | Kind::Offset => (value as i64).to_string(),
        Kind::Size => value.to_string(),
        Kind::Hex => format!("{:#x}", value as u32),
        Kind::Mode => format!("0{:o}", value as u32),
        Kind::Signal => names::signal(value as i32),
        Kind::Flags(set) => names::flags(set, value),
        Kind::Path | Kind::Text => values::string(user, start),
        Kind::In(ty) => values::value(user, ty, start),
        Kind::Out(ty) | Kind::InOut(ty) if is_filled => values::value(user, ty, start),
        Kind::InArray(ty, count) => values::array(user, ty, start, arguments[count]),
        Kind::OutArray(ty, _) => match result {
            Some(Ok(count)) => values::array(user, ty, start, count),
            _ => values::pointer(value),
        },
        Kind::InOutArray(ty, count) if is_filled => values::array(user, ty, start, arguments[count]),
        Kind::InBytes(length) => values::bytes(user, start, arguments[length]),
        Kind::OutBytes(length) => match result {
            Some(Ok(count)) => values::bytes(user, start, count.min(arguments[length])),
            _ => values::pointer(value),
        },
        Kind::InVec(count) => values::vectors(user, start, arguments[count]),
        Kind::SockAddr(length) => values::address(user, start, arguments[length]),
        Kind::SigSet(_) => values::signal_set(user, start),
        Kind::Unused => "0".to_owned(),
        _ => values::pointer(value),
    }
}

fn result_text(row: Option<&Row>, result: SyscallResult) -> String {
    let is_address = row.is_some_and(|row| matches!(row.name, "mmap" | "mremap" | "brk" | "shmat"));
    match result {
        Ok(value) if is_address => format!("{value:#x}"),
        Ok(value) => (value as i64).to_string(),
        Err(Errno(512)) => "? ERESTARTSYS (To be restarted)".to_owned(),
        Err(errno) => {
            let name = errno.name().map_or_else(|| format!("E{}", errno.0), str::to_owned);
            format!("-1 {name} ({})", names::error_text(errno))
        }
    }
}

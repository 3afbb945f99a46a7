//! Every pointer argument of every call, led to memory of the monitor: nothing may be stored there, and nothing read.
//!
//! The calls are made in a forked child, through [`answer`], as a guest would make them: from a small window, with a canary outside
//! it. The same calls with a pointer into the window are the benign twin.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use endo_core::syscall::NullMonitor;
use endo_core::{DomainId, GuestAddr, IsolationBackend, Rights, ThreadState};

use super::answer;
use super::table::{Class, Kind, Names, ROWS, Row};
use crate::errno::{Errno, SyscallResult};
use crate::memory::testing::RecordingBackend;
use crate::memory::{Label, Placement};
use crate::process::{Launch, Process};
use crate::signal::SigSet;
use crate::thread::Thread;

const BUFFERS: u64 = 0x2_0000;
const STRIDE: u64 = 0x4000;
const CANARY: [u8; 4096] = [0xa5; 4096];

type TestThread<'p> = Thread<'p, RecordingBackend, NullMonitor>;

/// Calls that are not made: they end or double the process that makes them, whatever their pointers are.
const NOT_MADE: &[&str] = &["clone", "clone3", "execve", "execveat", "rt_sigreturn"];

/// Pointers that nothing is read from or stored to while the call lasts.
const NOT_FOLLOWED: &[(&str, usize)] = &[
    // Addresses of memory to be managed, not of arguments.
    ("munmap", 0),
    ("brk", 0),
    ("mmap", 0),
    ("mremap", 4),
    // Remembered, and checked when the thread ends.
    ("set_tid_address", 0),
    ("set_robust_list", 0),
];

/// What the benign twin leaves out: calls that change the buffers' mapping, and one that waits for good.
const NOT_IN_THE_TWIN: &[&str] =
    &["mmap", "munmap", "mprotect", "pkey_mprotect", "mremap", "madvise", "brk", "shmat", "rt_sigsuspend"];

/// Calls whose last pointer leads to the length of the one before it.
const TELLS_LENGTH: &[&str] = &["accept", "accept4", "getsockname", "getpeername", "recvfrom", "getsockopt"];

fn is_pointer(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Int
            | Kind::Long
            | Kind::Hex
            | Kind::Size
            | Kind::Offset
            | Kind::Mode
            | Kind::Pid
            | Kind::Signal
            | Kind::Flags(_)
            | Kind::Fd
            | Kind::FdOrNone
            | Kind::DirFd
            | Kind::Unused
    )
}

/// An argument that lets the call get as far as its pointers: those lead to a buffer of their own each.
fn harmless(kind: Kind, index: usize, fd: i32) -> u64 {
    match kind {
        Kind::Fd | Kind::FdOrNone => fd as u64,
        Kind::DirFd => libc::AT_FDCWD as u64,
        Kind::Size => 8,
        Kind::Int => 1,
        Kind::Flags(Names::Resource) => u64::from(libc::RLIMIT_CORE),
        Kind::Flags(Names::Prctl) => libc::PR_GET_PDEATHSIG as u64,
        _ if is_pointer(kind) => BUFFERS + index as u64 * STRIDE,
        _ => 0,
    }
}

fn arguments(row: &Row, fd: i32) -> [u64; 6] {
    let mut arguments = [0; 6];
    for (index, &kind) in row.arguments.iter().enumerate() {
        arguments[index] = harmless(kind, index, fd);
    }
    arguments
}

/// Fills the buffers: paths and names where they are wanted, zero elsewhere.
fn prepare(thread: &TestThread<'_>, row: &Row) {
    for (index, &kind) in row.arguments.iter().enumerate() {
        let start = GuestAddr(BUFFERS + index as u64 * STRIDE);
        let is_text = matches!(kind, Kind::Path | Kind::Text);
        let content: &[u8] = if is_text { b"/nonexistent/x\0" } else { &[0; 512] };
        thread.user().write_bytes(start, content).unwrap();
        if TELLS_LENGTH.contains(&row.name) && index + 1 == row.arguments.len() {
            thread.user().write(start, &16_u32).unwrap();
        }
    }
}

/// Runs `body` in a child, and gives what it wrote.
fn in_child(body: impl FnOnce(&mut dyn Write)) -> String {
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    // SAFETY: the child makes system calls and allocates, which glibc allows after fork, and ends with `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: no precondition.
        unsafe { libc::alarm(30) };
        body(&mut writer);
        writer.write_all(b"done\n").unwrap();
        // SAFETY: no precondition.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child ended early, after {text}");
    text.strip_suffix("done\n").expect("the child came to its end").to_owned()
}

fn with_thread(body: impl FnOnce(&mut TestThread<'_>)) {
    let backend = RecordingBackend::create();
    let process = Process::new(backend, NullMonitor, Launch::new(Vec::new()).unwrap()).unwrap();
    let rights = Rights::READ | Rights::WRITE;
    let placement = Placement::Fixed(GuestAddr(BUFFERS));
    process.memory().map_anonymous(&process.backend, placement, 8 * STRIDE, rights, Label::Guest).unwrap();
    let guest = process.backend.create_thread(DomainId::MAIN, ThreadState::default()).unwrap();
    body(&mut Thread::new(&process, guest, SigSet::EMPTY, Arc::default()));
}

/// Makes every call with a pointer once for each of its pointers and each kind of descriptor; `target` is where that
/// pointer leads.
fn make_calls(
    thread: &mut TestThread<'_>,
    left_out: &[&str],
    target: impl Fn(usize) -> u64,
    mut each: impl FnMut(&Row, usize, SyscallResult),
) {
    let file = tempfile::tempfile().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let directory = std::fs::File::open("/").unwrap();
    // SAFETY: the call takes no pointer.
    let epoll = unsafe { libc::epoll_create1(0) };
    let fds = [file.as_raw_fd(), socket.as_raw_fd(), directory.as_raw_fd(), epoll];
    let is_made = |row: &&Row| {
        !matches!(row.class, Class::Deny(_)) && !NOT_MADE.contains(&row.name) && !left_out.contains(&row.name)
    };
    for row in ROWS.iter().filter(is_made) {
        let Some(number) = row.number() else { continue };
        for (index, _) in row.arguments.iter().enumerate().filter(|(_, kind)| is_pointer(**kind)) {
            for fd in fds {
                prepare(thread, row);
                let mut arguments = arguments(row, fd);
                arguments[index] = target(index);
                let result = answer(thread, number, arguments);
                each(row, index, result);
            }
        }
    }
}

#[test]
fn no_pointer_argument_reaches_the_monitor() {
    let problems = in_child(|report| {
        let canary = Box::new(CANARY);
        let address = &raw const *canary as u64;
        with_thread(|thread| {
            make_calls(
                thread,
                &[],
                |_| address,
                |row, index, result| {
                    // SAFETY: the canary is alive; the kernel may have been led to change it.
                    let now = unsafe { (&raw const *canary).read_volatile() };
                    if now != CANARY {
                        writeln!(report, "{} changed the canary by argument {index}", row.name).unwrap();
                    }
                    if result.is_ok() && !NOT_FOLLOWED.contains(&(row.name, index)) {
                        writeln!(report, "{} succeeded with argument {index}: {result:?}", row.name).unwrap();
                    }
                },
            );
        });
    });
    assert_eq!(problems, "");
}

#[test]
fn the_same_calls_succeed_with_pointers_into_the_window() {
    let succeeded = in_child(|report| {
        with_thread(|thread| {
            make_calls(
                thread,
                NOT_IN_THE_TWIN,
                |index| BUFFERS + index as u64 * STRIDE,
                |row, index, result| {
                    if result.is_ok() && !NOT_FOLLOWED.contains(&(row.name, index)) {
                        writeln!(report, "{}", row.name).unwrap();
                    }
                },
            );
        });
    });
    let expected = [
        "read",
        "write",
        "writev",
        "pwritev",
        "fstat",
        "pipe2",
        "getsockname",
        "sendmsg",
        "uname",
        "sysinfo",
        "clock_gettime",
        "getrandom",
        "prlimit64",
        "rt_sigprocmask",
        "sched_getaffinity",
        "epoll_wait",
        "nanosleep",
        "mincore",
        "poll",
        "getresuid",
        "times",
    ];
    let missing: Vec<_> =
        expected.into_iter().filter(|name| !succeeded.lines().any(|line| line == *name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// Words at the start of a buffer.
fn put(thread: &TestThread<'_>, start: u64, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    thread.user().write_bytes(GuestAddr(start), &bytes).unwrap();
}

#[test]
fn no_pointer_inside_a_structure_reaches_the_monitor() {
    let problems = in_child(|report| {
        let canary = Box::new(CANARY);
        let bad = &raw const *canary as u64;
        let (socket, peer) = UnixStream::pair().unwrap();
        let fd = socket.as_raw_fd() as u64;
        with_thread(|thread| {
            let (outer, vector, data) = (BUFFERS, BUFFERS + STRIDE, BUFFERS + 2 * STRIDE);
            let header = |name: u64, vectors: u64, control: u64| [name, 16, vectors, 1, control, 32, 0];
            let mut check =
                |thread: &mut TestThread<'_>, what: &str, call: libc::c_long, arguments: [u64; 6]| {
                    (&peer).write_all(b"something to receive").unwrap();
                    let result = answer(thread, call as u32, arguments);
                    // SAFETY: the canary is alive; the kernel may have been led to change it.
                    let now = unsafe { (&raw const *canary).read_volatile() };
                    if result != Err(Errno::EFAULT) || now != CANARY {
                        writeln!(report, "{what}: {result:?}").unwrap();
                    }
                };
            put(thread, vector, &[bad, 16]);
            for call in [libc::SYS_readv, libc::SYS_writev] {
                check(thread, "a vector's buffer", call, [fd, vector, 1, 0, 0, 0]);
            }
            for (what, words) in
                [("a message's buffer", header(0, vector, 0)), ("a message's vectors", header(0, bad, 0))]
            {
                put(thread, outer, &words);
                for call in [libc::SYS_sendmsg, libc::SYS_recvmsg] {
                    check(thread, what, call, [fd, outer, 0, 0, 0, 0]);
                }
                for call in [libc::SYS_sendmmsg, libc::SYS_recvmmsg] {
                    check(thread, what, call, [fd, outer, 1, 0, 0, 0]);
                }
            }
            put(thread, vector, &[data, 16]);
            for (what, words) in [
                ("a message's name", header(bad, vector, 0)),
                ("a message's control data", header(0, vector, bad)),
            ] {
                put(thread, outer, &words);
                for call in [libc::SYS_sendmsg, libc::SYS_recvmsg] {
                    check(thread, what, call, [fd, outer, 0, 0, 0, 0]);
                }
            }
            put(thread, outer, &[bad, 8]);
            check(thread, "a mask in a pair", libc::SYS_pselect6, [0, 0, 0, 0, 0, outer]);
            put(thread, outer, &[0, bad, 2, 0]);
            check(thread, "a waiter's word", libc::SYS_futex_waitv, [outer, 1, 0, 0, 0, 0]);
            put(thread, outer, &[1024, bad]);
            check(thread, "a list of interfaces", libc::SYS_ioctl, [fd, 0x8912, outer, 0, 0, 0]);
        });
    });
    assert_eq!(problems, "");
}

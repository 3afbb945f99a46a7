//! `fcntl` by known command (fs/fcntl.c).
#![deny(unsafe_code)]

use endo_core::{IsolationBackend, SyscallMonitor};

use super::forward::forward_as;
use super::table::{Call, Kind, Names, Type};
use crate::errno::{Errno, SyscallResult};
use crate::signal::Signal;
use crate::thread::Thread;

/// A command, and what its third argument is.
struct Command {
    number: i32,
    argument: Kind,
}

const fn command(number: i32, argument: Kind) -> Command {
    Command { number, argument }
}

/// `struct flock` is 32 bytes, and so is the array that stands for it.
const FLOCK: Kind = Kind::InOut(Type::TimespecPair);

const COMMANDS: &[Command] = &[
    command(libc::F_DUPFD, Kind::Int),
    command(libc::F_GETFD, Kind::Unused),
    command(libc::F_SETFD, Kind::Long),
    command(libc::F_GETFL, Kind::Unused),
    command(libc::F_SETFL, Kind::Long),
    command(libc::F_GETLK, FLOCK),
    command(libc::F_SETLK, FLOCK),
    command(libc::F_SETLKW, FLOCK),
    command(libc::F_SETOWN, Kind::Long),
    command(libc::F_GETOWN, Kind::Unused),
    command(F_SETSIG, Kind::Long),
    command(F_GETSIG, Kind::Unused),
    command(F_SETOWN_EX, Kind::In(Type::IntPair)),
    command(F_GETOWN_EX, Kind::Out(Type::IntPair)),
    command(F_GETOWNER_UIDS, Kind::Out(Type::IntPair)),
    command(libc::F_OFD_GETLK, FLOCK),
    command(libc::F_OFD_SETLK, FLOCK),
    command(libc::F_OFD_SETLKW, FLOCK),
    command(libc::F_SETLEASE, Kind::Long),
    command(libc::F_GETLEASE, Kind::Unused),
    command(libc::F_NOTIFY, Kind::Long),
    command(F_DUPFD_QUERY, Kind::Fd),
    command(F_CREATED_QUERY, Kind::Unused),
    command(libc::F_DUPFD_CLOEXEC, Kind::Int),
    command(libc::F_SETPIPE_SZ, Kind::Long),
    command(libc::F_GETPIPE_SZ, Kind::Unused),
    command(libc::F_ADD_SEALS, Kind::Long),
    command(libc::F_GET_SEALS, Kind::Unused),
    command(F_GET_RW_HINT, Kind::Out(Type::U64)),
    command(F_SET_RW_HINT, Kind::In(Type::U64)),
    command(F_GET_FILE_RW_HINT, Kind::Out(Type::U64)),
    command(F_SET_FILE_RW_HINT, Kind::In(Type::U64)),
];

// include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;
const F_DUPFD_QUERY: i32 = 1027;
const F_CREATED_QUERY: i32 = 1028;
const F_GET_RW_HINT: i32 = 1035;
const F_SET_RW_HINT: i32 = 1036;
const F_GET_FILE_RW_HINT: i32 = 1037;
const F_SET_FILE_RW_HINT: i32 = 1038;

/// `fcntl`. A command that is not in the list fails as one that the kernel does not know.
pub(super) fn fcntl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let number = arguments[1] as u32 as i32;
    let known = COMMANDS.iter().find(|command| command.number == number).ok_or(Errno::EINVAL)?;
    // What the kernel then sends has the looks of a fault.
    if number == F_SETSIG && Signal::new(arguments[2] as i32).is_some_and(Signal::is_synchronous) {
        return Err(Errno::EINVAL);
    }
    forward_as(thread, Call::fcntl, arguments, &[Kind::Fd, Kind::Flags(Names::Fcntl), known.argument])
}

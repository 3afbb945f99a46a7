//! What a fast path has to find out before a call may go to the kernel as it stands: derived from the call's row.
//!
//! A call has a check if its row's class is `Pass` and all its arguments are numbers, descriptors, or pointers to memory
//! whose length follows from its type or another argument. Then the monitor would hand it to the kernel unchanged too.
//! [`FLAT_FORMS`] adds calls that need the monitor in general but not in the form in which they are mostly made.
//! [`ANSWERED`] names those that the host's vDSO answers.

use super::table::{Class, Kind, Names, ROWS, Row, Type};

/// An architecture that stubs are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Architecture {
    X86_64,
    Aarch64,
}

/// One thing to find out. Arguments are given by their index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    /// A descriptor, and none of the monitor's.
    Descriptor(usize),
    /// Memory in the guest's window, which the kernel reads.
    Read { pointer: usize, length: Length },
    /// Memory in the guest's window, which the kernel writes, where the backend watches no stores.
    Written { pointer: usize, length: Length },
    /// The argument is 0.
    Zero(usize),
    /// None of these bits is set in the argument's lower half.
    Clear { argument: usize, bits: u32 },
    /// The argument's lower half, without the bits of `ignored`, is a number below 64 whose bit is set in `allowed`.
    OneOf { argument: usize, ignored: u32, allowed: u64 },
}

/// How long a piece of memory is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// This.
    Fixed(u64),
    /// What an argument says.
    Bytes(usize),
    /// An argument says how many values of this size: not more than [`MOST_VALUES`].
    Values { count: usize, size: u64 },
}

/// The window of the guest: addresses below this. Memory of the guest ends there or before.
pub(crate) const WINDOW_END: u64 = 1 << 32;
/// As many values as an array may have: the number is a power of two.
pub(crate) const MOST_VALUES: u64 = 1 << 20;

/// A call that goes to the kernel as it stands, once all is found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its number.
    pub(crate) number: u32,
    /// What has to be found out.
    pub(crate) checks: Vec<Check>,
}

/// A call that the host's vDSO answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answered {
    /// The call's name.
    pub(crate) name: &'static str,
    /// Where its results go.
    pub(crate) results: Results,
}

/// Where the vDSO's function is told to put its results: on the host's stack, from where they are copied to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Results {
    /// Two words at the second argument; the first is handed on.
    PairAtSecond,
    /// Two words at the first argument; the second has to be null.
    PairAtFirst,
    /// What it returns is the result, and goes to the first argument too unless that is null.
    Returned,
    /// 32 bits at the first argument and 32 at the second, unless they are null.
    HalvesAtBoth,
}

/// The calls that the host's vDSO answers, in the order of the functions in the state that stubs read.
pub(crate) const ANSWERED: [Answered; 5] = [
    Answered { name: "clock_gettime", results: Results::PairAtSecond },
    Answered { name: "gettimeofday", results: Results::PairAtFirst },
    Answered { name: "time", results: Results::Returned },
    Answered { name: "getcpu", results: Results::HalvesAtBoth },
    Answered { name: "clock_getres", results: Results::PairAtSecond },
];

/// `MSG_ZEROCOPY` (include/linux/socket.h): the kernel would read the data after the call.
const MSG_ZEROCOPY: u32 = 0x400_0000;
/// `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME` (include/uapi/linux/futex.h).
const FUTEX_FLAGS: u32 = 0x180;
/// `FUTEX_WAIT`, `FUTEX_WAKE`, `FUTEX_WAIT_BITSET`, `FUTEX_WAKE_BITSET`: one word and perhaps a timeout.
const FUTEX_ONE_WORD: u64 = 1 << 0 | 1 << 1 | 1 << 9 | 1 << 10;
/// `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL` (include/uapi/asm-generic/fcntl.h): numbers only.
const FCNTL_FLAGS: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;

/// `SOL_SOCKET` and `IPPROTO_TCP`.
const SOCKET_AND_TCP: u64 = 1 << 1 | 1 << 6;
/// Options that are one integer at both levels: `SO_DEBUG` to `SO_PRIORITY` (include/uapi/asm-generic/socket.h) and
/// `TCP_NODELAY` to `TCP_QUICKACK` (include/uapi/linux/tcp.h).
const INTEGER_OPTIONS: u64 = 0x1ffe;
/// The events that a call asks for: 12 bytes each on x86-64, 16 elsewhere, where the larger number is right too.
const EPOLL_EVENTS: Length = Length::Values { count: 2, size: 16 };

/// Calls of class `Check` that need nobody if they are made in this form.
const FLAT_FORMS: &[(&str, &[Check])] = &[
    // `send`: no address.
    (
        "sendto",
        &[
            Check::Descriptor(0),
            Check::Read { pointer: 1, length: Length::Bytes(2) },
            Check::Clear { argument: 3, bits: MSG_ZEROCOPY },
            Check::Zero(4),
        ],
    ),
    // `recv`: no address is wanted.
    (
        "recvfrom",
        &[
            Check::Descriptor(0),
            Check::Written { pointer: 1, length: Length::Bytes(2) },
            Check::Zero(4),
            Check::Zero(5),
        ],
    ),
    (
        "futex",
        &[
            Check::Written { pointer: 0, length: Length::Fixed(4) },
            Check::OneOf { argument: 1, ignored: FUTEX_FLAGS, allowed: FUTEX_ONE_WORD },
            Check::Read { pointer: 3, length: Length::Fixed(16) },
        ],
    ),
    ("fcntl", &[Check::Descriptor(0), Check::OneOf { argument: 1, ignored: 0, allowed: FCNTL_FLAGS }]),
    // Switches and sizes of sockets and of TCP.
    (
        "setsockopt",
        &[
            Check::Descriptor(0),
            Check::OneOf { argument: 1, ignored: 0, allowed: SOCKET_AND_TCP },
            Check::OneOf { argument: 2, ignored: 0, allowed: INTEGER_OPTIONS },
            Check::Read { pointer: 3, length: Length::Bytes(4) },
        ],
    ),
    // The peer's address is not wanted.
    ("accept", &[Check::Descriptor(0), Check::Zero(1), Check::Zero(2)]),
    ("accept4", &[Check::Descriptor(0), Check::Zero(1), Check::Zero(2)]),
    // The mask of signals stays as it is.
    (
        "epoll_pwait",
        &[Check::Descriptor(0), Check::Written { pointer: 1, length: EPOLL_EVENTS }, Check::Zero(4)],
    ),
    // To the kernel a path descriptor is not open for waiting, and while fast paths are in use the monitor's are such.
    ("poll", &[Check::Written { pointer: 0, length: Length::Values { count: 1, size: 8 } }]),
    (
        "ppoll",
        &[
            Check::Written { pointer: 0, length: Length::Values { count: 1, size: 8 } },
            Check::Written { pointer: 2, length: Length::Fixed(16) },
            Check::Zero(3),
        ],
    ),
];

/// The plans of all calls that have one.
pub(crate) fn all(architecture: Architecture) -> Vec<Plan> {
    ROWS.iter().filter_map(|row| plan(row, architecture)).collect()
}

/// A call's number.
pub(crate) fn number(name: &str, architecture: Architecture) -> Option<u32> {
    let row = ROWS.iter().find(|row| row.name == name)?;
    match architecture {
        Architecture::X86_64 => row.x86_64,
        Architecture::Aarch64 => row.aarch64,
    }
}

fn plan(row: &Row, architecture: Architecture) -> Option<Plan> {
    let number = number(row.name, architecture)?;
    let flat_form = FLAT_FORMS.iter().find(|(name, _)| *name == row.name);
    let checks = match (row.class, flat_form) {
        (Class::Check, Some((_, checks))) => checks.to_vec(),
        (Class::Pass, None) => {
            let checks = row.arguments.iter().enumerate();
            let checks: Option<Vec<_>> =
                checks.map(|(index, &kind)| of_kind(index, kind, architecture)).collect();
            checks?.into_iter().flatten().collect()
        }
        _ => return None,
    };
    Some(Plan { name: row.name, number, checks })
}

/// What an argument of a kind needs: nothing, one check, or (outer `None`) more than a fast path can do.
fn of_kind(index: usize, kind: Kind, architecture: Architecture) -> Option<Option<Check>> {
    let size = |ty: Type| ty.size_on(architecture == Architecture::X86_64);
    let read = |length| Some(Some(Check::Read { pointer: index, length }));
    let written = |length| Some(Some(Check::Written { pointer: index, length }));
    match kind {
        Kind::Int
        | Kind::Long
        | Kind::Hex
        | Kind::Size
        | Kind::Offset
        | Kind::Mode
        | Kind::Pid
        | Kind::Signal
        | Kind::Unused => Some(None),
        // Constants that the table can print say nothing about what else the argument may be.
        Kind::Flags(Names::Prctl | Names::Fcntl | Names::Futex) => None,
        Kind::Flags(_) => Some(None),
        Kind::Fd => Some(Some(Check::Descriptor(index))),
        Kind::In(ty) => read(Length::Fixed(size(ty))),
        Kind::Out(ty) | Kind::InOut(ty) => written(Length::Fixed(size(ty))),
        Kind::InBytes(length) => read(Length::Bytes(length)),
        Kind::OutBytes(length) => written(Length::Bytes(length)),
        Kind::InArray(ty, count) => read(Length::Values { count, size: size(ty) }),
        Kind::OutArray(ty, count) | Kind::InOutArray(ty, count) => {
            written(Length::Values { count, size: size(ty) })
        }
        Kind::FdOrNone
        | Kind::DirFd
        | Kind::Path
        | Kind::Text
        | Kind::InVec(_)
        | Kind::OutVec(_)
        | Kind::MsgIn
        | Kind::MsgOut
        | Kind::SockAddr(_)
        | Kind::SigSet(_)
        | Kind::FdSet
        | Kind::Address => None,
    }
}

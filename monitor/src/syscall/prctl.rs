//! `prctl` by known option, `personality`, `unshare`: what a guest may change of itself.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::forward::{forward, forward_as};
use super::table::{Call, Kind, Names, Type};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

const PR_GET_AUXV: i32 = 0x4155_5856;
const PR_GET_MDWE: i32 = 66;
// libc has these on some architectures only (uapi/linux/prctl.h).
const PR_GET_SPECULATION_CTRL: i32 = 52;
const PR_SET_SPECULATION_CTRL: i32 = 53;
const NAME: Kind = Kind::OutBytes(5);
const NAME_LENGTH: u64 = 16;

/// Options that go to the kernel, and what their second argument is; the others are numbers.
#[rustfmt::skip]
const OPTIONS: &[(i32, Kind)] = &[
    (libc::PR_SET_PDEATHSIG, Kind::Long),
    (libc::PR_GET_PDEATHSIG, Kind::Out(Type::I32)),
    (libc::PR_GET_DUMPABLE, Kind::Unused),
    (libc::PR_SET_DUMPABLE, Kind::Long),
    (libc::PR_GET_KEEPCAPS, Kind::Unused),
    (libc::PR_SET_KEEPCAPS, Kind::Long),
    (libc::PR_GET_TIMING, Kind::Unused),
    (libc::PR_SET_NAME, Kind::Text),
    (libc::PR_GET_NAME, NAME),
    (libc::PR_CAPBSET_READ, Kind::Long),
    (libc::PR_CAPBSET_DROP, Kind::Long),
    (libc::PR_GET_SECUREBITS, Kind::Unused),
    (libc::PR_SET_SECUREBITS, Kind::Long),
    (libc::PR_GET_TIMERSLACK, Kind::Unused),
    (libc::PR_SET_TIMERSLACK, Kind::Long),
    (libc::PR_SET_CHILD_SUBREAPER, Kind::Long),
    (libc::PR_GET_CHILD_SUBREAPER, Kind::Out(Type::I32)),
    (libc::PR_SET_NO_NEW_PRIVS, Kind::Long),
    (libc::PR_GET_NO_NEW_PRIVS, Kind::Long),
    (libc::PR_SET_THP_DISABLE, Kind::Long),
    (libc::PR_GET_THP_DISABLE, Kind::Long),
    (libc::PR_CAP_AMBIENT, Kind::Long),
    (PR_GET_SPECULATION_CTRL, Kind::Long),
    (PR_SET_SPECULATION_CTRL, Kind::Long),
    (libc::PR_MCE_KILL_GET, Kind::Long),
];

/// `prctl`. What would weaken or confuse the monitor is an option that this kernel does not have: seccomp, system call
/// dispatch, the layout of the process (`PR_SET_MM`), tracing, perf events, time-stamp faults, names of mappings.
pub(super) fn prctl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    mut arguments: [u64; 6],
) -> SyscallResult {
    let option = arguments[0] as i32;
    match option {
        libc::PR_GET_SECCOMP => return Ok(0),
        PR_GET_MDWE => return if arguments[1..5] == [0; 4] { Ok(0) } else { Err(Errno::EINVAL) },
        PR_GET_AUXV => return auxiliary_vector(thread, arguments),
        _ => {}
    }
    let &(_, second) = OPTIONS.iter().find(|&&(known, _)| known == option).ok_or(Errno::EINVAL)?;
    arguments[5] = NAME_LENGTH;
    let kinds = [Kind::Flags(Names::Prctl), second, Kind::Long, Kind::Long, Kind::Long, Kind::Size];
    forward_as(thread, Call::prctl, arguments, &kinds)
}

/// `PR_GET_AUXV`: the guest's own vector; as much of it as there is room for, and its whole length.
fn auxiliary_vector<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    [_, buffer, length, fourth, fifth, _]: [u64; 6],
) -> SyscallResult {
    if fourth != 0 || fifth != 0 {
        return Err(Errno::EINVAL);
    }
    let vector = thread.process.image().auxiliary_vector.clone();
    let shown = vector.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    thread.user().write_bytes(GuestAddr(buffer), &vector[..shown])?;
    Ok(vector.len() as u64)
}

/// `personality`: asking, and what changes nothing about memory rights or layout.
pub(super) fn personality<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    const QUERY: u32 = 0xffff_ffff;
    const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;
    const WHOLE_SECONDS: u32 = 0x200_0000;
    const STICKY_TIMEOUTS: u32 = 0x400_0000;
    let persona = arguments[0] as u32;
    let is_harmless = persona & !(ADDR_NO_RANDOMIZE | WHOLE_SECONDS | STICKY_TIMEOUTS) == 0;
    if persona == QUERY || is_harmless {
        forward(thread, Call::personality, arguments)
    } else {
        Err(Errno::EINVAL)
    }
}

/// `unshare`: a process may part with what its threads share; namespaces are not handed out.
pub(super) fn unshare<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let allowed = (libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SYSVSEM) as u64;
    if arguments[0] & !allowed != 0 {
        return Err(Errno::EPERM);
    }
    forward(thread, Call::unshare, arguments)
}

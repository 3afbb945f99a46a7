//! System V IPC: what the last argument is depends on the command (ipc/{shm,sem,msg}.c).

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::forward::forward_as;
use super::table::{Call, Kind};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

// include/uapi/linux/{ipc,shm,sem,msg}.h
const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

const SHMID_DS: u64 = 112;
const SHMINFO: u64 = 72;
const SHM_INFO_SIZE: u64 = 48;
const MSQID_DS: u64 = 120;
const MSGINFO: u64 = 32;
const SEMID_DS: u64 = 104;
const SEMINFO: u64 = 40;
/// Offset of `sem_nsems` in `struct semid64_ds`, in bytes.
const SEM_NSEMS: usize = if cfg!(target_arch = "x86_64") { 80 } else { 64 };

/// `shmat`.
pub(super) fn shmat<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [id, start, flags, ..]: [u64; 6],
) -> SyscallResult {
    let flags = flags as i32;
    let process = thread.process;
    let mut memory = process.memory();
    memory.attach(&process.backend, id as i32, GuestAddr(start), flags).map(|range| range.start().0)
}

/// `shmdt`.
pub(super) fn shmdt<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [start, ..]: [u64; 6],
) -> SyscallResult {
    let process = thread.process;
    let mut memory = process.memory();
    memory.detach(&process.backend, GuestAddr(start)).map(|()| 0)
}

/// `shmctl`.
pub(super) fn shmctl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [id, command, buffer, ..]: [u64; 6],
) -> SyscallResult {
    let (kind, length) = match command as i32 {
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => (Kind::OutBytes(3), SHMID_DS),
        IPC_SET => (Kind::InBytes(3), SHMID_DS),
        IPC_INFO => (Kind::OutBytes(3), SHMINFO),
        SHM_INFO => (Kind::OutBytes(3), SHM_INFO_SIZE),
        IPC_RMID | SHM_LOCK | SHM_UNLOCK => (Kind::Unused, 0),
        _ => return Err(Errno::EINVAL),
    };
    forward_as(
        thread,
        Call::shmctl,
        [id, command, buffer, length, 0, 0],
        &[Kind::Int, Kind::Int, kind, Kind::Size],
    )
}

/// `msgctl`.
pub(super) fn msgctl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [id, command, buffer, ..]: [u64; 6],
) -> SyscallResult {
    let (kind, length) = match command as i32 {
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => (Kind::OutBytes(3), MSQID_DS),
        IPC_SET => (Kind::InBytes(3), MSQID_DS),
        IPC_INFO | MSG_INFO => (Kind::OutBytes(3), MSGINFO),
        IPC_RMID => (Kind::Unused, 0),
        _ => return Err(Errno::EINVAL),
    };
    forward_as(
        thread,
        Call::msgctl,
        [id, command, buffer, length, 0, 0],
        &[Kind::Int, Kind::Int, kind, Kind::Size],
    )
}

/// `semctl`.
pub(super) fn semctl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [id, index, command, argument, ..]: [u64; 6],
) -> SyscallResult {
    let (kind, length) = match command as i32 {
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => (Kind::OutBytes(4), SEMID_DS),
        IPC_SET => (Kind::InBytes(4), SEMID_DS),
        IPC_INFO | SEM_INFO => (Kind::OutBytes(4), SEMINFO),
        GETALL => (Kind::OutBytes(4), 2 * semaphore_count(id)?),
        SETALL => (Kind::InBytes(4), 2 * semaphore_count(id)?),
        SETVAL => (Kind::Long, 0),
        IPC_RMID | GETPID | GETVAL | GETNCNT | GETZCNT => (Kind::Unused, 0),
        _ => return Err(Errno::EINVAL),
    };
    let kinds = [Kind::Int, Kind::Int, Kind::Int, kind, Kind::Size];
    forward_as(thread, Call::semctl, [id, index, command, argument, length, 0], &kinds)
}

fn semaphore_count(id: u64) -> Result<u64, Errno> {
    let mut status = [0_u64; SEMID_DS as usize / 8];
    let number = Call::semctl.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the kernel writes a `struct semid64_ds`, which `status` has room for.
    unsafe { enter(number, [id, 0, IPC_STAT as u64, status.as_mut_ptr() as u64, 0, 0]) }?;
    Ok(status[SEM_NSEMS / 8])
}

/// `msgsnd`: a message is a word for its type and then its text.
pub(super) fn msgsnd<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    message(thread, Call::msgsnd, arguments, Kind::InBytes(5))
}

/// `msgrcv`.
pub(super) fn msgrcv<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    message(thread, Call::msgrcv, arguments, Kind::OutBytes(5))
}

fn message<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    call: Call,
    [id, message, size, fourth, fifth, _]: [u64; 6],
    kind: Kind,
) -> SyscallResult {
    let length = size.checked_add(8).filter(|&length| i64::try_from(length).is_ok()).ok_or(Errno::EINVAL)?;
    let kinds = [Kind::Int, kind, Kind::Size, Kind::Long, Kind::Long, Kind::Size];
    forward_as(thread, call, [id, message, size, fourth, fifth, length], &kinds)
}

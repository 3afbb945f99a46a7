//! Resource limits, as far as the guest's differ from the host's: address space and data are the window's, and so is what
//! there is of memory.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::forward::{forward, forward_as};
use super::proc_files;
use super::table::{Call, Kind};
use crate::errno::{Errno, SyscallResult};
use crate::memory::Limit;
use crate::thread::Thread;

/// `struct rlimit64`: soft, hard.
type Rlimit = [u64; 2];

/// Whether the monitor keeps the limit itself.
fn is_emulated(resource: u64) -> bool {
    matches!(resource as u32, libc::RLIMIT_AS | libc::RLIMIT_DATA)
}

/// `getrlimit`.
pub(super) fn getrlimit<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [resource, old, ..]: [u64; 6],
) -> SyscallResult {
    if old == 0 {
        return Err(Errno::EFAULT);
    }
    prlimit64(thread, [0, resource, 0, old, 0, 0])
}

/// `setrlimit`.
pub(super) fn setrlimit<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [resource, new, ..]: [u64; 6],
) -> SyscallResult {
    if new == 0 {
        return Err(Errno::EFAULT);
    }
    prlimit64(thread, [0, resource, new, 0, 0, 0])
}

/// `prlimit64`. Limits of another process are the kernel's business, but those on the memory of one under Endo: its
/// monitor would have to live within them.
pub(super) fn prlimit64<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let [pid, resource, new, old, ..] = arguments;
    let is_own = pid as i32 == 0 || pid as u32 == std::process::id();
    if !is_own && is_emulated(resource) && new != 0 && proc_files::has_monitor(pid as u32) {
        return Err(Errno::EPERM);
    }
    if !is_own || !is_emulated(resource) {
        return forward(thread, Call::prlimit64, arguments);
    }
    let user = thread.user();
    let new: Option<Rlimit> = user.read_optional(GuestAddr(new))?;
    let before = {
        let mut memory = thread.process.memory();
        let limits = memory.limits_mut();
        let limit = match resource as u32 {
            libc::RLIMIT_AS => &mut limits.address_space,
            _ => &mut limits.data,
        };
        let before = *limit;
        if let Some([soft, hard]) = new {
            *limit = lowered(before, Limit { soft, hard })?;
        }
        before
    };
    if old != 0 {
        user.write::<Rlimit>(GuestAddr(old), &[before.soft, before.hard])?;
    }
    Ok(0)
}

/// The new limit, if it may be set (kernel/sys.c, `do_prlimit`): nobody raises a hard limit here, as the window cannot grow.
/// Asking for more than there is, as "unlimited" does, leaves what there is.
fn lowered(before: Limit, new: Limit) -> Result<Limit, Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    if new.hard > before.hard && new.hard != Limit::INFINITY {
        return Err(Errno::EPERM);
    }
    Ok(Limit { soft: new.soft.min(before.hard), hard: new.hard.min(before.hard) })
}

/// `sysinfo`: of the machine's memory, as much as half of what the guest may map. By it programs size their heaps: the
/// Java VM takes a quarter, somewhere in the upper half of the window, where it then needs a gigabyte in one piece.
pub(super) fn sysinfo<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let result = forward(thread, Call::sysinfo, arguments)?;
    let most = {
        let memory = thread.process.memory.lock().expect("no thread panics while it changes the memory map");
        memory.limits().address_space.soft / 2
    };
    let at = GuestAddr(arguments[0]);
    let user = thread.user();
    let mut info: libc::sysinfo = user.read(at)?;
    info.totalram = info.totalram.min(most / u64::from(info.mem_unit.max(1)));
    info.freeram = info.freeram.min(info.totalram);
    user.write(at, &info)?;
    Ok(result)
}

/// `sched_setattr`: the structure starts with its own size (kernel/sched/syscalls.c, `sched_copy_attr`).
pub(super) fn sched_setattr<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [pid, attributes, flags, ..]: [u64; 6],
) -> SyscallResult {
    const FIRST_SIZE: u64 = 48;
    const MAX_SIZE: u64 = 4096;
    if attributes == 0 {
        return Err(Errno::EINVAL);
    }
    let size: u32 = thread.user().read(GuestAddr(attributes))?;
    let size = match u64::from(size) {
        0 => FIRST_SIZE,
        size if size > MAX_SIZE => return Err(Errno::E2BIG),
        size => size,
    };
    // The kernel writes the size that it knows when it refuses one.
    let kinds = [Kind::Pid, Kind::OutBytes(3), Kind::Hex, Kind::Size];
    forward_as(thread, Call::sched_setattr, [pid, attributes, flags, size, 0, 0], &kinds)
}

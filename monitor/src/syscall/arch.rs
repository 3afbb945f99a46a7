//! Calls that exist on one architecture.
#![deny(unsafe_code)]

use endo_core::{IsolationBackend, SyscallMonitor};

use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

/// `arch_prctl`: the segment bases (arch/x86/kernel/process_64.c, `do_arch_prctl_64`). Other options do not exist: what
/// they control (CPUID faulting, tagged addresses, shadow stacks, further vector state) the guest is not offered.
#[cfg(target_arch = "x86_64")]
pub(super) fn arch_prctl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [option, value, ..]: [u64; 6],
) -> SyscallResult {
    use endo_core::GuestAddr;

    use crate::memory::place::ADDRESS_END;

    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    const ARCH_GET_CPUID: u64 = 0x1011;

    match option {
        ARCH_SET_FS | ARCH_SET_GS if value >= ADDRESS_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            thread.registers_mut().fs_base = value;
            Ok(0)
        }
        ARCH_SET_GS => {
            thread.registers_mut().gs_base = value;
            Ok(0)
        }
        ARCH_GET_FS => thread.user().write(GuestAddr(value), &thread.registers().fs_base).map(|()| 0),
        ARCH_GET_GS => thread.user().write(GuestAddr(value), &thread.registers().gs_base).map(|()| 0),
        // The guest may use the instruction.
        ARCH_GET_CPUID => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

/// There is no such call here.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn arch_prctl<B: IsolationBackend, M: SyscallMonitor>(
    _thread: &mut Thread<'_, B, M>,
    _arguments: [u64; 6],
) -> SyscallResult {
    Err(Errno::ENOSYS)
}

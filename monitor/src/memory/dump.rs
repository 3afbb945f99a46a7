//! What a core file holds when the guest's process dies of a signal: the guest's memory.

use endo_core::{GuestRange, PAGE_SIZE};

use super::place::ADDRESS_END;

/// Leaves what is mapped now above the guest's window, which is everything of the monitor's, out of core files, so that no
/// guest reads in one what the monitor knows. The kernel writes the file, often before any code of ours could run.
///
/// What the heap grows by later is in the file: books on a process that is dead, and none of the monitor's secrets, which
/// are there before a guest runs. A backend whose guests may lie anywhere has nothing above its window.
pub(crate) fn leave_monitor_out(window: GuestRange) {
    leave_out(window, window.end().0, ADDRESS_END);
}

/// Leaves the calling thread's stack out of core files. It has `bytes` bytes at most.
pub(crate) fn leave_own_stack_out(window: GuestRange, bytes: u64) {
    let here = &raw const bytes as u64 & !(PAGE_SIZE - 1);
    leave_out(window, here - bytes, here + PAGE_SIZE);
}

fn leave_out(window: GuestRange, start: u64, end: u64) {
    let start = start.max(window.end().0);
    if start < end {
        // SAFETY: the advice changes no byte and no right of any page. ENOMEM says that there are holes, as there are.
        unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTDUMP) };
    }
}

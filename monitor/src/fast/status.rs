//! `fstat` as the C library asks for it, between two guest instructions: `newfstatat` with an empty path.
//!
//! What makes the call one for the monitor is the path, which the kernel would read once more. So the kernel is asked
//! without one: by `fstat`. No lock, and no vector register.

use endo_core::{FastEntry, HostAddr, copy};

use super::is_inside;
use super::state;
use crate::syscall::raw;

/// The fast path.
///
/// # Safety
///
/// The guest's addresses are the host's, and a handler that calls [`copy::recover`] is installed.
// SAFETY: no other symbol has this name.
#[unsafe(export_name = "endo_fast_newfstatat")]
unsafe extern "C" fn newfstatat(file: u64, path: u64, status: u64, flags: u64, _: u64, _: u64) -> u64 {
    let is_plain = flags as u32 == libc::AT_EMPTY_PATH as u32 && state::is_guests(file as u32);
    if !is_plain || !is_inside(path, 8) || !is_inside(status, size_of::<libc::stat>() as u64) {
        return FastEntry::FALL_BACK;
    }
    // SAFETY: the address lies in the guest's window, which ends below 4 GiB, and the caller vouches for the rest.
    let start = unsafe { copy::load_word(HostAddr(path as usize)) };
    if start.is_none_or(|word| word.to_le_bytes()[0] != 0) {
        return FastEntry::FALL_BACK;
    }
    // SAFETY: what the kernel writes lies in the guest's window.
    let result = unsafe { raw::syscall2(libc::SYS_fstat as u32, u64::from(file as u32), status) };
    // There may be nothing, or code that has been translated: the monitor knows.
    if result == -i64::from(libc::EFAULT) { FastEntry::FALL_BACK } else { result as u64 }
}

#[cfg(test)]
mod tests {
    use super::super::WINDOW_END;
    use super::*;

    fn call(file: u64, path: u64, status: u64, flags: i32) -> u64 {
        // SAFETY: all addresses are refused, or followed by nobody.
        unsafe { newfstatat(file, path, status, flags as u64, 0, 0) }
    }

    #[test]
    fn memory_above_the_window_is_not_written() {
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        let own = (&raw mut status) as u64;
        assert!(own > WINDOW_END, "tests are linked as programs usually are");
        for address in [own, WINDOW_END, WINDOW_END - 8, u64::MAX] {
            assert_eq!(call(0, 0x1_0000, address, libc::AT_EMPTY_PATH), FastEntry::FALL_BACK);
            assert_eq!(call(0, address, 0x1_0000, libc::AT_EMPTY_PATH), FastEntry::FALL_BACK);
        }
        assert_eq!(status.st_ino, 0);
    }

    #[test]
    fn other_forms_are_the_monitors_business() {
        for (file, flags) in [(0, 0), (0, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)] {
            assert_eq!(call(file, 0x1_0000, 0x2_0000, flags), FastEntry::FALL_BACK);
        }
        for file in [libc::AT_FDCWD as u64, i32::MAX as u64 + 1] {
            assert_eq!(call(file, 0x1_0000, 0x2_0000, libc::AT_EMPTY_PATH), FastEntry::FALL_BACK);
        }
    }
}

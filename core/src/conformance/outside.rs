//! Memory of the host that no guest may reach: a page with a secret, and a page of code.
//!
//! Both lie at fixed addresses high above every window, chosen so that their lower 32 bits name nothing that is mapped
//! in a guest: a backend that confines by truncating addresses then shows a fault.

use std::io;
use std::ptr;

use super::Finding;
use crate::PAGE_SIZE;

/// The page of data.
pub(super) const CANARY: u64 = 0x6000_5a5a_0000;
/// The page of code, directly behind a gap.
pub(super) const FOREIGN_CODE: u64 = 0x6000_5a5b_0000;

/// What every word of the canary page holds.
const SECRET: u64 = 0x5ec3_e75e_c3e7_5ec3;
const WORDS: usize = PAGE_SIZE as usize / 8;

/// The two pages, mapped until the child ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside {
    canary: *mut [u64; WORDS],
    code: *mut [u8; PAGE_SIZE as usize],
}

impl Outside {
    /// Maps both pages, readable and writable, the second with `code` in it and executable.
    pub(super) fn new(code: &[u8]) -> io::Result<Self> {
        let outside = Outside {
            canary: map(CANARY, libc::PROT_READ | libc::PROT_WRITE)?.cast(),
            code: map(FOREIGN_CODE, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?.cast(),
        };
        outside.restore(code);
        Ok(outside)
    }

    /// Puts everything back as it was made.
    pub(super) fn restore(self, code: &[u8]) {
        // SAFETY: mapped since `new`, aligned, and not borrowed.
        unsafe { self.canary.write_volatile([SECRET; WORDS]) };
        let mut page = [0; PAGE_SIZE as usize];
        page[..code.len()].copy_from_slice(code);
        // SAFETY: as above.
        unsafe { self.code.write_volatile(page) };
    }

    /// Whether everything is as it was made; `code` is what `new` was given.
    pub(super) fn check(self, code: &[u8]) -> Finding {
        // SAFETY: mapped since `new`; volatile, because a guest may have changed it behind the compiler's back.
        let canary = unsafe { self.canary.read_volatile() };
        if let Some(at) = canary.iter().position(|&word| word != SECRET) {
            return Err(format!("word {at} of the canary page became {:#x}", canary[at]));
        }
        // SAFETY: as above.
        let page = unsafe { self.code.read_volatile() };
        if !page.starts_with(code) || page[code.len()..].iter().any(|&byte| byte != 0) {
            return Err("the host's code page changed".to_owned());
        }
        Ok(())
    }
}

fn map(address: u64, rights: libc::c_int) -> io::Result<*mut libc::c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let wanted = ptr::without_provenance_mut(address as usize);
    // SAFETY: nothing is replaced.
    let mapped = unsafe { libc::mmap(wanted, PAGE_SIZE as usize, rights, flags, -1, 0) };
    if mapped == wanted { Ok(mapped) } else { Err(io::Error::last_os_error()) }
}

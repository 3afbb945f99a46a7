//! What the kernel's signal for a fault says about it, on x86-64.
//!
//! Follows arch/x86/kernel/traps.c and arch/x86/mm/fault.c of Linux: the trap number and the error code in the signal
//! frame are the processor's, `si_code` is the kernel's reading of them.

use crate::{Fault, FaultKind, GuestAddr};

/// Exception vectors (SDM volume 3, table 6-1) that `gregs[REG_TRAPNO]` holds.
mod vector {
    pub(super) const DEBUG: i64 = 1;
    pub(super) const BREAKPOINT: i64 = 3;
    pub(super) const PAGE_FAULT: i64 = 14;
    pub(super) const ALIGNMENT_CHECK: i64 = 17;
}

/// Bits of a page fault's error code (SDM volume 3, 4.7).
mod page_fault {
    pub(super) const WRITE: i64 = 1 << 1;
    pub(super) const FETCH: i64 = 1 << 4;
}

/// `si_code` of a SIGSEGV at an address where nothing is mapped.
const SEGV_MAPERR: i32 = 1;

/// The fault behind a synchronous SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP. The address is the one that the kernel
/// reports, a host address: where the window lies elsewhere, the caller turns it into the guest's.
/// Async-signal-safe.
pub fn fault_from_signal(info: &libc::siginfo_t, context: &libc::ucontext_t) -> Fault {
    let trap = context.uc_mcontext.gregs[libc::REG_TRAPNO as usize];
    let error = context.uc_mcontext.gregs[libc::REG_ERR as usize];
    let mapped = info.si_code != SEGV_MAPERR;
    let kind = match (info.si_signo, trap) {
        (libc::SIGSEGV, vector::PAGE_FAULT) if error & page_fault::FETCH != 0 => {
            FaultKind::Execute { mapped }
        }
        (libc::SIGSEGV, vector::PAGE_FAULT) if error & page_fault::WRITE != 0 => FaultKind::Write { mapped },
        (libc::SIGSEGV, vector::PAGE_FAULT) => FaultKind::Read { mapped },
        (libc::SIGBUS, vector::ALIGNMENT_CHECK) => FaultKind::Alignment,
        // A stack-segment fault (a non-canonical address based on rsp or rbp) comes here too, with SI_KERNEL.
        (libc::SIGBUS, _) => FaultKind::Bus { code: info.si_code },
        (libc::SIGFPE, _) => FaultKind::Arithmetic { code: info.si_code },
        (libc::SIGILL, _) => FaultKind::IllegalInstruction,
        (libc::SIGTRAP, vector::BREAKPOINT) => FaultKind::Breakpoint,
        (libc::SIGTRAP, vector::DEBUG) => FaultKind::Step,
        _ => FaultKind::Protection,
    };
    let address = match kind {
        // force_sig() leaves the union zero: the kernel names no address for these.
        FaultKind::Protection | FaultKind::Breakpoint | FaultKind::Alignment => 0,
        // SAFETY: the kernel filled in the `_sigfault` member: every kind left is a fault that it raised.
        _ => unsafe { info.si_addr() as u64 },
    };
    Fault { kind, address: GuestAddr(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(signal: i32, code: i32, address: u64, trap: i64, error: i64) -> Fault {
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
        // SAFETY: as above.
        let mut context: libc::ucontext_t = unsafe { core::mem::zeroed() };
        (info.si_signo, info.si_code) = (signal, code);
        // SAFETY: siginfo_t is 128 bytes of plain data, aligned to 8.
        let words: &mut [u64; 16] = unsafe { &mut *(&raw mut info).cast() };
        // Where `si_addr` lies (asm-generic/siginfo.h).
        words[2] = address;
        context.uc_mcontext.gregs[libc::REG_TRAPNO as usize] = trap;
        context.uc_mcontext.gregs[libc::REG_ERR as usize] = error;
        fault_from_signal(&info, &context)
    }

    #[test]
    fn the_error_code_tells_loads_stores_and_fetches_apart() {
        let at = GuestAddr(0x1234);
        let fault = |kind| Fault { kind, address: at };
        assert_eq!(read(libc::SIGSEGV, 1, 0x1234, 14, 4), fault(FaultKind::Read { mapped: false }));
        assert_eq!(read(libc::SIGSEGV, 2, 0x1234, 14, 7), fault(FaultKind::Write { mapped: true }));
        assert_eq!(read(libc::SIGSEGV, 2, 0x1234, 14, 0x15), fault(FaultKind::Execute { mapped: true }));
    }

    #[test]
    fn a_general_protection_fault_has_no_address() {
        let expected = Fault { kind: FaultKind::Protection, address: GuestAddr(0) };
        assert_eq!(read(libc::SIGSEGV, 128, 0xdead, 13, 0), expected);
    }

    #[test]
    fn a_stack_segment_fault_is_a_bus_error_from_the_kernel() {
        let expected = Fault { kind: FaultKind::Bus { code: 128 }, address: GuestAddr(0) };
        assert_eq!(read(libc::SIGBUS, 128, 0, 12, 0), expected);
    }

    #[test]
    fn traps_are_told_apart_by_vector() {
        assert_eq!(read(libc::SIGTRAP, 128, 0, 3, 0).kind, FaultKind::Breakpoint);
        assert_eq!(read(libc::SIGTRAP, 2, 0x40, 1, 0).kind, FaultKind::Step);
    }
}

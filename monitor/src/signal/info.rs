//! `siginfo_t`: why a signal was sent (include/uapi/asm-generic/siginfo.h).
#![deny(unsafe_code)]

use endo_core::{Fault, FaultKind, GuestAddr};

use super::set::Signal;

/// What a signal says about itself, as the kernel lays it out: number, errno, code, padding, then 112 bytes that depend
/// on the code.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SigInfo {
    bytes: [u8; Self::SIZE],
}

impl SigInfo {
    /// Bytes of a `siginfo_t`.
    pub const SIZE: usize = 128;

    const CODE: usize = 8;
    const ADDRESS: usize = 16;

    /// What the kernel or a guest laid out.
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        SigInfo { bytes }
    }

    /// The kernel's layout.
    pub const fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.bytes
    }

    /// A signal with this code about this address.
    pub fn about_address(signal: Signal, code: i32, address: GuestAddr) -> Self {
        let mut info = SigInfo { bytes: [0; Self::SIZE] };
        info.set_i32(0, signal.number());
        info.set_i32(Self::CODE, code);
        info.bytes[Self::ADDRESS..Self::ADDRESS + 8].copy_from_slice(&address.0.to_le_bytes());
        info
    }

    /// What the kernel sends when it forces a signal on a thread without more to say (`force_sig`).
    pub fn forced(signal: Signal) -> Self {
        SigInfo::about_address(signal, SI_KERNEL, GuestAddr(0))
    }

    /// What somebody sends who says nothing (`SI_USER`).
    #[cfg(test)]
    pub(crate) fn sent(signal: Signal) -> Self {
        SigInfo::about_address(signal, 0, GuestAddr(0))
    }

    /// What the kernel raises for this fault at `pc` (arch/x86/kernel/traps.c, arch/x86/mm/fault.c).
    pub fn of_fault(fault: &Fault, pc: GuestAddr) -> Self {
        let segv = |mapped| if mapped { SEGV_ACCERR } else { SEGV_MAPERR };
        let (signal, code, address) = match fault.kind {
            FaultKind::Read { mapped } | FaultKind::Write { mapped } | FaultKind::Execute { mapped } => {
                (Signal::SEGV, segv(mapped), fault.address)
            }
            FaultKind::Protection => (Signal::SEGV, SI_KERNEL, GuestAddr(0)),
            FaultKind::Bus { code } => (Signal::BUS, code, fault.address),
            FaultKind::Alignment => (Signal::BUS, BUS_ADRALN, GuestAddr(0)),
            FaultKind::Arithmetic { code } => (Signal::FPE, code, pc),
            FaultKind::IllegalInstruction => (Signal::ILL, ILL_ILLOPN, pc),
            FaultKind::Breakpoint => (Signal::TRAP, SI_KERNEL, GuestAddr(0)),
            FaultKind::Step => (Signal::TRAP, TRAP_TRACE, pc),
        };
        SigInfo::about_address(signal, code, address)
    }

    /// The signal's number, if it is one.
    pub fn signal(&self) -> Option<Signal> {
        Signal::new(self.i32_at(0))
    }

    /// The same with another number, as the kernel overwrites what `rt_sigqueueinfo` is given.
    #[must_use]
    pub fn with_signal(mut self, signal: Signal) -> Self {
        self.set_i32(0, signal.number());
        self
    }

    /// `si_code`: positive for what the kernel found out, zero or negative for what somebody sent.
    pub fn code(&self) -> i32 {
        self.i32_at(Self::CODE)
    }

    /// The 32-bit number at this offset.
    pub(crate) fn i32_at(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn set_i32(&mut self, at: usize, value: i32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

impl core::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigInfo({:?}, code {})", self.signal(), self.code())
    }
}

const SI_KERNEL: i32 = 0x80;
/// `si_code` of `tgkill`.
pub(super) const SI_TKILL: i32 = -6;
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRALN: i32 = 1;
const ILL_ILLOPN: i32 = 2;
const TRAP_TRACE: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_to_a_read_only_page_says_accerr_and_the_address() {
        let fault = Fault { kind: FaultKind::Write { mapped: true }, address: GuestAddr(0x1234) };
        let info = SigInfo::of_fault(&fault, GuestAddr(0x40_0000));
        assert_eq!((info.signal(), info.code()), (Some(Signal::SEGV), SEGV_ACCERR));
        assert_eq!(info.as_bytes()[16..24], 0x1234_u64.to_le_bytes());
    }

    #[test]
    fn a_division_by_zero_names_the_instruction() {
        let fault = Fault { kind: FaultKind::Arithmetic { code: 1 }, address: GuestAddr(0) };
        let info = SigInfo::of_fault(&fault, GuestAddr(0x40_0000));
        assert_eq!((info.signal(), info.code()), (Some(Signal::FPE), 1));
        assert_eq!(info.as_bytes()[16..24], 0x40_0000_u64.to_le_bytes());
    }
}

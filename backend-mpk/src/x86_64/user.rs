//! Guest memory as the monitor's side of this backend reads and writes it: recoverably, and inside the window only.

use endo_core::{Fault, FaultKind, GuestAddr, GuestRange, HostAddr, copy};

/// Access to the memory of the guest whose window it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) window: GuestRange,
}

impl User {
    /// Reads as many bytes as are there.
    pub(super) fn load_some(self, address: u64, into: &mut [u8]) -> usize {
        let end = self.window.end().0;
        if address < self.window.start().0 || address >= end {
            return 0;
        }
        let length = into.len().min((end - address) as usize);
        let here = HostAddr(into.as_mut_ptr() as usize);
        // SAFETY: the target is ours, the source lies in the window, and the handler calls `recover`.
        length - unsafe { copy::copy(here, HostAddr(address as usize), length) }
    }

    /// Reads bytes, or says at which one it could not.
    pub(super) fn load(self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        let loaded = self.load_some(address, into);
        if loaded == into.len() {
            return Ok(());
        }
        let at = GuestAddr(address.wrapping_add(loaded as u64));
        Err(Fault { kind: FaultKind::Read { mapped: false }, address: at })
    }

    /// Reads a word.
    pub(super) fn load_word(self, address: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.load(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a word.
    pub(super) fn store_word(self, address: u64, word: u64) -> Result<(), Fault> {
        let bytes = word.to_le_bytes();
        let fault = Fault { kind: FaultKind::Write { mapped: false }, address: GuestAddr(address) };
        let range = GuestRange::new(GuestAddr(address), 8).filter(|range| self.window.encloses(*range));
        if range.is_none() {
            return Err(fault);
        }
        let here = HostAddr(bytes.as_ptr() as usize);
        // SAFETY: the source is ours, the target lies in the window, and the handler calls `recover`.
        match unsafe { copy::copy(HostAddr(address as usize), here, 8) } {
            0 => Ok(()),
            _ => Err(fault),
        }
    }
}

//! Which key is whose, and the rights that follow.
//!
//! | key | pages | the monitor | guests |
//! | --- | --- | --- | --- |
//! | 0 | the monitor's: all that was not given another key, stacks and new mappings included | reads, writes | nothing |
//! | [`PORT`] | [ports](super::port) | reads, writes | read |
//! | [`MAIN`] | those that were assigned to the main domain | reads, writes | reads, writes |
//! | others | none | nothing | nothing |
//!
//! The monitor's key is the default one: memory that nobody thought of is the monitor's, a mapping is the guest's only once it
//! has been assigned, and a signal handler, which the kernel starts with the default key alone, reaches its stack.

use std::io;

use endo_core::HostAddr;

use crate::pkru::{Denied, Key, Pkru};

/// The key of ports.
pub(super) const PORT: Key = Key::new(1).expect("there are sixteen");
/// The key of the main domain.
pub(super) const MAIN: Key = Key::new(2).expect("there are sixteen");

/// No access to anything.
const NOTHING: Pkru = Pkru::from_bits(u32::MAX);
/// The rights of the guest.
pub(super) const GUEST: Pkru = NOTHING.with(PORT, Denied::WRITE).with(MAIN, Denied::empty());
/// The rights of the monitor while it works for the guest.
pub(super) const MONITOR: Pkru =
    NOTHING.with(Key::DEFAULT, Denied::empty()).with(PORT, Denied::empty()).with(MAIN, Denied::empty());

/// Takes both keys from the kernel, which gives out the lowest one that is free.
pub(super) fn take() -> io::Result<()> {
    for wanted in [PORT, MAIN] {
        let found = allocate()?;
        if found != wanted.number() {
            give_back(found);
            return Err(io::Error::other(format!("key {} is in use", wanted.number())));
        }
    }
    Ok(())
}

/// Whether there are two keys to have, and if not, why. Changes nothing for good.
pub(super) fn missing() -> Option<String> {
    let (first, second) = (allocate(), allocate());
    let found = first.as_ref().ok().zip(second.as_ref().ok()).map(|(first, second)| (*first, *second));
    for key in [&first, &second].into_iter().flatten() {
        give_back(*key);
    }
    match (found, first.err().or(second.err())) {
        (_, Some(error)) => Some(format!("the kernel gives out no two keys (pkey_alloc: {error})")),
        (Some((1, 2)), None) => None,
        (found, None) => Some(format!("the kernel gives out keys {found:?} instead of 1 and 2")),
    }
}

/// Sets protection and key of pages.
pub(super) fn protect(start: HostAddr, length: usize, rights: libc::c_int, key: Key) -> io::Result<()> {
    // SAFETY: the callers name pages of the guest or their own, where no Rust object lives that this would take away.
    let status = unsafe {
        libc::syscall(libc::SYS_pkey_mprotect, start.0, length, rights as usize, key.number() as usize)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A key that nobody uses, without rights to it for the calling thread.
fn allocate() -> io::Result<u8> {
    // Both arguments are words for the kernel: an `int` would leave the upper halves to chance.
    // SAFETY: a new key changes no page.
    let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0_u64, u64::from(Denied::ACCESS.bits())) };
    u8::try_from(key).map_err(|_| io::Error::last_os_error())
}

fn give_back(key: u8) {
    // SAFETY: no page has this key: it was just allocated.
    unsafe { libc::syscall(libc::SYS_pkey_free, u64::from(key)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_reads_ports_and_has_its_own_domain_alone() {
        assert_eq!(GUEST.denied(Key::DEFAULT), Denied::all());
        assert_eq!(GUEST.denied(PORT), Denied::WRITE);
        assert_eq!(GUEST.denied(MAIN), Denied::empty());
        for number in 3..Key::COUNT {
            assert_eq!(GUEST.denied(Key::new(number).unwrap()), Denied::all());
        }
    }

    #[test]
    fn the_monitor_has_what_the_guest_has_and_its_own() {
        for number in 0..3 {
            assert_eq!(MONITOR.denied(Key::new(number).unwrap()), Denied::empty());
        }
        for number in 3..Key::COUNT {
            assert_eq!(MONITOR.denied(Key::new(number).unwrap()), Denied::all());
        }
    }
}

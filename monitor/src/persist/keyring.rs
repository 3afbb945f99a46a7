//! The secret, which the kernel keeps for all processes of a user until the machine stops (keyrings(7)).
//!
//! The system call table denies `add_key`, `request_key` and `keyctl` to guests.

use crate::errno::Errno;

const TYPE: &core::ffi::CStr = c"user";
const DESCRIPTION: &core::ffi::CStr = c"endo:translations:1";
const LENGTH: usize = 32;

/// include/uapi/linux/keyctl.h
const USER_KEYRING: libc::c_int = -4;
const SET_PERMISSIONS: libc::c_int = 5;
const SEARCH: libc::c_int = 10;
const READ: libc::c_int = 11;
/// All to who possesses the key; to the same user to view, read and search for it (include/linux/key.h).
const PERMISSIONS: u32 = 0x3f0b_0000;

/// The user's secret; a new one if there is none.
pub(super) fn secret() -> Result<[u8; LENGTH], Errno> {
    match search().and_then(read) {
        Ok(secret) => Ok(secret),
        Err(Errno::ENOKEY | Errno::EKEYEXPIRED | Errno::EKEYREVOKED | Errno::EINVAL) => {
            add(&random())?;
            // Another process may have done the same: what is there now is what counts.
            read(search()?)
        }
        Err(errno) => Err(errno),
    }
}

/// Random bytes. So few come at once, from the moment the machine has any.
pub(super) fn random() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), LENGTH, 0) };
    bytes
}

fn search() -> Result<i32, Errno> {
    // SAFETY: both strings end with a NUL and outlive the call, which writes nothing.
    let key = unsafe {
        libc::syscall(libc::SYS_keyctl, SEARCH, USER_KEYRING, TYPE.as_ptr(), DESCRIPTION.as_ptr(), 0)
    };
    i32::try_from(key).ok().filter(|&key| key > 0).ok_or_else(Errno::last)
}

fn read(key: i32) -> Result<[u8; LENGTH], Errno> {
    let mut secret = [0; LENGTH];
    // SAFETY: the kernel writes no more than the buffer's length.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, READ, key, secret.as_mut_ptr(), secret.len(), 0) };
    match usize::try_from(length) {
        Ok(LENGTH) => Ok(secret),
        // Something else under that name.
        Ok(_) => Err(Errno::EINVAL),
        Err(_) => Err(Errno::last()),
    }
}

fn add(secret: &[u8; LENGTH]) -> Result<(), Errno> {
    let (kind, description) = (TYPE.as_ptr(), DESCRIPTION.as_ptr());
    // SAFETY: both strings end with a NUL; the payload is valid for its length; the call writes nothing.
    let key = unsafe {
        libc::syscall(libc::SYS_add_key, kind, description, secret.as_ptr(), secret.len(), USER_KEYRING)
    };
    let key = i32::try_from(key).ok().filter(|&key| key > 0).ok_or_else(Errno::last)?;
    // SAFETY: the call takes no pointer.
    match unsafe { libc::syscall(libc::SYS_keyctl, SET_PERMISSIONS, key, PERMISSIONS, 0, 0) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_stays_the_same() {
        match secret() {
            Ok(first) => assert_eq!(secret(), Ok(first)),
            // Some containers deny the calls; then nothing is kept.
            Err(errno) => assert!(matches!(errno, Errno::EPERM | Errno::ENOSYS | Errno::EACCES), "{errno}"),
        }
    }
}

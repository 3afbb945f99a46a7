//! `readv`, `writev` and `sendmsg` with a few pieces, made between two guest instructions.
//!
//! The kernel reads the array of pieces when it makes the call, and another thread could change it after the look. So the kernel
//! gets a copy ([`endo_core::FastKind::Copy`]), and only if each piece lies where only the guest has memory. Pieces at odd
//! addresses, many of them, names and control data are the monitor's business. No lock, and no vector register.

use endo_core::{COPY_BYTES, HostAddr, copy};

use super::{WINDOW_END, is_inside, state};

/// As many pieces as are copied: programs have two or three.
const MOST_PIECES: u64 = 8;
/// An `iovec`: address and length.
const PIECE: u64 = 16;
/// A `msghdr` (include/uapi/linux/socket.h): name, its length, pieces, their number, control data, their length, flags.
const HEADER: u64 = 56;
const _: () = assert!((MOST_PIECES * PIECE + HEADER) as usize <= COPY_BYTES);
const _: () = assert!(size_of::<libc::iovec>() as u64 == PIECE && size_of::<libc::msghdr>() as u64 == HEADER);

/// What the kernel does with the bytes of the pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Reads,
    Writes,
}

/// The answers of a function that copies.
const MAKE_THE_CALL: u64 = 0;
const ASK_THE_MONITOR: u64 = 1;

/// # Safety
///
/// The guest's addresses are the host's, a handler that calls [`copy::recover`] is installed, and `copied` is memory of
/// [`COPY_BYTES`] bytes.
// SAFETY: no other symbol has this name.
#[unsafe(export_name = "endo_fast_readv")]
unsafe extern "C" fn readv(file: u64, pieces: u64, count: u64, _: u64, _: u64, copied: *mut u64) -> u64 {
    // SAFETY: the caller's promise.
    let is_copied =
        state::is_guests(file as u32) && unsafe { copy_pieces(pieces, count, Access::Writes, copied) };
    if is_copied { MAKE_THE_CALL } else { ASK_THE_MONITOR }
}

/// # Safety
///
/// As for [`readv`].
// SAFETY: no other symbol has this name.
#[unsafe(export_name = "endo_fast_writev")]
unsafe extern "C" fn writev(file: u64, pieces: u64, count: u64, _: u64, _: u64, copied: *mut u64) -> u64 {
    // SAFETY: the caller's promise.
    let is_copied =
        state::is_guests(file as u32) && unsafe { copy_pieces(pieces, count, Access::Reads, copied) };
    if is_copied { MAKE_THE_CALL } else { ASK_THE_MONITOR }
}

/// # Safety
///
/// As for [`readv`].
// SAFETY: no other symbol has this name.
#[unsafe(export_name = "endo_fast_sendmsg")]
unsafe extern "C" fn sendmsg(file: u64, header: u64, flags: u64, _: u64, _: u64, copied: *mut u64) -> u64 {
    // With this flag the kernel would read the data after the call.
    let is_plain = flags as u32 & libc::MSG_ZEROCOPY as u32 == 0;
    // SAFETY: the caller's promise.
    let is_copied = is_plain && state::is_guests(file as u32) && unsafe { copy_header(header, copied) };
    if is_copied { MAKE_THE_CALL } else { ASK_THE_MONITOR }
}

/// Copies the header of a message without name and control data, and its pieces behind it.
///
/// # Safety
///
/// As for [`readv`].
unsafe fn copy_header(header: u64, copied: *mut u64) -> bool {
    if !is_inside(header, HEADER) {
        return false;
    }
    // SAFETY: the address lies in the guest's window, and the caller vouches for the rest.
    let word = |index: u64| unsafe { copy::load_word(HostAddr((header + 8 * index) as usize)) };
    let (Some(0), Some(pieces), Some(count), Some(0), Some(0)) =
        (word(0), word(2), word(3), word(4), word(5))
    else {
        return false;
    };
    let behind = copied.wrapping_byte_add(HEADER as usize);
    for (index, value) in [(0, 0), (1, 0), (2, behind as u64), (3, count), (4, 0), (5, 0), (6, 0)] {
        // SAFETY: the header's words are the first of the caller's memory.
        unsafe { copied.wrapping_add(index).write_volatile(value) };
    }
    // SAFETY: the caller's promise: what is behind the header has room for as many pieces as are copied.
    unsafe { copy_pieces(pieces, count, Access::Reads, behind) }
}

/// Copies an array of pieces, if each lies where only the guest has memory.
///
/// # Safety
///
/// As for [`readv`], with room for [`MOST_PIECES`] at `copied`.
unsafe fn copy_pieces(pieces: u64, count: u64, access: Access, copied: *mut u64) -> bool {
    if !(1..=MOST_PIECES).contains(&count) || !is_inside(pieces, MOST_PIECES * PIECE) {
        return false;
    }
    for index in 0..count {
        let at = pieces + index * PIECE;
        // SAFETY: the address lies in the guest's window, and the caller vouches for the rest.
        let word = |offset: u64| unsafe { copy::load_word(HostAddr((at + offset) as usize)) };
        let (Some(start), Some(length)) = (word(0), word(8)) else { return false };
        if !(1..WINDOW_END).contains(&length) || start > WINDOW_END - length {
            return false;
        }
        if access == Access::Writes && state::may_be_watched(start, start + length - 1) {
            return false;
        }
        let to = copied.wrapping_add(2 * index as usize);
        // SAFETY: inside the caller's memory. Volatile: two words at once would be a vector.
        unsafe { to.write_volatile(start) };
        // SAFETY: likewise.
        unsafe { to.wrapping_add(1).write_volatile(length) };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces at an address below 4 GiB, as a guest has them.
    struct Pieces(*mut u64);

    impl Pieces {
        fn new(words: &[u64]) -> Self {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
            // SAFETY: a new mapping.
            let page = unsafe {
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
            };
            assert_ne!(page, libc::MAP_FAILED);
            // SAFETY: the page has room, and is ours.
            unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), page.cast(), words.len()) };
            Pieces(page.cast())
        }

        fn address(&self) -> u64 {
            self.0 as u64
        }
    }

    impl Drop for Pieces {
        fn drop(&mut self) {
            // SAFETY: the mapping that `new` made.
            unsafe { libc::munmap(self.0.cast(), 4096) };
        }
    }

    type Function = unsafe extern "C" fn(u64, u64, u64, u64, u64, *mut u64) -> u64;

    /// The answer, and the words that the kernel would get.
    fn call(function: Function, words: &[u64], third: u64) -> (u64, [u64; COPY_BYTES / 8]) {
        let pieces = Pieces::new(words);
        let mut copied = [0; COPY_BYTES / 8];
        // SAFETY: what it loads is mapped, and `copied` is as long as it has to be.
        let answer = unsafe { function(0, pieces.address(), third, 0, 0, copied.as_mut_ptr()) };
        (answer, copied)
    }

    #[test]
    fn pieces_in_the_window_are_copied() {
        let words = [0x1_0000, 1, 0x2_0000, 0x1000, WINDOW_END - 7, 7];
        for function in [readv as Function, writev as Function] {
            let (answer, copied) = call(function, &words, 3);
            assert_eq!(answer, MAKE_THE_CALL);
            assert_eq!((&copied[..6], &copied[6..]), (&words[..], &[0; 18][..]));
        }
    }

    #[test]
    fn a_header_leads_to_the_copied_pieces() {
        let pieces = Pieces::new(&[0x1_0000, 1, 0x2_0000, 0x1000]);
        // The length of no name and the flags mean nothing.
        let (answer, copied) = call(sendmsg, &[0, 77, pieces.address(), 2, 0, 0, u64::MAX], 0);
        assert_eq!(answer, MAKE_THE_CALL);
        assert_eq!([copied[0], copied[1], copied[3], copied[4], copied[5], copied[6]], [0, 0, 2, 0, 0, 0]);
        assert_eq!(copied[7..11], [0x1_0000, 1, 0x2_0000, 0x1000]);
    }

    #[test]
    fn everything_else_is_the_monitors_business() {
        let bad: [&[u64]; 8] = [
            &[WINDOW_END, 1],
            &[WINDOW_END - 7, 8],
            &[0x1_0000, 0],
            &[0x1_0000, WINDOW_END],
            &[0x1_0000, u64::MAX],
            &[u64::MAX, 1],
            &[u64::MAX - 7, 16],
            &[1 << 47, 8],
        ];
        for words in bad {
            for at in 0..3 {
                let mut all = [0x1_0000, 8].repeat(3);
                all[2 * at..2 * at + 2].copy_from_slice(words);
                assert_eq!(call(writev, &all, 3).0, ASK_THE_MONITOR, "{words:x?} at {at}");
                assert_eq!(call(readv, &all, 3).0, ASK_THE_MONITOR, "{words:x?} at {at}");
                let pieces = Pieces::new(&all);
                assert_eq!(call(sendmsg, &[0, 0, pieces.address(), 3, 0, 0, 0], 0).0, ASK_THE_MONITOR);
            }
        }
        for count in [0, MOST_PIECES + 1, 1 << 32 | 1, u64::MAX] {
            assert_eq!(call(writev, &[0x1_0000, 8].repeat(9), count).0, ASK_THE_MONITOR, "{count:x}");
        }
    }

    #[test]
    fn headers_with_more_than_pieces_are_the_monitors_business() {
        let pieces = Pieces::new(&[0x1_0000, 1]);
        let good = [0, 0, pieces.address(), 1, 0, 0, 0];
        assert_eq!(call(sendmsg, &good, 0).0, MAKE_THE_CALL);
        assert_eq!(call(sendmsg, &good, libc::MSG_ZEROCOPY as u64).0, ASK_THE_MONITOR);
        for index in [0, 4, 5] {
            let mut header = good;
            header[index] = 0x1_0000;
            assert_eq!(call(sendmsg, &header, 0).0, ASK_THE_MONITOR, "{index}");
        }
    }

    #[test]
    fn arrays_outside_the_window_and_descriptors_of_the_monitor_are_not_looked_at() {
        let own = [0x1_0000u64, 1];
        let mut copied = [0; COPY_BYTES / 8];
        for address in [own.as_ptr() as u64, WINDOW_END, WINDOW_END - 8, u64::MAX] {
            for function in [readv as Function, writev as Function, sendmsg as Function] {
                // SAFETY: nothing is loaded.
                let answer = unsafe { function(0, address, 1, 0, 0, copied.as_mut_ptr()) };
                assert_eq!(answer, ASK_THE_MONITOR, "{address:x}");
            }
        }
        let pieces = Pieces::new(&own);
        // SAFETY: what it loads is mapped.
        let answer = unsafe { writev(u64::MAX, pieces.address(), 1, 0, 0, copied.as_mut_ptr()) };
        assert_eq!((answer, copied), (ASK_THE_MONITOR, [0; COPY_BYTES / 8]));
    }

    #[test]
    fn pieces_near_watched_pages_are_not_written_by_the_kernel() {
        const WATCHED: u64 = 0x7654_3000;
        super::super::watched()
            .include(endo_core::GuestRange::new(endo_core::GuestAddr(WATCHED), 4096).expect("a page"));
        let words = [WATCHED - 8, 9];
        assert_eq!(call(readv, &words, 1).0, ASK_THE_MONITOR);
        assert_eq!(call(writev, &words, 1).0, MAKE_THE_CALL);
    }
}

//! Typed access to guest memory.
//!
//! A guest pointer is an allegation: [`UserMemory`] asks the backend where the range lies, if it does, and copies with
//! [`endo_core::copy`], which survives whatever the guest has mapped there. Nothing of the guest's is ever borrowed.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

use endo_core::{DomainId, GuestAddr, GuestRange, HostAddr, HostRange, IsolationBackend, PAGE_SIZE, copy};

use crate::errno::Errno;
use crate::thread::Thread;

/// Longest path that the kernel takes, with its final zero (include/uapi/linux/limits.h).
pub const PATH_MAX: usize = 4096;

/// Plain data of the kernel's interface: every bit pattern is a value.
///
/// # Safety
///
/// The type is `Copy`, holds no reference, and any bytes of its size make a valid value of it. If it has padding, it is only
/// ever written from values that were zeroed or read from bytes.
pub unsafe trait Pod: Copy + 'static {}

macro_rules! pod {
    ($($ty:ty)*) => {
        $(
            // SAFETY: integers, or C structures of integers and raw pointers: any bytes are a value.
            unsafe impl Pod for $ty {}
        )*
    };
}

pod! {
    u8 i8 u16 i16 u32 i32 u64 i64 u128 usize isize
    libc::iovec libc::timespec libc::timeval libc::itimerval libc::itimerspec libc::rlimit64 libc::rlimit libc::pollfd
    libc::msghdr libc::mmsghdr libc::epoll_event libc::sigaction libc::stack_t libc::siginfo_t libc::stat libc::utsname
    libc::sysinfo libc::timezone libc::termios libc::winsize libc::cmsghdr libc::flock libc::rusage libc::statfs
    libc::sched_param libc::tms libc::clone_args libc::sigevent libc::fd_set
}

// SAFETY: an array of plain data is plain data.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// A guest's buffer, as an iovec names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserSlice {
    /// First byte.
    pub start: GuestAddr,
    /// Bytes.
    pub length: u64,
}

/// The memory of one domain, reached by allegation.
#[derive(Debug)]
pub struct UserMemory<'a, B> {
    backend: &'a B,
    domain: DomainId,
}

impl<B> Clone for UserMemory<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for UserMemory<'_, B> {}

impl<'p, B: IsolationBackend, M> Thread<'p, B, M> {
    /// The guest memory that this thread's pointers mean.
    pub fn user(&self) -> UserMemory<'p, B> {
        UserMemory::new(&self.process.backend, DomainId::MAIN)
    }
}

impl<'a, B: IsolationBackend> UserMemory<'a, B> {
    /// The memory of `domain`.
    pub fn new(backend: &'a B, domain: DomainId) -> Self {
        UserMemory { backend, domain }
    }

    /// One past the last address that may be named.
    pub fn window_end(&self) -> u64 {
        self.backend.window(self.domain).map_or(0, |window| window.end().0)
    }

    /// Where the host finds `length` bytes at `start`: EFAULT unless all of them lie in the window. Nothing need be
    /// mapped there. An empty range lies anywhere.
    pub fn locate(&self, start: GuestAddr, length: u64) -> Result<HostRange, Errno> {
        if length == 0 {
            return Ok(HostRange { start: HostAddr(0), length: 0 });
        }
        let range = GuestRange::new(start, length).ok_or(Errno::EFAULT)?;
        self.backend.host_range(self.domain, range).ok_or(Errno::EFAULT)
    }

    /// As [`locate`](Self::locate), for bytes that the kernel or the monitor is about to store into.
    pub fn locate_for_write(&self, start: GuestAddr, length: u64) -> Result<HostRange, Errno> {
        let host = self.locate(start, length)?;
        if length != 0 {
            let range = GuestRange::new(start, length).ok_or(Errno::EFAULT)?;
            self.backend.before_write(self.domain, range);
        }
        Ok(host)
    }

    /// Fills `into` from `start`.
    pub fn read_into(&self, start: GuestAddr, into: &mut [u8]) -> Result<(), Errno> {
        match self.read_some(start, into)? {
            0 => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// `length` bytes from `start`. The caller has bounded `length`.
    pub fn read_bytes(&self, start: GuestAddr, length: usize) -> Result<Vec<u8>, Errno> {
        self.locate(start, length as u64)?;
        let mut bytes = vec![0; length];
        self.read_into(start, &mut bytes)?;
        Ok(bytes)
    }

    /// Stores `bytes` at `start`. On EFAULT some of them may have been stored.
    pub fn write_bytes(&self, start: GuestAddr, bytes: &[u8]) -> Result<(), Errno> {
        // The backend may protect a page again between the two steps, for a thread that runs code on it.
        const ATTEMPTS: usize = 8;
        let from = HostAddr(bytes.as_ptr() as usize);
        for _ in 0..ATTEMPTS {
            let host = self.locate_for_write(start, bytes.len() as u64)?;
            // SAFETY: `bytes` is ours and valid; `host` comes from `host_range`; the monitor's handler calls `recover`.
            if unsafe { copy::copy(host.start, from, bytes.len()) } == 0 {
                return Ok(());
            }
        }
        Err(Errno::EFAULT)
    }

    /// The value at `start`.
    pub fn read<T: Pod>(&self, start: GuestAddr) -> Result<T, Errno> {
        let mut value = MaybeUninit::<T>::zeroed();
        let host = self.locate(start, size_of::<T>() as u64)?;
        let to = HostAddr(value.as_mut_ptr() as usize);
        // SAFETY: `value` is ours and has the size; `host` comes from `host_range`; the monitor's handler calls
        // `recover`.
        let missing = unsafe { copy::copy(to, host.start, size_of::<T>()) };
        if missing != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: any bytes are a `Pod` value.
        Ok(unsafe { value.assume_init() })
    }

    /// The value at `start`, or `None` for the null pointer.
    pub fn read_optional<T: Pod>(&self, start: GuestAddr) -> Result<Option<T>, Errno> {
        if start.0 == 0 { Ok(None) } else { self.read(start).map(Some) }
    }

    /// Stores `value` at `start`.
    pub fn write<T: Pod>(&self, start: GuestAddr, value: &T) -> Result<(), Errno> {
        self.write_bytes(start, bytes_of(value))
    }

    /// Replaces the aligned word at `start` by `new` if it is `expected`, in one step, and returns what it was.
    pub fn compare_exchange(&self, start: GuestAddr, expected: u32, new: u32) -> Result<u32, Errno> {
        if !start.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let host = self.locate_for_write(start, 4)?;
        // SAFETY: `host` comes from `host_range`, and keeps the alignment; the monitor's handler calls `recover`.
        unsafe { copy::compare_exchange(host.start, expected, new) }.ok_or(Errno::EFAULT)
    }

    /// `count` values from `start`. The caller has bounded `count`.
    pub fn read_array<T: Pod>(&self, start: GuestAddr, count: usize) -> Result<Vec<T>, Errno> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
        let host = self.locate(start, bytes as u64)?;
        let mut values = Vec::<T>::with_capacity(count);
        let to = HostAddr(values.as_mut_ptr() as usize);
        // SAFETY: the vector has the capacity; `host` comes from `host_range`; the monitor's handler calls `recover`.
        let missing = unsafe { copy::copy(to, host.start, bytes) };
        if missing != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: `count` values have been filled, and any bytes are a `Pod` value.
        unsafe { values.set_len(count) };
        Ok(values)
    }

    /// The zero-terminated string at `start`: ENAMETOOLONG if there is no zero in the first `max` bytes.
    pub fn read_cstr(&self, start: GuestAddr, max: usize) -> Result<CString, Errno> {
        // Nearly all are short, and need no more than one allocation.
        let mut first = [0; 256];
        let wanted = ((PAGE_SIZE - start.0 % PAGE_SIZE) as usize).min(max).min(first.len());
        let missing = self.read_some(start, &mut first[..wanted])?;
        if let Ok(string) = CStr::from_bytes_until_nul(&first[..wanted - missing]) {
            return Ok(string.to_owned());
        }
        if missing != 0 {
            return Err(Errno::EFAULT);
        }
        let mut string = first[..wanted].to_vec();
        let mut at = start.checked_add(wanted as u64).ok_or(Errno::EFAULT)?;
        while string.len() < max {
            let to_page_end = (PAGE_SIZE - at.0 % PAGE_SIZE) as usize;
            let wanted = to_page_end.min(max - string.len()).min(256);
            let old_length = string.len();
            string.resize(old_length + wanted, 0);
            let missing = self.read_some(at, &mut string[old_length..])?;
            string.truncate(old_length + wanted - missing);
            if let Some(end) = string[old_length..].iter().position(|&byte| byte == 0) {
                string.truncate(old_length + end);
                return CString::new(string).map_err(|_| Errno::EFAULT);
            }
            if missing != 0 {
                return Err(Errno::EFAULT);
            }
            at = at.checked_add(wanted as u64).ok_or(Errno::EFAULT)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// A path argument.
    pub fn read_path(&self, start: GuestAddr) -> Result<CString, Errno> {
        self.read_cstr(start, PATH_MAX)
    }

    /// The buffers of an iovec array: EINVAL for more than 1024 (`UIO_MAXIOV`) or a negative length.
    pub fn read_iovecs(&self, start: GuestAddr, count: u64) -> Result<Vec<UserSlice>, Errno> {
        if count > libc::UIO_MAXIOV as u64 {
            return Err(Errno::EINVAL);
        }
        let vectors: Vec<[u64; 2]> = self.read_array(start, count as usize)?;
        let slices = vectors.into_iter().map(|[start, length]| UserSlice { start: GuestAddr(start), length });
        let slices: Vec<_> = slices.collect();
        if slices.iter().any(|slice| i64::try_from(slice.length).is_err()) {
            return Err(Errno::EINVAL);
        }
        Ok(slices)
    }

    /// Reads what can be read, and says how many bytes at the end cannot.
    fn read_some(&self, start: GuestAddr, into: &mut [u8]) -> Result<usize, Errno> {
        let host = self.locate(start, into.len() as u64)?;
        let to = HostAddr(into.as_mut_ptr() as usize);
        // SAFETY: `into` is ours and valid; `host` comes from `host_range`; the monitor's handler calls `recover`.
        Ok(unsafe { copy::copy(to, host.start, into.len()) })
    }
}

/// The bytes of a value. Those of padding are whatever they were: see [`Pod`].
fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: the value is alive for the borrow and has this size; `Pod` promises that its padding holds initialised
    // bytes.
    unsafe { core::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use endo_core::Rights;

    use super::*;
    use crate::memory::testing::{RecordingBackend, WINDOW};
    use crate::memory::{Label, Placement};

    const PAGE: u64 = 32 * PAGE_SIZE;

    fn with_page(test: impl FnOnce(&UserMemory<'_, RecordingBackend>)) {
        let (backend, mut map) = RecordingBackend::with_map();
        let rights = Rights::READ | Rights::WRITE;
        map.map_anonymous(&backend, Placement::Fixed(GuestAddr(PAGE)), PAGE_SIZE, rights, Label::Guest)
            .unwrap();
        test(&UserMemory::new(&backend, DomainId::MAIN));
    }

    #[test]
    fn what_is_written_is_read() {
        with_page(|user| {
            user.write(GuestAddr(PAGE), &[1_u64, 2]).unwrap();
            assert_eq!(user.read::<u64>(GuestAddr(PAGE + 8)), Ok(2));
            assert_eq!(user.read_array::<u64>(GuestAddr(PAGE), 2), Ok(vec![1, 2]));
        });
    }

    #[test]
    fn a_range_that_leaves_the_window_faults() {
        with_page(|user| {
            for start in [WINDOW - 4, WINDOW, 1 << 40, u64::MAX - 3] {
                assert_eq!(user.read::<u64>(GuestAddr(start)), Err(Errno::EFAULT));
                assert_eq!(user.write(GuestAddr(start), &0_u64), Err(Errno::EFAULT));
            }
            assert!(user.locate(GuestAddr(PAGE), u64::MAX).is_err());
        });
    }

    #[test]
    fn an_empty_range_lies_anywhere() {
        with_page(|user| assert_eq!(user.write_bytes(GuestAddr(u64::MAX), &[]), Ok(())));
    }

    #[test]
    fn a_string_ends_at_its_zero_or_is_too_long() {
        with_page(|user| {
            user.write_bytes(GuestAddr(PAGE + PAGE_SIZE - 6), b"hello\0").unwrap();
            assert_eq!(user.read_cstr(GuestAddr(PAGE + PAGE_SIZE - 6), 64), Ok(c"hello".to_owned()));
            user.write_bytes(GuestAddr(PAGE), &[b'x'; 64]).unwrap();
            assert_eq!(user.read_cstr(GuestAddr(PAGE), 64), Err(Errno::ENAMETOOLONG));
            assert_eq!(user.read_cstr(GuestAddr(PAGE), 65).map(|text| text.to_bytes().len()), Ok(64));
        });
    }

    #[test]
    fn too_many_buffers_and_negative_lengths_are_invalid() {
        with_page(|user| {
            assert_eq!(user.read_iovecs(GuestAddr(PAGE), 1025), Err(Errno::EINVAL));
            user.write(GuestAddr(PAGE), &[PAGE, 1 << 63]).unwrap();
            assert_eq!(user.read_iovecs(GuestAddr(PAGE), 1), Err(Errno::EINVAL));
            assert_eq!(user.read_iovecs(GuestAddr(WINDOW), 1), Err(Errno::EFAULT));
        });
    }
}

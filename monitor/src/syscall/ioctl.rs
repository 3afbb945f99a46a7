//! `ioctl` by known request: its argument is nothing, a number, or a flat structure of known size. Structures that hold
//! pointers have a function of their own. What is not in the list fails as it would on a file that does not know it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor};

use super::enter::enter;
use super::forward::forward_as;
use super::hidden;
use super::table::{Call, Kind};
use crate::errno::{Errno, SyscallResult};
use crate::thread::Thread;

/// What a request's argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Argument {
    /// Not looked at.
    None,
    /// A number.
    Number,
    /// A descriptor.
    Descriptor,
    /// A structure of so many bytes that the kernel reads.
    In(u64),
    /// One that the kernel writes.
    Out(u64),
    /// One that it reads and writes.
    InOut(u64),
}

use Argument::{Descriptor, In, InOut, None as Nothing, Number, Out};

/// Request, name, argument. Numbers: include/uapi/asm-generic/ioctls.h, linux/{fs,sockios,random,fiemap,rtc,nsfs}.h.
#[rustfmt::skip]
const REQUESTS: &[(u32, &str, Argument)] = &[
    (0x5401, "TCGETS", Out(36)),
    (0x5402, "TCSETS", In(36)),
    (0x5403, "TCSETSW", In(36)),
    (0x5404, "TCSETSF", In(36)),
    (0x5405, "TCGETA", Out(18)),
    (0x5406, "TCSETA", In(18)),
    (0x5407, "TCSETAW", In(18)),
    (0x5408, "TCSETAF", In(18)),
    (0x5409, "TCSBRK", Number),
    (0x540a, "TCXONC", Number),
    (0x540b, "TCFLSH", Number),
    (0x540c, "TIOCEXCL", Nothing),
    (0x540d, "TIOCNXCL", Nothing),
    (0x540e, "TIOCSCTTY", Number),
    (0x540f, "TIOCGPGRP", Out(4)),
    (0x5410, "TIOCSPGRP", In(4)),
    (0x5411, "TIOCOUTQ", Out(4)),
    (0x5412, "TIOCSTI", In(1)),
    (0x5413, "TIOCGWINSZ", Out(8)),
    (0x5414, "TIOCSWINSZ", In(8)),
    (0x5415, "TIOCMGET", Out(4)),
    (0x5416, "TIOCMBIS", In(4)),
    (0x5417, "TIOCMBIC", In(4)),
    (0x5418, "TIOCMSET", In(4)),
    (0x5419, "TIOCGSOFTCAR", Out(4)),
    (0x541a, "TIOCSSOFTCAR", In(4)),
    (0x541b, "FIONREAD", Out(4)),
    (0x541d, "TIOCCONS", Nothing),
    (0x5420, "TIOCPKT", In(4)),
    (0x5421, "FIONBIO", In(4)),
    (0x5422, "TIOCNOTTY", Nothing),
    (0x5423, "TIOCSETD", In(4)),
    (0x5424, "TIOCGETD", Out(4)),
    (0x5425, "TCSBRKP", Number),
    (0x5427, "TIOCSBRK", Nothing),
    (0x5428, "TIOCCBRK", Nothing),
    (0x5429, "TIOCGSID", Out(4)),
    (0x802c_542a, "TCGETS2", Out(44)),
    (0x402c_542b, "TCSETS2", In(44)),
    (0x402c_542c, "TCSETSW2", In(44)),
    (0x402c_542d, "TCSETSF2", In(44)),
    (0x8004_5430, "TIOCGPTN", Out(4)),
    (0x4004_5431, "TIOCSPTLCK", In(4)),
    (0x8004_5432, "TIOCGDEV", Out(4)),
    (0x8004_5438, "TIOCGPKT", Out(4)),
    (0x8004_5439, "TIOCGPTLCK", Out(4)),
    (0x8004_5440, "TIOCGEXCL", Out(4)),
    (0x5441, "TIOCGPTPEER", Number),
    (0x5450, "FIONCLEX", Nothing),
    (0x5451, "FIOCLEX", Nothing),
    (0x5452, "FIOASYNC", In(4)),
    (0x5460, "FIOQSIZE", Out(8)),
    (0x4b33, "KDGKBTYPE", Out(1)),
    (0x4b3b, "KDGETMODE", Out(4)),
    (0x4b44, "KDGKBMODE", Out(4)),
    (0x5600, "VT_OPENQRY", Out(4)),
    (0x5603, "VT_GETSTATE", Out(6)),
    (1, "FIBMAP", InOut(4)),
    (2, "FIGETBSZ", Out(4)),
    (0x4004_9409, "FICLONE", Descriptor),
    (0x8008_6601, "FS_IOC_GETFLAGS", Out(8)),
    (0x4008_6602, "FS_IOC_SETFLAGS", In(8)),
    (0x8008_7601, "FS_IOC_GETVERSION", Out(8)),
    (0x4008_7602, "FS_IOC_SETVERSION", In(8)),
    (0x801c_581f, "FS_IOC_FSGETXATTR", Out(28)),
    (0x401c_5820, "FS_IOC_FSSETXATTR", In(28)),
    (0x8100_9431, "FS_IOC_GETFSLABEL", Out(256)),
    (0x1260, "BLKGETSIZE", Out(8)),
    (0x1261, "BLKFLSBUF", Nothing),
    (0x125e, "BLKROGET", Out(4)),
    (0x1263, "BLKRAGET", Out(8)),
    (0x1268, "BLKSSZGET", Out(4)),
    (0x8008_1270, "BLKBSZGET", Out(8)),
    (0x8008_1272, "BLKGETSIZE64", Out(8)),
    (0x1278, "BLKIOMIN", Out(4)),
    (0x1279, "BLKIOOPT", Out(4)),
    (0x127a, "BLKALIGNOFF", Out(4)),
    (0x127b, "BLKPBSZGET", Out(4)),
    (0x127e, "BLKROTATIONAL", Out(2)),
    (0x301, "HDIO_GETGEO", Out(16)),
    (0x8901, "FIOSETOWN", In(4)),
    (0x8902, "SIOCSPGRP", In(4)),
    (0x8903, "FIOGETOWN", Out(4)),
    (0x8904, "SIOCGPGRP", Out(4)),
    (0x8905, "SIOCATMARK", Out(4)),
    (0x8906, "SIOCGSTAMP", Out(16)),
    (0x8907, "SIOCGSTAMPNS", Out(16)),
    (0x8910, "SIOCGIFNAME", InOut(40)),
    (0x8913, "SIOCGIFFLAGS", InOut(40)),
    (0x8915, "SIOCGIFADDR", InOut(40)),
    (0x8917, "SIOCGIFDSTADDR", InOut(40)),
    (0x8919, "SIOCGIFBRDADDR", InOut(40)),
    (0x891b, "SIOCGIFNETMASK", InOut(40)),
    (0x891d, "SIOCGIFMETRIC", InOut(40)),
    (0x8921, "SIOCGIFMTU", InOut(40)),
    (0x8927, "SIOCGIFHWADDR", InOut(40)),
    (0x8933, "SIOCGIFINDEX", InOut(40)),
    (0x8942, "SIOCGIFTXQLEN", InOut(40)),
    (0x8004_5200, "RNDGETENTCNT", Out(4)),
    (0x8024_7009, "RTC_RD_TIME", Out(36)),
    (0xb701, "NS_GET_USERNS", Nothing),
    (0xb702, "NS_GET_PARENT", Nothing),
    (0xb703, "NS_GET_NSTYPE", Nothing),
    (0xb704, "NS_GET_OWNER_UID", Out(4)),
    (0x894b, "SIOCOUTQNSD", Out(4)),
];

const FICLONERANGE: u32 = 0x4020_940d;
const FIEMAP: u32 = 0xc020_660b;
const SIOCGIFCONF: u32 = 0x8912;

/// The name of a request, for trace lines.
pub(super) fn request_name(request: u32) -> Option<&'static str> {
    REQUESTS.iter().find(|&&(number, ..)| number == request).map(|&(_, name, _)| name)
}

/// `ioctl`.
pub(super) fn ioctl<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    arguments: [u64; 6],
) -> SyscallResult {
    let request = arguments[1] as u32;
    match request {
        FICLONERANGE => return clone_range(thread, arguments),
        FIEMAP => return extent_map(thread, arguments),
        SIOCGIFCONF => return interface_list(thread, arguments),
        _ => {}
    }
    let Some(&(_, _, argument)) = REQUESTS.iter().find(|&&(number, ..)| number == request) else {
        return unknown(thread, arguments);
    };
    // The structure's length stands where an argument that the kernel does not look at would be.
    let (kind, length) = match argument {
        Nothing => (Kind::Unused, 0),
        Number => (Kind::Long, 0),
        Descriptor => (Kind::Fd, 0),
        In(length) => (Kind::InBytes(3), length),
        Out(length) | InOut(length) => (Kind::OutBytes(3), length),
    };
    let arguments = [arguments[0], request.into(), arguments[2], length, 0, 0];
    forward_as(thread, Call::ioctl, arguments, &[Kind::Fd, Kind::Hex, kind, Kind::Size])
}

/// ENOTTY, said once to whoever reads Endo's log; EBADF comes first.
fn unknown<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    [fd, request, ..]: [u64; 6],
) -> SyscallResult {
    // Never waited for: a fork may find it locked, and its child would wait for ever.
    static SEEN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    let get_flags = [fd, libc::F_GETFD as u64, 0, 0, 0, 0];
    forward_as(thread, Call::fcntl, get_flags, &[Kind::Fd, Kind::Int])?;
    let is_new = SEEN.try_lock().is_ok_and(|mut seen| seen.insert(request as u32));
    if is_new {
        super::trace::note(&format!(
            "ioctl request {:#x} is not known and fails with ENOTTY",
            request as u32
        ));
    }
    Err(Errno::ENOTTY)
}

/// `FICLONERANGE`: the structure names a descriptor.
fn clone_range<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    [fd, request, argument, ..]: [u64; 6],
) -> SyscallResult {
    let range: [u64; 4] = thread.user().read(GuestAddr(argument))?;
    if hidden::is_hidden(fd as i32) || hidden::is_hidden(range[0] as i32) {
        return Err(Errno::EBADF);
    }
    let number = Call::ioctl.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the kernel reads the 32 bytes of our copy.
    unsafe { enter(number, [fd, request, range.as_ptr() as u64, 0, 0, 0]) }
}

/// `FS_IOC_FIEMAP`: the structure ends in an array whose length it states.
fn extent_map<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    [fd, request, argument, ..]: [u64; 6],
) -> SyscallResult {
    const HEADER: usize = 32;
    const EXTENT: usize = 56;
    const MAX_EXTENTS: usize = 1 << 16;
    if hidden::is_hidden(fd as i32) {
        return Err(Errno::EBADF);
    }
    let user = thread.user();
    let header: [u32; 8] = user.read(GuestAddr(argument))?;
    let count = header[6] as usize;
    if count > MAX_EXTENTS {
        return Err(Errno::EINVAL);
    }
    let mut copy = vec![0_u64; (HEADER + count * EXTENT) / 8];
    for (word, pair) in copy.iter_mut().zip(header.chunks_exact(2)) {
        *word = u64::from(pair[0]) | u64::from(pair[1]) << 32;
    }
    let number = Call::ioctl.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the kernel reads the header and writes as many extents as it states, all in our copy.
    let result = unsafe { enter(number, [fd, request, copy.as_mut_ptr() as u64, 0, 0, 0]) };
    let bytes: Vec<u8> = copy.iter().flat_map(|word| word.to_le_bytes()).collect();
    user.write_bytes(GuestAddr(argument), &bytes)?;
    result
}

/// `SIOCGIFCONF`: the structure holds a length and a pointer.
fn interface_list<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    [fd, request, argument, ..]: [u64; 6],
) -> SyscallResult {
    if hidden::is_hidden(fd as i32) {
        return Err(Errno::EBADF);
    }
    let user = thread.user();
    let [length, buffer]: [u64; 2] = user.read(GuestAddr(argument))?;
    let length = u64::from(length as u32).min(1 << 20);
    let buffer = match buffer {
        0 => 0,
        _ => user.locate_for_write(GuestAddr(buffer), length)?.start.0 as u64,
    };
    let mut copy = [length, buffer];
    let number = Call::ioctl.row().number().ok_or(Errno::ENOSYS)?;
    // SAFETY: the pair is ours, and the buffer that it leads to was located with its length.
    let result = unsafe { enter(number, [fd, request, copy.as_mut_ptr() as u64, 0, 0, 0]) }?;
    user.write(GuestAddr(argument), &(copy[0] as u32))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_states_its_size_has_that_size() {
        // _IOC: direction in the top two bits (1 write, 2 read), size in the next fourteen. The FS_IOC_*FLAGS and
        // *VERSION family says long, FICLONE int where a descriptor is meant.
        for &(request, name, argument) in REQUESTS.iter().filter(|&&(request, ..)| request >> 30 != 0) {
            let stated = u64::from(request >> 16 & 0x3fff);
            let bytes = match argument {
                In(bytes) | Out(bytes) | InOut(bytes) => bytes,
                Nothing | Number | Descriptor => continue,
            };
            assert_eq!(bytes, stated, "{name}");
        }
    }

    #[test]
    fn no_request_is_listed_twice() {
        let mut numbers: Vec<_> = REQUESTS.iter().map(|&(number, ..)| number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), REQUESTS.len());
    }
}

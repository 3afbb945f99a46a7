//! What arguments point to, in trace lines.

use std::fmt::Write as _;

use endo_core::{GuestAddr, IsolationBackend};

use super::table::Type;
use super::trace_names as names;
use crate::memory::user::UserMemory;

/// Bytes of a string or buffer that are shown, as strace does by default.
const SHOWN: usize = 32;
/// Elements of an array that are shown.
const SHOWN_ELEMENTS: u64 = 8;

/// A pointer that is not followed.
pub(super) fn pointer(value: u64) -> String {
    if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") }
}

/// A zero-terminated string.
pub(super) fn string<B: IsolationBackend>(user: &UserMemory<'_, B>, start: GuestAddr) -> String {
    if start.0 == 0 {
        return pointer(0);
    }
    match user.read_path(start) {
        Ok(string) => quoted(string.as_bytes(), usize::MAX),
        Err(_) => pointer(start.0),
    }
}

/// A buffer of `length` bytes.
pub(super) fn bytes<B: IsolationBackend>(user: &UserMemory<'_, B>, start: GuestAddr, length: u64) -> String {
    let taken = usize::try_from(length).unwrap_or(usize::MAX).min(SHOWN + 1);
    match user.read_bytes(start, taken) {
        Ok(bytes) if start.0 != 0 => quoted(&bytes, SHOWN),
        _ => pointer(start.0),
    }
}

/// C string syntax, cut after `shown` bytes.
fn quoted(bytes: &[u8], shown: usize) -> String {
    let mut text = String::from("\"");
    for &byte in bytes.iter().take(shown) {
        let _ = match byte {
            b'\n' => write!(text, "\\n"),
            b'\t' => write!(text, "\\t"),
            b'\r' => write!(text, "\\r"),
            b'"' | b'\\' => write!(text, "\\{}", byte as char),
            b' '..=b'~' => write!(text, "{}", byte as char),
            _ => write!(text, "\\{byte:o}"),
        };
    }
    text.push('"');
    if bytes.len() > shown {
        text.push_str("...");
    }
    text
}

/// One value of a known type.
pub(super) fn value<B: IsolationBackend>(user: &UserMemory<'_, B>, ty: Type, start: GuestAddr) -> String {
    if start.0 == 0 {
        return pointer(0);
    }
    read_value(user, ty, start).unwrap_or_else(|| pointer(start.0))
}

fn read_value<B: IsolationBackend>(user: &UserMemory<'_, B>, ty: Type, start: GuestAddr) -> Option<String> {
    let words = |count: usize| user.read_array::<i64>(start, count).ok();
    let halves = |count: usize| user.read_array::<i32>(start, count).ok();
    let pair = |words: &[i64], second: &str| {
        let first = if second == "rlim_max" { "rlim_cur" } else { "tv_sec" };
        format!("{{{first}={}, {second}={}}}", words[0], words[1])
    };
    Some(match ty {
        Type::I32 => format!("[{}]", user.read::<i32>(start).ok()?),
        Type::U32 => format!("[{}]", user.read::<u32>(start).ok()?),
        Type::I64 => format!("[{}]", user.read::<i64>(start).ok()?),
        Type::U64 => format!("[{:#x}]", user.read::<u64>(start).ok()?),
        Type::IntPair => halves(2).map(|pair| format!("[{}, {}]", pair[0], pair[1]))?,
        Type::Timespec => pair(&words(2)?, "tv_nsec"),
        Type::Timeval => pair(&words(2)?, "tv_usec"),
        Type::TimespecPair => {
            words(4).map(|w| format!("[{}, {}]", pair(&w, "tv_nsec"), pair(&w[2..], "tv_nsec")))?
        }
        Type::Itimerspec | Type::Itimerval => {
            let second = if ty == Type::Itimerspec { "tv_nsec" } else { "tv_usec" };
            words(4).map(|w| {
                format!("{{it_interval={}, it_value={}}}", pair(&w, second), pair(&w[2..], second))
            })?
        }
        Type::Rlimit => {
            let limit = |value: i64| {
                if value == -1 { "RLIM64_INFINITY".to_owned() } else { (value as u64).to_string() }
            };
            words(2).map(|w| format!("{{rlim_cur={}, rlim_max={}}}", limit(w[0]), limit(w[1])))?
        }
        Type::Stat => {
            let status: libc::stat = user.read(start).ok()?;
            format!("{{st_mode={}, st_size={}, ...}}", names::file_mode(status.st_mode), status.st_size)
        }
        Type::Pollfd => {
            let [fd, events]: [i32; 2] = user.read(start).ok()?;
            format!("{{fd={fd}, events={:#x}, revents={:#x}}}", events as u16, events as u32 >> 16)
        }
        Type::EpollEvent => {
            let event: libc::epoll_event = user.read(start).ok()?;
            let (events, data) = (event.events, event.u64);
            format!("{{events={events:#x}, data={data:#x}}}")
        }
        Type::Utsname => {
            let names: libc::utsname = user.read(start).ok()?;
            let name = |field: &[std::ffi::c_char]| {
                let bytes: Vec<u8> =
                    field.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
                quoted(&bytes, usize::MAX)
            };
            format!("{{sysname={}, nodename={}, ...}}", name(&names.sysname), name(&names.nodename))
        }
        _ => return None,
    })
}

/// An array of known type.
pub(super) fn array<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    ty: Type,
    start: GuestAddr,
    count: u64,
) -> String {
    if start.0 == 0 {
        return pointer(0);
    }
    let element = |index: u64| value(user, ty, GuestAddr(start.0.wrapping_add(index * ty.size())));
    let mut shown: Vec<_> = (0..count.min(SHOWN_ELEMENTS)).map(element).collect();
    if count > SHOWN_ELEMENTS {
        shown.push("...".to_owned());
    }
    format!("[{}]", shown.join(", "))
}

/// An iovec array whose buffers hold data.
pub(super) fn vectors<B: IsolationBackend>(user: &UserMemory<'_, B>, start: GuestAddr, count: u64) -> String {
    let Ok(slices) = user.read_iovecs(start, count.min(SHOWN_ELEMENTS)) else { return pointer(start.0) };
    let each = slices.iter().map(|slice| {
        format!("{{iov_base={}, iov_len={}}}", bytes(user, slice.start, slice.length), slice.length)
    });
    format!("[{}]", each.collect::<Vec<_>>().join(", "))
}

/// A socket address.
pub(super) fn address<B: IsolationBackend>(
    user: &UserMemory<'_, B>,
    start: GuestAddr,
    length: u64,
) -> String {
    let length = (length as u32 as usize).min(128);
    let Ok(bytes) = user.read_bytes(start, length) else { return pointer(start.0) };
    if start.0 == 0 || bytes.len() < 2 {
        return pointer(start.0);
    }
    let family = i32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    match family {
        libc::AF_UNIX => {
            let name = &bytes[2..];
            let (at, name) = match name.first() {
                Some(0) => ("@", &name[1..]),
                _ => ("", name.split(|&byte| byte == 0).next().unwrap_or_default()),
            };
            format!("{{sa_family=AF_UNIX, sun_path={at}{}}}", quoted(name, usize::MAX))
        }
        libc::AF_INET if bytes.len() >= 8 => {
            let host = std::net::Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            format!("{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr(\"{host}\")}}", port(&bytes))
        }
        _ => format!("{{sa_family={}, ...}}", names::flags(super::table::Names::Family, family as u64)),
    }
}

/// A signal set, as strace writes them.
pub(super) fn signal_set<B: IsolationBackend>(user: &UserMemory<'_, B>, start: GuestAddr) -> String {
    if start.0 == 0 {
        return pointer(0);
    }
    let Ok(set) = user.read::<u64>(start) else { return pointer(start.0) };
    let is_member = |number: &i32| set >> (number - 1) & 1 != 0;
    let members: Vec<_> =
        (1..=64).filter(is_member).map(|number| names::signal(number).replace("SIG", "")).collect();
    format!("[{}]", members.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_in_c_and_cut() {
        assert_eq!(quoted(b"a\"\n\x01\xff", 32), r#""a\"\n\1\377""#);
        assert_eq!(quoted(&[b'x'; 40], 32), format!("\"{}\"...", "x".repeat(32)));
    }
}

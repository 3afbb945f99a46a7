//! Endo's own code, which a guest can jump to: the executable, its libraries, the kernel's vDSO.
//!
//! Data of the monitor is closed to whoever jumps into it with a guest's rights, and its system calls are caught like the
//! guest's. What is left is to load other rights. So no page of it may hold an instruction that does, but the gate's and those
//! of [thunks](super::thunk): others, which Endo does not run on this backend, become `ud2` before a guest exists.

use std::fs;
use std::io;

use endo_core::{HostAddr, PAGE_SIZE};
use iced_x86::{Decoder, DecoderOptions};

use super::{gate, thunk, window};
use crate::scan::{self, Hit};

/// Makes every place harmless, or says which one cannot be.
pub(super) fn disarm() -> io::Result<()> {
    for text in executable_mappings(&fs::read_to_string("/proc/self/maps")?) {
        if text.end <= window::END as usize {
            return Err(io::Error::other(format!("{} lies in the guest's window", text.name)));
        }
        if text.start == gate::range().start || text.name == "[vsyscall]" {
            continue;
        }
        if text.name.starts_with('/') {
            detach(&text)?;
        }
        disarm_mapping(&text)?;
    }
    Ok(())
}

/// Puts a copy in the place of a mapping of a file: whoever writes to the file changes nothing here.
fn detach(text: &Text) -> io::Result<()> {
    let length = text.end - text.start;
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping wherever the kernel likes touches nothing that exists.
    let copy = unsafe { libc::mmap(core::ptr::null_mut(), length, rights, flags, -1, 0) };
    if copy == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let (from, copy) = (HostAddr(text.start), HostAddr(copy as usize));
    // SAFETY: the mapping is there and readable; the copy was just mapped, with its length.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr::<u8>(), copy.as_ptr(), length) };
    set_protection(copy.0, length, libc::PROT_READ | libc::PROT_EXEC)?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: what is replaced has the same bytes and rights, at one moment, also for the code that runs meanwhile.
    let moved = unsafe { libc::mremap(copy.as_ptr(), length, length, flags, from.as_ptr::<libc::c_void>()) };
    if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A line of /proc/self/maps.
#[derive(Debug, PartialEq, Eq)]
struct Text {
    start: usize,
    end: usize,
    name: String,
}

fn executable_mappings(maps: &str) -> Vec<Text> {
    let parse = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?;
        let name = words.nth(3).unwrap_or("memory without a name").to_owned();
        let address = |text| usize::from_str_radix(text, 16).ok();
        rights.contains('x').then_some(Text { start: address(start)?, end: address(end)?, name })
    };
    maps.lines().filter_map(parse).collect()
}

fn disarm_mapping(text: &Text) -> io::Result<()> {
    // SAFETY: the mapping is there, and readable, as executable ones are: nobody in this process unmaps code.
    let bytes =
        unsafe { core::slice::from_raw_parts(HostAddr(text.start).as_ptr::<u8>(), text.end - text.start) };
    let hits: Vec<Hit> = scan::hits(bytes).collect();
    for hit in hits {
        if hit.kind == scan::Kind::Xrstor && thunk::replace(bytes, text.start, hit.at)? {
            continue;
        }
        if !is_instruction(bytes, hit) {
            let place = hit.at;
            return Err(io::Error::other(format!("{} loads PKRU at {place:#x} by accident", text.name)));
        }
        make_ud2(text.start + hit.at)?;
    }
    Ok(())
}

/// Whether an instruction begins there: however far before it one begins to decode, or nearly, that is where one arrives.
fn is_instruction(bytes: &[u8], hit: Hit) -> bool {
    const STARTS: usize = 64;
    if hit.kind == scan::Kind::Xrstor && scan::is_plain_xrstor(bytes, hit.at) {
        return true;
    }
    let arrives = |start: usize| {
        let mut decoder = Decoder::with_ip(64, &bytes[start..], start as u64, DecoderOptions::NONE);
        while decoder.ip() < hit.at as u64 {
            // An instruction with a prefix begins before its opcode.
            let begins = decoder.ip();
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return false;
            }
            if instruction.next_ip() > hit.at as u64 {
                return begins + 1 == hit.at as u64 && bytes[hit.at - 1] & 0xf0 == 0x40;
            }
        }
        true
    };
    let first = hit.at.saturating_sub(STARTS + 16);
    let last = hit.at.saturating_sub(16);
    let arrived = (first..last).filter(|&start| arrives(start)).count();
    last > first && arrived * 10 >= (last - first) * 8
}

/// Makes the instruction `ud2`, in this process's copy of the page.
fn make_ud2(at: usize) -> io::Result<()> {
    overwrite(at + 1, &[scan::UD2_SECOND])
}

/// Replaces code in this process's copy of its pages, which can be run all the while. Nobody runs what is replaced.
pub(super) fn overwrite(at: usize, code: &[u8]) -> io::Result<()> {
    const PAGE: usize = PAGE_SIZE as usize;
    let start = at & !(PAGE - 1);
    let length = (at + code.len()).next_multiple_of(PAGE) - start;
    set_protection(start, length, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?;
    // SAFETY: the pages are writable, and no Rust object lies there.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), HostAddr(at).as_ptr(), code.len()) };
    set_protection(start, length, libc::PROT_READ | libc::PROT_EXEC)
}

/// Changes the protection of pages with code of Endo's.
pub(super) fn set_protection(start: usize, length: usize, rights: libc::c_int) -> io::Result<()> {
    // SAFETY: the callers name pages of Endo's text, which lose no right that it needs.
    match unsafe { libc::mprotect(HostAddr(start).as_ptr(), length, rights) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_the_right_to_run_are_found() {
        let maps = "555555554000-555555556000 r-xp 00000000 08:01 12 /bin/true\n\
                    7ffff7fc1000-7ffff7fc5000 r--p 00000000 00:00 0 [vvar]\n\
                    7ffff7fc5000-7ffff7fc7000 r-xp 00000000 00:00 0 [vdso]\n";
        let found = executable_mappings(maps);
        let names: Vec<&str> = found.iter().map(|text| text.name.as_str()).collect();
        assert_eq!(names, ["/bin/true", "[vdso]"]);
        assert_eq!((found[0].start, found[0].end), (0x5555_5555_4000, 0x5555_5555_6000));
    }

    #[test]
    fn an_instruction_is_told_from_bytes_inside_another() {
        // As glibc's pkey_set: xor ecx, ecx; xor edx, edx; not eax; and eax, r9d; or eax, esi; wrpkru.
        let setup = [0x31, 0xc9, 0x31, 0xd2, 0xf7, 0xd0, 0x44, 0x21, 0xc8, 0x09, 0xf0];
        let mut code: Vec<u8> = setup.repeat(10);
        let at = code.len();
        code.extend([0x0f, 0x01, 0xef, 0x90, 0x90]);
        assert!(is_instruction(&code, Hit { at, kind: scan::Kind::Wrpkru }));
        // The same bytes as the displacement of a load: movsd xmm1, [rip + disp32].
        let mut code: Vec<u8> = setup.repeat(10);
        code.extend([0xf2, 0x0f, 0x10, 0x0d]);
        let at = code.len();
        code.extend([0x0f, 0x01, 0xef, 0x01, 0x90]);
        assert!(!is_instruction(&code, Hit { at, kind: scan::Kind::Wrpkru }));
    }
}

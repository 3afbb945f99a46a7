//! `maps`, `smaps` and `smaps_rollup` as the guest may see them, and what its memory amounts to.
//!
//! Where mappings lie and with which rights is in the books; how much of them is in memory the host knows. It may have
//! joined what are several mappings to the guest, which then share its figures by their sizes.
#![deny(unsafe_code)]

use std::fmt::Write as _;
use std::ops::Range;

use endo_core::{GuestRange, Rights};

use crate::memory::{Mapping, MappingFlags, MemoryMap};

/// Whose mappings are meant.
#[derive(Clone, Copy)]
pub(super) enum Guest<'a> {
    /// This process's guest.
    Own(&'a MemoryMap),
    /// Another process's: it lies where this one's does. Which of its pages it may run is its monitor's secret.
    Other(GuestRange),
}

/// What a guest's memory amounts to, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub(super) mapped: u64,
    pub(super) data: u64,
    pub(super) stack: u64,
    pub(super) code: u64,
    pub(super) resident: u64,
    pub(super) anonymous: u64,
    pub(super) of_files: u64,
    pub(super) shared: u64,
    pub(super) swapped: u64,
    pub(super) locked: u64,
    /// What endo itself has in memory.
    pub(super) of_endo: u64,
}

/// A mapping as the host has it: a line of `maps`, and in `smaps` the lines that follow it.
#[derive(Clone, Debug)]
struct HostMapping<'a> {
    range: Range<u64>,
    line: &'a str,
    rights: &'a str,
    /// Device and inode.
    object: [&'a str; 2],
    name: &'a str,
    /// Figures by name, those in kB first.
    figures: Vec<(&'a str, u64)>,
    flags: &'a str,
}

impl HostMapping<'_> {
    fn figure(&self, name: &str) -> u64 {
        self.figures.iter().find(|(other, _)| *other == name).map_or(0, |&(_, value)| value)
    }

    /// Whether it is what a window holds where nothing is mapped.
    fn is_reservation(&self) -> bool {
        self.rights == "---p" && self.name.is_empty()
    }

    /// Whether its pages belong to an object in memory: tmpfs, memfd, System V, shared anonymous memory.
    fn is_shared_memory(&self) -> bool {
        ["/dev/zero", "/memfd:", "/SYSV", "/dev/shm/"].iter().any(|start| self.name.starts_with(start))
    }
}

/// Both files at once: what follows a line of `smaps` is the figures.
fn host_mappings(text: &str) -> Vec<HostMapping<'_>> {
    let mut mappings: Vec<HostMapping<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(mapping) = host_mapping(line) {
            mappings.push(mapping);
        } else if let (Some(mapping), Some((name, rest))) = (mappings.last_mut(), line.split_once(':')) {
            match rest.split_whitespace().next().and_then(|word| word.parse().ok()) {
                Some(value) if name != "VmFlags" => mapping.figures.push((name, value)),
                _ => mapping.flags = rest.trim(),
            }
        }
    }
    mappings
}

fn host_mapping(line: &str) -> Option<HostMapping<'_>> {
    // Address, rights, offset, device, inode; what is left is the name, which may hold spaces.
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    let rights = words.next()?;
    let object = [words.nth(1)?, words.next()?];
    let name = words.next().unwrap_or_default().trim_start();
    Some(HostMapping { range, line, rights, object, name, figures: Vec::new(), flags: "" })
}

/// The mappings of another process under Endo that are its guest's.
fn of_guest<'h>(window: GuestRange, host: &'h str) -> impl Iterator<Item = HostMapping<'h>> {
    let is_inside = move |mapping: &HostMapping<'_>| mapping.range.end <= window.end().0;
    host_mappings(host).into_iter().filter(move |mapping| is_inside(mapping) && !mapping.is_reservation())
}

/// `maps`. The names of files are the host's, which knows of renames and removals.
pub(super) fn maps(guest: Guest<'_>, host: &str) -> String {
    let mut text = String::new();
    match guest {
        Guest::Own(memory) => {
            let host = host_mappings(host);
            memory.iter().for_each(|mapping| write_line(&mut text, mapping, &host));
        }
        Guest::Other(window) => of_guest(window, host).for_each(|mapping| {
            let _ = writeln!(text, "{}", mapping.line);
        }),
    }
    text
}

/// fs/proc/task_mmu.c, `show_map_vma`.
fn write_line(text: &mut String, mapping: &Mapping, host: &[HostMapping<'_>]) {
    let is_shared = mapping.flags.contains(MappingFlags::SHARED);
    let behind = host.iter().find(|host| host.range.contains(&mapping.start().0));
    let behind = behind.filter(|_| is_shared || mapping.backing.is_some());
    let name = behind.map_or(mapping.label.maps_name(), |host| host.name);
    let right = |right, letter| if mapping.rights.contains(right) { letter } else { '-' };
    let rights = [right(Rights::READ, 'r'), right(Rights::WRITE, 'w'), right(Rights::EXECUTE, 'x')];
    let rights: String = rights.into_iter().chain([if is_shared { 's' } else { 'p' }]).collect();
    let offset = mapping.backing.map_or(0, |backing| backing.offset);
    let [device, inode] = behind.map_or(["00:00", "0"], |host| host.object);
    let (start, end) = (mapping.start().0, mapping.end().0);
    let line_start = text.len();
    let _ = write!(text, "{start:08x}-{end:08x} {rights} {offset:08x} {device} {inode} ");
    end_line(text, line_start, name);
}

fn end_line(text: &mut String, line_start: usize, name: &str) {
    if !name.is_empty() {
        let width = text.len() - line_start;
        let _ = write!(text, "{:1$}{name}", "", 73_usize.saturating_sub(width));
    }
    text.push('\n');
}

/// `smaps`.
pub(super) fn smaps(guest: Guest<'_>, host: &str) -> String {
    let mut text = String::new();
    match guest {
        Guest::Own(memory) => {
            let host = host_mappings(host);
            for mapping in memory.iter() {
                write_line(&mut text, mapping, &host);
                write_figures(&mut text, mapping, &host);
            }
        }
        Guest::Other(window) => {
            for mapping in of_guest(window, host) {
                let _ = writeln!(text, "{}", mapping.line);
                mapping.figures.iter().for_each(|&(name, value)| write_figure(&mut text, name, value));
                let _ = writeln!(text, "VmFlags: {} ", mapping.flags);
            }
        }
    }
    text
}

fn write_figures(text: &mut String, mapping: &Mapping, host: &[HostMapping<'_>]) {
    let range = mapping.start().0..mapping.end().0;
    let behind = |host: &&HostMapping<'_>| host.range.start < range.end && range.start < host.range.end;
    let behind: Vec<_> = host.iter().filter(behind).collect();
    let Some(first) = behind.first() else { return };
    for &(name, value) in &first.figures {
        let value = match name {
            "Size" => mapping.range.len() >> 10,
            "KernelPageSize" | "MMUPageSize" | "THPeligible" | "ProtectionKey" => value,
            _ => behind.iter().map(|host| share(host, &range, host.figure(name))).sum(),
        };
        write_figure(text, name, value);
    }
    let right = |right, letters| mapping.rights.contains(right).then_some(letters);
    let rights = [right(Rights::READ, "rd"), right(Rights::WRITE, "wr"), right(Rights::EXECUTE, "ex")];
    let sharing = mapping.flags.contains(MappingFlags::SHARED).then_some("sh");
    let others = first.flags.split(' ').filter(|flag| !matches!(*flag, "rd" | "wr" | "ex" | "sh"));
    let flags: Vec<_> = rights.into_iter().chain([sharing]).flatten().chain(others).collect();
    let _ = writeln!(text, "VmFlags: {} ", flags.join(" "));
}

/// The part of a host mapping's figure that falls to `range`, in whole pages unless it is all of it.
fn share(host: &HostMapping<'_>, range: &Range<u64>, value: u64) -> u64 {
    let common = host.range.end.min(range.end) - host.range.start.max(range.start);
    let whole = host.range.end - host.range.start;
    if common == whole {
        value
    } else {
        (u128::from(value) * u128::from(common) / u128::from(whole)) as u64 & !3
    }
}

/// `name:  value kB`, as wide as the kernel makes it.
fn write_figure(text: &mut String, name: &str, value: u64) {
    let unit = if matches!(name, "THPeligible" | "ProtectionKey") { "" } else { " kB" };
    let _ = writeln!(text, "{name}:{value:>0$}{unit}", 23_usize.saturating_sub(name.len()));
}

/// `smaps_rollup`.
pub(super) fn rollup(guest: Guest<'_>, host: &str) -> String {
    let mappings: Vec<_> = match guest {
        Guest::Own(memory) => of_guest(memory.window(), host).collect(),
        Guest::Other(window) => of_guest(window, host).collect(),
    };
    let (Some(first), Some(last)) = (mappings.first(), mappings.last()) else { return String::new() };
    let sum = |name: &str| mappings.iter().map(|mapping| mapping.figure(name)).sum();
    let anonymous = |mapping: &HostMapping<'_>| mapping.figure("Anonymous").min(mapping.figure("Pss"));
    let others = |are_shared: bool| -> u64 {
        let wanted = mappings.iter().filter(|mapping| mapping.is_shared_memory() == are_shared);
        wanted.map(|mapping| mapping.figure("Pss") - anonymous(mapping)).sum()
    };
    let mut text = format!("{:08x}-{:08x} ---p 00000000 00:00 0 ", first.range.start, last.range.end);
    end_line(&mut text, 0, "[rollup]");
    for &(name, _) in &first.figures {
        match name {
            "Size" | "KernelPageSize" | "MMUPageSize" | "THPeligible" | "ProtectionKey" => continue,
            _ => write_figure(&mut text, name, sum(name)),
        }
        if name == "Pss_Dirty" {
            write_figure(&mut text, "Pss_Anon", mappings.iter().map(anonymous).sum());
            write_figure(&mut text, "Pss_File", others(false));
            write_figure(&mut text, "Pss_Shmem", others(true));
        }
    }
    text
}

/// What a guest's memory amounts to, from the host's `smaps`.
pub(super) fn usage(guest: Guest<'_>, host: &str) -> Usage {
    let window = match guest {
        Guest::Own(memory) => memory.window(),
        Guest::Other(window) => window,
    };
    let mut usage = Usage::default();
    for mapping in host_mappings(host) {
        let bytes = |name| mapping.figure(name) << 10;
        if mapping.range.start >= window.end().0 {
            usage.of_endo += bytes("Rss");
            continue;
        }
        usage.resident += bytes("Rss");
        usage.anonymous += bytes("Anonymous");
        let rest = bytes("Rss").saturating_sub(bytes("Anonymous"));
        *(if mapping.is_shared_memory() { &mut usage.shared } else { &mut usage.of_files }) += rest;
        usage.swapped += bytes("Swap");
        usage.locked += bytes("Locked");
        if matches!(guest, Guest::Other(_)) && !mapping.is_reservation() {
            let length = mapping.range.end - mapping.range.start;
            usage.mapped += length;
            usage.data += if mapping.rights == "rw-p" { length } else { 0 };
        }
    }
    if let Guest::Own(memory) = guest {
        for mapping in memory.iter() {
            let length = mapping.range.len();
            let is_code = mapping.rights.contains(Rights::EXECUTE) && !mapping.rights.contains(Rights::WRITE);
            let is_stack = mapping.flags.contains(MappingFlags::GROWS_DOWN);
            usage.mapped += length;
            usage.data += if mapping.is_data() { length } else { 0 };
            usage.stack += if is_stack { length } else { 0 };
            usage.code += if is_code { length } else { 0 };
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use endo_core::{GuestAddr, PAGE_SIZE};

    use super::*;
    use crate::memory::testing::RecordingBackend;
    use crate::memory::{Label, Placement};

    const TWO_PAGES: &str = "\
        00020000-00022000 r--p 00000000 00:00 0 \nSize:                  8 kB\nKernelPageSize:        4 kB\n\
        Rss:                   8 kB\nTHPeligible:           0\nVmFlags: rd mr mw me ac \n\
        00030000-00130000 ---p 00000000 00:00 0 \nSize:               1024 kB\nRss:                   0 kB\n\
        7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \nSize:                  4 kB\nRss:                   4 kB\n";

    #[test]
    fn a_name_with_spaces_is_kept_whole() {
        let text = "1000-2000 r-xp 00000000 08:01 42                    /tmp/a b (deleted)\n3000-4000 rw-p 0 0:0 0 \n";
        let names: Vec<_> = host_mappings(text).into_iter().map(|mapping| mapping.name).collect();
        assert_eq!(names, ["/tmp/a b (deleted)", ""]);
    }

    #[test]
    fn mappings_that_the_host_has_joined_share_its_figures() {
        let (backend, mut map) = RecordingBackend::with_map();
        let page = |index: u64| Placement::Fixed(GuestAddr(0x2_0000 + index * PAGE_SIZE));
        let code = Rights::READ | Rights::EXECUTE;
        map.map_anonymous(&backend, page(0), PAGE_SIZE, code, Label::Guest).unwrap();
        map.map_anonymous(&backend, page(1), PAGE_SIZE, Rights::READ, Label::Guest).unwrap();
        let text = smaps(Guest::Own(&map), TWO_PAGES);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "00020000-00021000 r-xp 00000000 00:00 0 ");
        assert_eq!(lines[1], "Size:                  4 kB");
        assert_eq!(lines[3], "Rss:                   4 kB");
        assert_eq!(lines[4], "THPeligible:           0");
        assert_eq!(lines[5], "VmFlags: rd ex mr mw me ac ");
        assert_eq!(lines[6], "00021000-00022000 r--p 00000000 00:00 0 ");
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn of_another_guest_only_the_window_is_seen_and_no_reservation() {
        let window = GuestRange::new(GuestAddr(0), 1 << 32).unwrap();
        assert_eq!(maps(Guest::Other(window), TWO_PAGES), "00020000-00022000 r--p 00000000 00:00 0 \n");
        let usage = usage(Guest::Other(window), TWO_PAGES);
        assert_eq!((usage.mapped, usage.resident, usage.of_endo), (8192, 8192, 4096));
        assert!(rollup(Guest::Other(window), TWO_PAGES).ends_with("[rollup]\nRss:                   8 kB\n"));
    }
}

//! The texts that stand for files of /proc: the guest's truth about itself.
#![deny(unsafe_code)]

use std::fmt::Write as _;
use std::fs;

use endo_core::{GuestAddr, Rights};

use crate::errno::Errno;
use crate::memory::{Mapping, MappingFlags, MemoryMap};
use crate::process::Process;

/// A file that is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// `maps`.
    Maps,
    /// `smaps`.
    Smaps,
    /// `smaps_rollup`.
    SmapsRollup,
    /// `stat`.
    Stat,
    /// `cmdline`.
    Cmdline,
    /// `auxv`.
    Auxv,
}

/// What the guest reads for a file of the process or thread that has this directory in /proc; `None` where the host's file says
/// it as well. Of another process under a monitor only that is
/// shown which needs none of its monitor's books.
pub(super) fn text<B, M>(
    process: &Process<B, M>,
    view: View,
    directory: &str,
    is_own: bool,
) -> Result<Option<Vec<u8>>, Errno> {
    let host_file = |name: &str| fs::read_to_string(format!("{directory}/{name}")).map_err(|_| Errno::EACCES);
    let memory = || process.memory();
    let image = || process.image().clone();
    let text = match view {
        View::Stat => without_addresses(&host_file("stat")?).into_bytes(),
        View::Cmdline if !is_own => return Ok(None),
        _ if !is_own => return Err(Errno::EACCES),
        View::Maps => maps(&memory(), &host_file("maps")?).into_bytes(),
        View::Smaps => smaps(&memory(), &host_file("smaps")?).into_bytes(),
        View::SmapsRollup => return Err(Errno::EACCES),
        View::Cmdline => {
            image().arguments.iter().flat_map(|argument| argument.to_bytes_with_nul().to_vec()).collect()
        }
        View::Auxv => image().auxiliary_vector,
    };
    Ok(Some(text))
}

/// A line of the host's `maps`, as far as it is needed.
struct HostMapping<'a> {
    start: u64,
    end: u64,
    name: &'a str,
}

fn host_mappings(text: &str) -> Vec<HostMapping<'_>> {
    let parse = |line: &'_ str| -> Option<(u64, u64)> {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    // Address, rights, offset, device, inode; what is left is the name, which may hold spaces.
    let name = |line: &'_ str| line.splitn(6, ' ').nth(5).map(str::trim_start).map(str::len).unwrap_or(0);
    let each = |line| {
        let (start, end) = parse(line)?;
        Some(HostMapping { start, end, name: &line[line.len() - name(line)..] })
    };
    text.lines().filter_map(each).collect()
}

/// `maps` from the books; the names of files are the host's, which knows of renames and removals.
fn maps(memory: &MemoryMap, host: &str) -> String {
    let host = host_mappings(host);
    let mut text = String::new();
    for mapping in memory.iter() {
        let addr = mapping.start().0;
        let behind = host.iter().find(|host| (host.start..host.end).contains(&addr));
        let name = match mapping.backing {
            Some(_) => behind.map_or("", |host| host.name),
            None if mapping.flags.contains(MappingFlags::SHARED) => behind.map_or("", |host| host.name),
            None => mapping.label.maps_name(),
        };
        write_line(&mut text, mapping, name);
    }
    text
}

/// fs/proc/task_mmu.c, `show_map_vma`.
fn write_line(text: &mut String, mapping: &Mapping, name: &str) {
    let right = |right, letter| if mapping.rights.contains(right) { letter } else { '-' };
    let sharing = if mapping.flags.contains(MappingFlags::SHARED) { 's' } else { 'p' };
    let (device, inode, offset) = mapping.backing.map_or((0, 0, 0), |b| (b.device, b.inode, b.offset));
    let line_start = text.len();
    let _ = write!(
        text,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        mapping.start().0,
        mapping.end().0,
        right(Rights::READ, 'r'),
        right(Rights::WRITE, 'w'),
        right(Rights::EXECUTE, 'x'),
        sharing,
        offset,
        libc::major(device),
        libc::minor(device),
        inode,
    );
    if !name.is_empty() {
        let width = text.len() - line_start;
        let _ = write!(text, "{:1$}{name}", "", 73_usize.saturating_sub(width));
    }
    text.push('\n');
}

/// The host's `smaps`, without what is not the guest's.
fn smaps(memory: &MemoryMap, host: &str) -> String {
    let mut text = String::new();
    let mut is_shown = false;
    for line in host.lines() {
        let is_header = line.split(' ').next().is_some_and(|word| word.contains('-') && !word.ends_with(':'));
        if is_header {
            let start = line.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
            is_shown = start.is_some_and(|start| memory.find(GuestAddr(start)).is_some());
        }
        if is_shown {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// `stat` with zero for every address, as the kernel shows it to those who may not trace the process (fs/proc/array.c).
fn without_addresses(stat: &str) -> String {
    // Fields are numbered from 1; the second, in parentheses, may hold anything.
    const ADDRESSES: [usize; 13] = [26, 27, 28, 29, 30, 35, 45, 46, 47, 48, 49, 50, 51];
    let Some(end) = stat.rfind(')') else { return String::new() };
    let (start, rest) = stat.split_at(end + 1);
    let shown = rest
        .split_ascii_whitespace()
        .enumerate()
        .map(|(index, field)| if ADDRESSES.contains(&(index + 3)) { "0" } else { field });
    let shown: Vec<_> = shown.collect();
    format!("{start} {}\n", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_is_kept_whole() {
        let text = "1000-2000 r-xp 00000000 08:01 42                    /tmp/a b (deleted)\n3000-4000 rw-p 0 0:0 0 \n";
        let names: Vec<_> = host_mappings(text).into_iter().map(|mapping| mapping.name).collect();
        assert_eq!(names, ["/tmp/a b (deleted)", ""]);
    }

    #[test]
    fn addresses_vanish_from_stat_and_nothing_else_does() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let shown = without_addresses(&format!("1 (a) b) {}\n", fields.join(" ")));
        let shown: Vec<_> = shown.strip_prefix("1 (a) b) ").unwrap().split_whitespace().collect();
        assert_eq!((shown[25 - 3], shown[26 - 3], shown[51 - 3], shown[52 - 3]), ("25", "0", "0", "52"));
    }
}

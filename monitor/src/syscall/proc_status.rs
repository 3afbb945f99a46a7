//! `status`, `stat`, `statm` and `limits` as the guest may see them: the host's text with the guest's memory, signals and
//! addresses in it.
#![deny(unsafe_code)]

use std::fmt::Write as _;

use endo_core::PAGE_SIZE;

use super::proc_maps::Usage;
use crate::loader::Layout;
use crate::memory::{Limit, MemoryLimits};
use crate::signal::{Disposition, SigSet, Signal, SignalActions};

/// What a guest does about signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Masks {
    /// `None` where the host's is near enough.
    blocked: Option<SigSet>,
    ignored: SigSet,
    caught: SigSet,
}

impl Masks {
    pub(super) fn new(actions: &SignalActions, blocked: Option<SigSet>) -> Self {
        let set = |wanted: fn(Disposition) -> bool| {
            let all = (1..=Signal::MAX).filter_map(Signal::new);
            let members = all.filter(|&signal| wanted(actions.get(signal).disposition()));
            members.fold(SigSet::EMPTY, SigSet::with)
        };
        Masks {
            blocked,
            ignored: set(|disposition| disposition == Disposition::Ignore),
            caught: set(|disposition| matches!(disposition, Disposition::Handler(_))),
        }
    }
}

/// Bytes of the program's code in whole pages, as fs/proc/task_mmu.c has them (`task_mem`).
fn code_bytes(layout: Option<Layout>) -> u64 {
    let (start, end) = layout.map_or((0, 0), |layout| layout.code);
    end.next_multiple_of(PAGE_SIZE) - start / PAGE_SIZE * PAGE_SIZE
}

/// `status`. The peaks are those of endo and guest together, less what is endo's now.
pub(super) fn status(
    host: &str,
    usage: &Usage,
    layout: Option<Layout>,
    masks: Option<Masks>,
    highest_descriptor: Option<i32>,
) -> String {
    let code = code_bytes(layout);
    let mut text = String::new();
    for line in host.lines() {
        let Some((name, value)) = line.split_once(":\t") else {
            let _ = writeln!(text, "{line}");
            continue;
        };
        let kilobytes: u64 = value.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        let bytes = match name {
            "VmPeak" | "VmSize" => Some(usage.mapped),
            "VmLck" => Some(usage.locked),
            "VmHWM" => Some(usage.resident.max((kilobytes << 10).saturating_sub(usage.of_endo))),
            "VmRSS" => Some(usage.resident),
            "RssAnon" => Some(usage.anonymous),
            "RssFile" => Some(usage.of_files),
            "RssShmem" => Some(usage.shared),
            "VmData" => Some(usage.data),
            "VmStk" => Some(usage.stack),
            "VmExe" => Some(code),
            "VmLib" => Some(usage.code.saturating_sub(code)),
            "VmSwap" => Some(usage.swapped),
            _ => None,
        };
        let set = match name {
            "SigBlk" => masks.and_then(|masks| masks.blocked),
            "SigIgn" => masks.map(|masks| masks.ignored),
            "SigCgt" => masks.map(|masks| masks.caught),
            _ => None,
        };
        let _ = match (bytes, set, highest_descriptor) {
            (Some(bytes), ..) => writeln!(text, "{name}:\t{:>8} kB", bytes >> 10),
            (_, Some(set), _) => writeln!(text, "{name}:\t{:016x}", set.0),
            (_, _, Some(highest)) if name == "FDSize" => writeln!(text, "{name}:\t{}", table_size(highest)),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

/// How many descriptors the kernel has room for when this is the highest that was ever open (fs/file.c,
/// `alloc_fdtable`): never fewer than 64, then powers of two from 256.
fn table_size(highest: i32) -> u32 {
    if highest < 64 { 64 } else { (highest as u32 + 1).next_power_of_two().max(256) }
}

/// `statm`.
pub(super) fn statm(usage: &Usage, layout: Option<Layout>) -> String {
    let Usage { mapped, resident, of_files, shared, data, stack, .. } = *usage;
    let figures = [mapped, resident, of_files + shared, code_bytes(layout), 0, data + stack, 0];
    let pages: Vec<String> = figures.iter().map(|bytes| (bytes / PAGE_SIZE).to_string()).collect();
    format!("{}\n", pages.join(" "))
}

/// `stat`: without a layout, with zero for every address that is endo's, as the kernel shows them to those who may not
/// trace the process (fs/proc/array.c). `layout` comes with the start of the heap.
pub(super) fn stat(host: &str, usage: &Usage, layout: Option<(Layout, u64)>, masks: Option<Masks>) -> String {
    // The second field, in parentheses, may hold anything.
    let Some(end) = host.rfind(')') else { return String::new() };
    let (start, rest) = host.split_at(end + 1);
    let mut text = start.to_owned();
    // The first after the parenthesis is the third.
    for (field, shown) in (3..).zip(rest.split_ascii_whitespace()) {
        let known = stat_field(field, usage, layout, masks);
        let _ = match known {
            Some(value) => write!(text, " {value}"),
            None => write!(text, " {shown}"),
        };
    }
    text.push('\n');
    text
}

/// A field that is not the host's, numbered as in proc_pid_stat(5).
fn stat_field(
    field: usize,
    usage: &Usage,
    layout: Option<(Layout, u64)>,
    masks: Option<Masks>,
) -> Option<u64> {
    // Only signals that fit a word of old are told.
    let signals = |set: SigSet| set.0 & 0x7fff_ffff;
    match (field, layout) {
        (23, _) => Some(usage.mapped),
        (24, _) => Some(usage.resident / PAGE_SIZE),
        (26, Some((layout, _))) => Some(layout.code.0),
        (27, Some((layout, _))) => Some(layout.code.1),
        (28, Some((layout, _))) => Some(layout.stack),
        (45, Some((layout, _))) => Some(layout.data.0),
        (46, Some((layout, _))) => Some(layout.data.1),
        (47, Some((_, heap))) => Some(heap),
        (48, Some((layout, _))) => Some(layout.arguments.0),
        (49, Some((layout, _))) => Some(layout.arguments.1),
        (50, Some((layout, _))) => Some(layout.environment.0),
        (51, Some((layout, _))) => Some(layout.environment.1),
        (26..=30 | 35 | 45..=51, _) => Some(0),
        (32, _) => masks?.blocked.map(signals),
        (33, _) => masks.map(|masks| signals(masks.ignored)),
        (34, _) => masks.map(|masks| signals(masks.caught)),
        _ => None,
    }
}

/// `limits`: those on memory are the guest's own.
pub(super) fn limits(host: &str, limits: MemoryLimits) -> String {
    let shown =
        |limit: u64| if limit == Limit::INFINITY { "unlimited".to_owned() } else { limit.to_string() };
    let mut text = String::new();
    for line in host.lines() {
        let own = [("Max address space", limits.address_space), ("Max data size", limits.data)];
        let _ = match own.into_iter().find(|(name, _)| line.starts_with(name)) {
            Some((name, Limit { soft, hard })) => {
                writeln!(text, "{name:<25} {:<20} {:<20} {:<10}", shown(soft), shown(hard), "bytes")
            }
            None => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage {
        mapped: 0x10_0000,
        resident: 0x8000,
        anonymous: 0x3000,
        of_files: 0x4000,
        shared: 0x1000,
        data: 0x2000,
        stack: 0x1000,
        code: 0x5000,
        swapped: 0,
        locked: 0,
        of_endo: 0x1000,
    };
    const LAYOUT: Layout = Layout {
        code: (0x40_1010, 0x40_1ff0),
        data: (0x40_3000, 0x40_3010),
        stack: 0x7000,
        arguments: (0x7100, 0x7110),
        environment: (0x7110, 0x7180),
    };

    #[test]
    fn stat_has_the_guests_addresses_or_none() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let host = format!("1 (a) b) {}\n", fields.join(" "));
        let field = |text: &str, number: usize| {
            text.strip_prefix("1 (a) b) ").unwrap().split_whitespace().nth(number - 3).unwrap().to_owned()
        };
        let own = stat(&host, &USAGE, Some((LAYOUT, 0x9000)), None);
        let shown = [25, 26, 28, 29, 47, 51, 52].map(|number| field(&own, number));
        assert_eq!(shown, ["25", "4198416", "28672", "0", "36864", "29056", "52"]);
        let other = stat(&host, &USAGE, None, None);
        assert_eq!([23, 24, 26, 35, 51].map(|number| field(&other, number)), ["1048576", "8", "0", "0", "0"]);
    }

    #[test]
    fn status_has_the_guests_memory_and_signals() {
        let host = "Name:\tx\nFDSize:\t1024\nVmSize:\t 9999999 kB\nVmHWM:\t      40 kB\nVmExe:\t 1 kB\nSigBlk:\tff\nSigCgt:\tff\n";
        let masks = Masks { blocked: None, ignored: SigSet::EMPTY, caught: SigSet::EMPTY.with(Signal::SEGV) };
        let shown = status(host, &USAGE, Some(LAYOUT), Some(masks), Some(100));
        let expected = "Name:\tx\nFDSize:\t256\nVmSize:\t    1024 kB\nVmHWM:\t      36 kB\nVmExe:\t       4 kB\n\
            SigBlk:\tff\nSigCgt:\t0000000000000400\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn statm_counts_pages() {
        assert_eq!(statm(&USAGE, Some(LAYOUT)), "256 8 5 1 0 3 0\n");
    }

    #[test]
    fn the_limits_on_memory_are_the_guests() {
        let host = "Max data size             unlimited            unlimited            bytes     \n";
        let limit = Limit { soft: 4096, hard: Limit::INFINITY };
        let shown = limits(host, MemoryLimits { address_space: limit, data: limit });
        assert_eq!(shown, "Max data size             4096                 unlimited            bytes     \n");
    }
}

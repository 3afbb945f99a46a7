//! What of the machine matters to Endo: kernel, processor, memory, limits.

use super::Section;

/// Release and settings of the kernel.
pub(super) fn kernel() -> Section {
    let mut section = Section::new("kernel");
    section.add("release", setting("/proc/sys/kernel/osrelease"));
    section.add("architecture", std::env::consts::ARCH);
    section.add("seccomp actions", setting("/proc/sys/kernel/seccomp/actions_avail"));
    section.add("address randomisation", setting("/proc/sys/kernel/randomize_va_space"));
    section
}

/// Features of the processor, as the kernel lists them.
pub(super) fn processor() -> Section {
    /// Which features matter, and what for.
    const FEATURES: &[(&str, &str)] = &[
        ("fsgsbase", "segment bases without a system call"),
        ("xsavec", "compact vector state"),
        ("pku", "protection keys (mpk)"),
        ("ospke", "protection keys, enabled by the kernel (mpk)"),
        ("avx2", "256-bit vectors of guests"),
        ("avx512f", "512-bit vectors of guests"),
        ("user_shstk", "shadow stacks, which guests are not offered"),
        ("poe", "permission overlays (poe)"),
        ("mte", "memory tagging (mte)"),
    ];
    let mut section = Section::new("cpu");
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |names: [&str; 2]| {
        let lines = information.lines().filter_map(|line| line.split_once(':'));
        let mut values =
            lines.filter(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim());
        values.next().unwrap_or_default()
    };
    section
        .add("model", Some(field(["model name", "CPU part"])).filter(|m| !m.is_empty()).unwrap_or("unknown"));
    let flags: Vec<&str> = field(["flags", "Features"]).split_whitespace().collect();
    for (feature, purpose) in FEATURES {
        let presence = if flags.contains(feature) { "yes" } else { "no" };
        section.add(*feature, format!("{presence}: {purpose}"));
    }
    section
}

/// Memory management.
pub(super) fn memory() -> Section {
    let mut section = Section::new("memory");
    section.add("addresses below 4 GiB", low_addresses());
    section.add("lowest address (vm.mmap_min_addr)", setting("/proc/sys/vm/mmap_min_addr"));
    section.add("overcommit (vm.overcommit_memory)", setting("/proc/sys/vm/overcommit_memory"));
    section.add("mappings (vm.max_map_count)", setting("/proc/sys/vm/max_map_count"));
    section.add("transparent huge pages", setting("/sys/kernel/mm/transparent_hugepage/enabled"));
    section
}

/// Whether the window of software fault isolation is free.
fn low_addresses() -> String {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return "unknown: /proc/self/maps cannot be read".to_owned();
    };
    let starts = maps.lines().filter_map(|line| line.split_once('-'));
    let taken =
        starts.filter_map(|(start, _)| u64::from_str_radix(start, 16).ok()).filter(|&start| start < 1 << 32);
    match taken.min() {
        None => "free".to_owned(),
        Some(start) => format!("taken at {start:#x}: sfi cannot have its window"),
    }
}

/// Resource limits that guests inherit.
pub(super) fn limits() -> Section {
    const LIMITS: &[(&str, &str)] = &[
        ("Max address space", "address space (ulimit -v)"),
        ("Max stack size", "stack (ulimit -s)"),
        ("Max data size", "data (ulimit -d)"),
        ("Max open files", "open files (ulimit -n)"),
        ("Max processes", "processes (ulimit -u)"),
    ];
    let mut section = Section::new("limits");
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    for (kernel_name, name) in LIMITS {
        let line = text.lines().find_map(|line| line.strip_prefix(kernel_name));
        section.add(*name, line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown"));
    }
    section
}

fn setting(path: &str) -> String {
    let unknown = format!("unknown: {path} cannot be read");
    std::fs::read_to_string(path).map_or(unknown, |text| text.trim().to_owned())
}

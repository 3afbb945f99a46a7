//! The table of workloads.

use std::{fs, io};

use crate::inputs::Inputs;

/// What is measured about a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// CPU time of a program that computes; these make up the geometric mean.
    Compute,
    /// The same from what the program says about its throughput (`openssl speed -mr`).
    Throughput,
    /// CPU time of a loop of system calls.
    Calls,
    /// CPU time of a loop of signals.
    Signals,
    /// CPU time, children's included, of a loop of forks, execs, messages, page faults or mappings.
    Processes,
    /// Milliseconds over native, and resident bytes over native, of a program that does next to nothing.
    Start,
}

/// How much a workload does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// About a second natively.
    Full,
    /// About a fifth of that.
    Quick,
}

/// A program to measure.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name in tables.
    pub name: &'static str,
    /// What is measured.
    pub kind: Kind,
    /// What the ratio should not exceed; for [`Kind::Start`] the milliseconds over native.
    pub target: Option<f64>,
    /// The command in words, run in the directory of inputs. A first word without a slash is one of ours; `#` stands
    /// for the count; `< FILE` at the end is its input.
    pub command: &'static str,
    /// The counts at full and at quick scale.
    pub counts: [u64; 2],
}

impl Workload {
    /// The words of the command, and the file that it reads.
    pub fn words(&self, scale: Scale) -> (Vec<String>, Option<&'static str>) {
        let count = self.counts[usize::from(scale == Scale::Quick)].to_string();
        let (command, input) = match self.command.split_once(" < ") {
            Some((command, input)) => (command, Some(input)),
            None => (self.command, None),
        };
        let words = command.split_whitespace().map(|word| word.replace('#', &count)).collect();
        (words, input)
    }

    /// What it reads from its standard input.
    pub fn input(&self, inputs: &Inputs, scale: Scale) -> io::Result<Option<Vec<u8>>> {
        self.words(scale).1.map(|name| fs::read(inputs.directory.join(name))).transpose()
    }
}

const fn row(
    name: &'static str,
    kind: Kind,
    target: f64,
    command: &'static str,
    counts: [u64; 2],
) -> Workload {
    let target = if target > 0.0 { Some(target) } else { None };
    Workload { name, kind, target, command, counts }
}

use Kind::{Calls, Compute, Processes, Signals, Start, Throughput};

/// Highest ratio of any program.
pub const HIGHEST: f64 = 1.45;
/// Highest geometric mean of the programs that compute.
pub const HIGHEST_MEAN: f64 = 1.08;
/// Most resident bytes over native of a small program.
pub const MOST_RESIDENT: u64 = 20 << 20;

const NONE: [u64; 2] = [0, 0];

/// All of them.
#[rustfmt::skip]
pub const ALL: &[Workload] = &[
    row("getppid", Calls, 1.10, "calls getppid #", [3_000_000, 500_000]),
    row("read 1 byte", Calls, 1.15, "calls read #", [2_000_000, 400_000]),
    row("write 1 byte", Calls, 1.15, "calls write #", [2_000_000, 400_000]),
    row("clock_gettime", Calls, 1.30, "calls clock #", [20_000_000, 3_000_000]),
    row("signal install", Signals, 1.30, "signals install #", [4_000_000, 600_000]),
    row("signal catch", Signals, 1.50, "signals catch #", [500_000, 80_000]),
    row("protection fault", Signals, 2.00, "signals fault #", [500_000, 80_000]),
    row("fork, exit", Processes, 2.00, "processes fork #", [5_000, 1_000]),
    row("fork, exec", Processes, 3.00, "processes exec #", [1_000, 200]),
    row("pipe ping-pong", Processes, 1.15, "processes pipe #", [150_000, 30_000]),
    row("AF_UNIX ping-pong", Processes, 1.15, "processes socket #", [150_000, 30_000]),
    row("thread create, join", Processes, 2.00, "threads create #", [30_000, 6_000]),
    row("futex ping-pong", Processes, 1.20, "threads futex #", [150_000, 30_000]),
    row("page fault", Processes, 1.10, "processes fault #", [1_000_000, 200_000]),
    row("mmap, munmap", Processes, 0.0, "processes map #", [200_000, 40_000]),
    row("gzip", Compute, 1.05, "/bin/gzip -c mixed", NONE),
    row("gunzip", Compute, 0.0, "/bin/gzip -dc mixed.gz mixed.gz mixed.gz mixed.gz mixed.gz", NONE),
    row("xz", Compute, 1.10, "/usr/bin/xz -2 -T1 -c mixed", NONE),
    row("unxz", Compute, 0.0, "/usr/bin/xz -dc mixed.xz mixed.xz", NONE),
    row("bzip2", Compute, 0.0, "/bin/bzip2 -c less less", NONE),
    row("bunzip2", Compute, 0.0, "/bin/bzip2 -dc mixed.bz2 mixed.bz2 mixed.bz2 mixed.bz2", NONE),
    row("zstd", Compute, 1.08, "/usr/bin/zstd -q -12 -c mixed", NONE),
    row("unzstd", Compute, 0.0, "/usr/bin/zstd -q -dc mixed.zst mixed.zst mixed.zst mixed.zst mixed.zst mixed.zst mixed.zst mixed.zst mixed.zst mixed.zst", NONE),
    row("sha256sum", Compute, 1.05, "/usr/bin/sha256sum mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed", NONE),
    row("md5sum", Compute, 0.0, "/usr/bin/md5sum mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed", NONE),
    row("sqlite script", Compute, 1.12, "/usr/bin/sqlite3 :memory: < scripts.sql", NONE),
    row("sqlite on file", Compute, 0.0, "/usr/bin/sqlite3 temporary.db < scripts.sql", NONE),
    row("python loop", Compute, 1.15, "/usr/bin/python3.11 -I loop.py #", [3_000_000, 500_000]),
    row("python json, re", Compute, 0.0, "/usr/bin/python3.11 -I documents.py #", [250, 40]),
    row("perl", Compute, 1.20, "/usr/bin/perl loop.pl #", [2_000_000, 300_000]),
    row("lua", Compute, 1.08, "/usr/bin/lua5.4 loop.lua #", [24_000_000, 3_000_000]),
    row("gcc -S", Compute, 1.35, "/usr/bin/gcc -O2 -S -o /dev/null program.c", NONE),
    row("mawk", Compute, 0.0, "/usr/bin/mawk -f loop.awk text text", NONE),
    row("gawk", Compute, 0.0, "/usr/bin/gawk -f loop.awk less less less less less less", NONE),
    row("sort", Compute, 0.0, "/usr/bin/sort --parallel=1 text text text text", NONE),
    row("grep", Compute, 0.0, "/bin/grep -cE (ka|to)+[0-9]?.*ver(men|pro)$ text text text text text text text text", NONE),
    row("sed", Compute, 0.0, "/bin/sed -n s/\\([a-z]*\\).\\([a-z]*\\)/\\2/gp less", NONE),
    row("tar", Compute, 0.0, "/bin/tar -c --to-stdout /usr/include mixed mixed mixed", NONE),
    row("bc", Compute, 0.0, "/usr/bin/bc -lq < digits.bc", NONE),
    row("dash", Compute, 0.0, "/bin/dash loop.sh #", [1_000_000, 150_000]),
    row("busybox sha1sum", Compute, 0.0, "/bin/busybox sha1sum mixed mixed mixed mixed mixed mixed mixed mixed mixed mixed", NONE),
    row("fib", Compute, 1.40, "compute fib #", [500, 80]),
    row("switch interpreter", Compute, 1.20, "compute switch #", [200, 40]),
    row("virtual calls", Compute, 1.20, "objects virtual #", [300, 60]),
    row("containers", Compute, 0.0, "objects containers #", [150, 30]),
    row("exceptions", Compute, 0.0, "objects exceptions #", [300, 60]),
    row("function pointers", Compute, 0.0, "compute pointers #", [100, 20]),
    row("quicksort", Compute, 0.0, "compute quicksort #", [60, 12]),
    row("qsort", Compute, 0.0, "compute qsort #", [80, 16]),
    row("list chase", Compute, 0.0, "compute list #", [150, 20]),
    row("matrix", Compute, 0.0, "compute matrix #", [600, 120]),
    row("nbody", Compute, 0.0, "compute nbody #", [800, 160]),
    row("hash table", Compute, 0.0, "compute hash #", [1500, 200]),
    row("strings", Compute, 0.0, "compute strings #", [3000, 400]),
    row("malloc", Compute, 0.0, "compute malloc #", [400, 80]),
    row("sieve", Compute, 0.0, "compute sieve #", [300, 60]),
    row("AES 16 KiB", Throughput, 0.0, "/usr/bin/openssl speed -mr -elapsed -seconds # -bytes 16384 -evp aes-128-cbc", [2, 1]),
    row("AES 64 B", Throughput, 0.0, "/usr/bin/openssl speed -mr -elapsed -seconds # -bytes 64 -evp aes-128-cbc", [2, 1]),
    row("SHA-256 16 KiB", Throughput, 0.0, "/usr/bin/openssl speed -mr -elapsed -seconds # -bytes 16384 -evp sha256", [2, 1]),
    row("SHA-256 64 B", Throughput, 0.0, "/usr/bin/openssl speed -mr -elapsed -seconds # -bytes 64 -evp sha256", [2, 1]),
    row("/bin/true", Start, 4.0, "/bin/true", NONE),
    row("echo", Start, 0.0, "/bin/echo hello", NONE),
    row("static true", Start, 0.0, "/bin/busybox true", NONE),
    row("ls", Start, 0.0, "/bin/ls /usr/include", NONE),
    row("python -c pass", Start, 30.0, "/usr/bin/python3.11 -c pass", NONE),
    row("perl -e 1", Start, 0.0, "/usr/bin/perl -e 1", NONE),
];

//! Another process's memory, seen from outside.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    pub(crate) is_executable: bool,
    pub(crate) name: String,
}

/// What is mapped in a process.
pub(crate) fn mappings(process: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{process}/maps")).expect("the process runs");
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Mapping {
    let mut words = line.split_whitespace();
    let (start, end) = words.next().and_then(|range| range.split_once('-')).expect("a line has a range");
    let rights = words.next().expect("a line has rights").as_bytes();
    let number = |text| u64::from_str_radix(text, 16).expect("a range is two numbers");
    Mapping {
        start: number(start),
        end: number(end),
        is_readable: rights[0] == b'r',
        is_writable: rights[1] == b'w',
        is_executable: rights[2] == b'x',
        name: words.nth(3).unwrap_or_default().to_owned(),
    }
}

/// Bytes of a process's memory.
pub(crate) fn read_memory(process: u32, address: u64, size: usize) -> Vec<u8> {
    let memory = File::open(format!("/proc/{process}/mem")).expect("the process is a child of ours");
    let mut bytes = vec![0; size];
    memory
        .read_exact_at(&mut bytes, address)
        .unwrap_or_else(|error| panic!("read {size} bytes at {address:x}: {error}"));
    bytes
}

/// Where the canary lies on the process's own stack.
pub(crate) fn canary_address(process: u32, canary: &str) -> u64 {
    let stack = mappings(process)
        .into_iter()
        .find(|mapping| mapping.name == "[stack]")
        .expect("every process has the stack that the kernel gave it");
    let bytes = read_memory(process, stack.start, (stack.end - stack.start) as usize);
    let found = bytes.windows(canary.len()).rposition(|window| window == canary.as_bytes());
    stack.start + found.expect("the environment lies on the stack") as u64
}

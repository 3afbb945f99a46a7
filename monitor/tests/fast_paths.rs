//! Calls on fast paths under `endo run` do what they do natively, and reach nothing that is not the guest's.
//!
//! Each test runs one case of `fast_paths/calls.c` natively and under Endo. `ENDO_BACKEND` chooses the backend.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use endo_testing::{Guest, Under, compile, has_processor_flag};

fn case(name: &str) -> Guest {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fast_paths/calls.c");
    Guest::new(compile("gcc -O1 -w", &[source.into()])).argument(name)
}

/// Starts the guest, which says "ready" and waits for the addresses of pages that its process has and it should not
/// know. Returns what it says about them.
fn told_addresses(under: &Under, choose: impl Fn(&str) -> bool) -> String {
    let mut command = case("foreign").command(under);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("the guest says something");
    assert_eq!(line, "ready\n");
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).expect("it is alive");
    let writable = maps.lines().filter(|line| line.contains(" rw-p ") && choose(line));
    let addresses: Vec<&str> = writable.map(|line| line.split('-').next().expect("a start")).collect();
    assert!(!addresses.is_empty(), "there is such memory:\n{maps}");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{}", addresses.join("\n")).expect("the guest listens");
    drop(input);
    let mut said = String::new();
    output.read_line(&mut said).expect("the guest says something");
    assert!(child.wait().expect("it ends").success());
    said
}

/// Whether a line of /proc/PID/maps is of memory past the guest's window.
fn is_high(line: &str) -> bool {
    line.split('-').next().is_some_and(|start| start.len() > 8)
}

#[test]
fn no_call_reaches_the_monitors_memory() {
    assert_eq!(told_addresses(&Under::Endo, is_high), "reached 0 bytes\n");
}

#[test]
fn the_same_calls_reach_such_memory_where_nobody_stands_between() {
    assert_ne!(told_addresses(&Under::Native, |line| line.contains("[heap]")), "reached 0 bytes\n");
}

#[test]
fn pointers_to_nothing_fail_and_nothing_is_lost() {
    case("bad_pointers").same_and_succeeds();
}

#[test]
fn pieces_and_their_arrays_are_checked_as_the_kernel_does() {
    case("vectors").same_and_succeeds();
}

#[test]
fn clocks_fail_as_the_kernels_calls_do() {
    case("clocks").same_and_succeeds();
}

#[test]
fn files_have_the_status_that_the_kernel_tells() {
    let outcome = case("statuses").same_and_succeeds();
    assert!(outcome.text().ends_with("0 0\n"), "{}", outcome.text());
}

#[test]
fn what_is_read_over_code_that_ran_is_what_runs_next() {
    case("code").same_and_succeeds();
}

#[test]
fn a_read_that_begins_before_such_code_is_not_short() {
    case("code_at_the_end").same_and_succeeds();
}

#[test]
fn status_and_direction_flags_survive() {
    case("flags").same_and_succeeds();
}

#[test]
fn general_registers_survive() {
    case("registers").same_and_succeeds();
}

#[test]
fn whole_vector_registers_survive() {
    let width = match () {
        () if has_processor_flag("avx512f") && has_processor_flag("avx512bw") => "zmm",
        () if has_processor_flag("avx") => "ymm",
        () => "xmm",
    };
    case(width).same_and_succeeds();
}

#[test]
fn signals_in_the_midst_of_calls_leave_registers_and_results_alone() {
    case("interrupted").same_and_succeeds();
}

#[test]
fn a_traced_guest_has_every_call_in_its_trace() {
    let traced =
        Under::EndoWith(["--backend", &endo_testing::backend(), "--trace"].map(str::to_owned).to_vec());
    let outcome = case("clocks").run(&traced);
    let trace = String::from_utf8_lossy(&outcome.stderr).into_owned();
    for call in ["clock_gettime(", "gettimeofday(", "getcpu(", "write(1, "] {
        assert!(trace.contains(call), "{call} in\n{trace}");
    }
}

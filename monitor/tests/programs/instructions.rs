//! Instructions one by one: registers, flags, memory and faults are what the machine makes of them.
//!
//! Each test runs one file of snippets (`guests/snippets.h` says how they work) and compares what it prints.

use std::path::PathBuf;

use endo_testing::{Guest, Status, compile, has_processor_flag};

use super::binaries::source;

/// How the snippets are built: at fixed addresses, without a C library.
const COMMAND: &str = "gcc -static -nostdlib -no-pie -O2 -ffreestanding -fno-stack-protector -fno-tree-loop-distribute-patterns";

fn program(name: &str) -> PathBuf {
    compile(COMMAND, &[source(name), source("runtime.c"), source("runtime_entry.S")])
}

/// Runs a file of snippets and makes sure that as many as it has were run.
fn same(name: &str, snippets: usize) {
    let outcome = Guest::new(program(name)).same();
    assert_eq!(outcome.status, Status::Exited(0));
    assert!(outcome.text().lines().count() >= snippets, "{}", outcome.text());
}

#[test]
fn bit_instructions_reach_as_far_as_natively() {
    same("bits.S", 116);
}

#[test]
fn string_instructions_work_in_both_directions_with_every_prefix() {
    same("strings.S", 158);
}

#[test]
fn pushes_pops_frames_and_all_writes_of_rsp_agree() {
    same("stack.S", 36);
}

#[test]
fn jumps_calls_returns_and_faults_agree() {
    same("control.S", 69);
}

/// As in programs with very much code.
#[test]
fn instructions_agree_when_the_processor_predicts_returns() {
    for (name, snippets) in [("stack.S", 36), ("control.S", 69), ("segments.S", 18)] {
        let outcome = Guest::new(program(name)).same_with(&["--no-cache", "--predict-returns"]);
        assert_eq!(outcome.status, Status::Exited(0), "{name}");
        assert!(outcome.text().lines().count() >= snippets, "{}", outcome.text());
    }
}

/// The dynamic linker, longjmp (lua's errors), threads, signals and exceptions with them; and what one run keeps serves the next.
#[test]
fn programs_agree_when_the_processor_predicts_returns() {
    let store = tempfile::TempDir::new().expect("there is room for scratch files");
    let directory = store.path().to_str().expect("a path of text");
    for _ in 0..2 {
        for (program, arguments) in PREDICTED {
            let guest = Guest::new(program).arguments(*arguments);
            let outcome = guest.same_with(&["--cache-dir", directory, "--predict-returns"]);
            assert_eq!(outcome.status, Status::Exited(0), "{program}");
        }
    }
}

const PREDICTED: &[(&str, &[&str])] = &[
    ("/usr/bin/lua5.4", &["-e", "for i = 1, 300 do assert(not pcall(error, i)) end print(('x'):rep(9))"]),
    (
        "/usr/bin/python3.11",
        &[
            "-c",
            "import threading, json\nts = [threading.Thread(target=lambda: json.dumps(list(range(9999)))) for _ in 'abcd']\n[t.start() for t in ts]; [t.join() for t in ts]; print(sum(range(9999)))",
        ],
    ),
    ("/bin/bash", &["-c", "trap 'echo caught' USR1; kill -USR1 $$; echo $(echo inner) | tr a-z A-Z"]),
];

#[test]
fn memory_operands_of_every_form_agree() {
    same("addressing.S", 45);
}

#[test]
fn accesses_through_fs_and_gs_agree() {
    same("segments.S", 18);
}

#[test]
fn vector_instructions_reach_memory_alike() {
    if has_processor_flag("avx2") && has_processor_flag("aes") && has_processor_flag("f16c") {
        same("vectors_memory.S", 14);
    } else {
        eprintln!("skipped: the processor has no AVX2");
    }
}

//! Programs built here: C, C++ and Rust, linked in every way.

use std::path::{Path, PathBuf};

use endo_testing::{Guest, Outcome, Status, compile, has_processor_flag};

/// The path of a guest's source.
pub(super) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/guests").join(name)
}

fn built(command: &str, name: &str) -> Guest {
    Guest::new(compile(command, &[source(name)]))
}

fn same_and_succeeds(command: &str, name: &str) -> Outcome {
    built(command, name).same_and_succeeds()
}

fn says_hello(command: &str) {
    let guest = built(command, "hello.c").arguments(["one", "", "two words"]).variable("NAME", "value");
    let outcome = guest.same();
    assert_eq!(outcome.status, Status::Exited(44));
    assert!(outcome.text().starts_with("at the start\n") && outcome.text().ends_with("at the end\n"));
}

#[test]
fn a_dynamic_position_independent_program_runs() {
    says_hello("gcc -O2 -pie -fPIE -lm");
}

#[test]
fn a_dynamic_program_at_fixed_addresses_runs() {
    says_hello("gcc -O2 -no-pie -lm");
}

#[test]
fn a_static_program_runs() {
    says_hello("gcc -O2 -static -no-pie -lm");
}

#[test]
fn a_static_position_independent_program_runs() {
    says_hello("gcc -O2 -static-pie -lm");
}

#[test]
fn a_static_musl_program_runs() {
    says_hello("musl-gcc -O2 -static -lm");
}

#[test]
fn a_program_bound_at_start_and_without_optimisation_runs() {
    says_hello("gcc -O0 -Wl,-z,now -lm");
}

#[test]
fn function_pointers_jump_tables_and_deep_recursion_work() {
    for options in
        ["gcc -O2", "gcc -O0", "gcc -O3 -static -fno-plt", "gcc -O2 -fcf-protection=full -fno-pie -no-pie"]
    {
        same_and_succeeds(options, "calls.c");
    }
}

#[test]
fn longjmp_and_contexts_work() {
    let outcome = same_and_succeeds("gcc -O2", "jumps.c");
    assert!(outcome.text().contains("context 2 ends\nback in main\n"));
}

#[test]
fn code_that_changes_is_run_as_it_is_now() {
    let outcome = same_and_succeeds("gcc -O2", "patch.c");
    assert!(outcome.text().starts_with("patched immediates 1999000\n"));
}

#[test]
fn a_small_jit_works_while_it_reuses_addresses() {
    let outcome = same_and_succeeds("gcc -O2", "jit.c");
    assert!(outcome.text().contains(", 0 wrong\n"));
}

#[test]
fn vector_code_gives_the_same_checksums() {
    for flag in ["avx2", "avx512vl"] {
        if !has_processor_flag(flag) {
            eprintln!("skipped in part: the processor has no {flag}");
        }
    }
    if has_processor_flag("avx2") {
        same_and_succeeds("gcc -O2 -mavx2 -mfma", "vectors.c");
        same_and_succeeds("gcc -O0 -mavx2 -mfma", "vectors.c");
    }
}

#[test]
fn x87_code_keeps_its_precision_and_state() {
    same_and_succeeds("gcc -O2 -lm", "x87.c");
}

#[test]
fn thread_local_variables_are_found_in_programs_and_libraries() {
    let library = compile("gcc -O2 -shared -fPIC", &[source("tls_library.c")]);
    for command in ["gcc -O2", "gcc -O0 -no-pie", "gcc -O2 -fPIC -ftls-model=global-dynamic"] {
        built(command, "tls.c").argument(&library).same_and_succeeds();
    }
}

#[test]
fn the_processor_and_its_clock_look_the_same() {
    same_and_succeeds("gcc -O1", "processor.c");
}

#[test]
fn cpp_exceptions_and_virtual_calls_work() {
    let outcome = built("g++ -O2 -std=c++17", "exceptions.cc").same();
    assert_eq!(outcome.status, Status::Killed(6));
    assert!(outcome.text().contains("std::bad_cast\n"));
    assert_eq!(built("g++ -O1 -std=c++17 -static", "exceptions.cc").same().status, Status::Killed(6));
}

#[test]
fn rust_panics_and_trait_objects_work() {
    let outcome = built("rustc --edition 2024 -O", "panics.rs").same();
    assert_eq!(outcome.status, Status::Exited(101));
    assert!(outcome.text().contains("number 77\n"));
}

//! Endo on a machine with protection keys: what it says of it, and that programs run under software fault isolation
//! there as elsewhere.
//!
//! `cargo xtask vm tests` runs it in the emulated machine; `cargo test` leaves it out.

#![cfg(target_arch = "x86_64")]

use std::process::Command;

use endo_testing::{Guest, Status, endo_binary, has_processor_flag};

/// What `endo doctor` says of something.
fn diagnosis(name: &str) -> String {
    let output = Command::new(endo_binary()).arg("doctor").output().expect("endo can be started");
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8(output.stdout).expect("endo prints UTF-8");
    println!("{report}");
    let line = report.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect(name);
    line.trim().to_owned()
}

#[test]
fn the_machine_has_protection_keys() {
    assert!(has_processor_flag("pku") && has_processor_flag("ospke"));
}

#[test]
fn the_doctor_misses_no_keys() {
    let diagnosis = diagnosis("mpk");
    assert!(diagnosis.starts_with("usable: "), "{diagnosis}");
}

#[test]
fn the_doctor_finds_software_fault_isolation_usable() {
    assert!(diagnosis("sfi").starts_with("usable: "));
}

#[test]
fn a_static_program_does_under_endo_what_it_does_natively() {
    let script = "for word in one two three; do echo $word; done | sort; expr 6 '*' 7; exit 5";
    let outcome = Guest::new("/usr/bin/busybox").arguments(["sh", "-c", script]).same();
    assert_eq!(outcome.status, Status::Exited(5));
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "one\nthree\ntwo\n42\n");
}

#[test]
fn a_dynamic_program_does_under_endo_what_it_does_natively() {
    let outcome = Guest::shell("for word in one two three; do echo $word; done | sort").same();
    assert_eq!(outcome.status, Status::Exited(0));
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "one\nthree\ntwo\n");
}

#[test]
fn an_interpreter_does_under_endo_what_it_does_natively() {
    let program = "import json, zlib, math\n\
                   print(json.dumps([math.factorial(20), zlib.crc32(b'endo')]), sum(x * x for x in range(1000)))";
    let python = Guest::new("/usr/bin/python3.11").arguments(["-c", program]).limit_seconds(120);
    let outcome = python.same();
    assert_eq!(outcome.status, Status::Exited(0));
    assert!(outcome.stdout.starts_with(b"[2432902008176640000"));
}

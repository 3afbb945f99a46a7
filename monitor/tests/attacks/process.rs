//! What a process does to itself: its limits, its signal frames, the functions that are mapped into it, its monitor's file.

use std::fs;
use std::process::Command;

use endo_testing::{Guest, Status, Under, endo_binary};
use tempfile::TempDir;

use crate::session::{built, is_always_confined, program};

#[test]
fn limits_that_make_the_monitors_calls_fail_set_nothing_free() {
    let limits = Guest::new(built("gcc -O1 -w -pthread", "limits.c")).limit_seconds(120);
    let [native, ours] = is_always_confined(&limits, 11);
    assert_eq!(native.replace("free", "confined"), ours);
}

#[test]
fn a_frame_that_another_thread_edits_sets_nothing_free() {
    let frames = Guest::new(built("gcc -O1 -w -pthread", "frames.c"));
    let [_, ours] = is_always_confined(&frames, 8);
    // No handler has seen the monitor being stepped through.
    assert!(ours.contains(" elsewhere 0\n"), "{ours}");
}

#[test]
fn the_calls_in_the_mapped_functions_set_nothing_free() {
    let [native, ours] = is_always_confined(&Guest::new(program("vdso.c")), 1);
    assert_eq!(native.replace("free", "confined"), ours);
}

#[test]
fn the_monitors_file_is_not_changed_and_not_exchanged() {
    let place = TempDir::new().expect("there is room for scratch files");
    let [victim, monitor] = ["victim", "monitor"].map(|name| {
        let copy = place.path().join(name);
        fs::copy(endo_binary(), &copy).expect("there is room for copies");
        copy
    });
    let program = program("overwritten.c");
    // The file of no running program can be changed.
    let native = Guest::new(&program).argument(&victim).run(&Under::Native);
    assert_eq!(native.status, Status::Exited(0));
    let text = native.text();
    assert_eq!(text, "opened: written\ncut: written\nreplaced: written\nbefore it: free\nafter it: free\n");
    let mut command = Command::new(&monitor);
    command.args(["run", "--backend", "sfi", "--no-cache", "--"]).arg(&program).arg(&monitor);
    let ours = command.current_dir(place.path()).output().expect("the copy runs");
    let text = String::from_utf8_lossy(&ours.stdout).into_owned();
    assert_eq!(text, "opened: busy\ncut: busy\nreplaced: written\nbefore it: confined\nafter it: confined\n");
    assert!(ours.status.success(), "{}", ours.status);
}

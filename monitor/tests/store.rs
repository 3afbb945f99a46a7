//! Translations that are kept from one run to the next: they are used, and whatever happens to them a program does what it
//! does natively.
//!
//! Where the kernel's keyring cannot be used (some containers deny it) nothing is kept, and these tests only see that
//! programs run all the same.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use endo_testing::{backend, compile, endo_binary};
use tempfile::TempDir;

fn source(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store")).join(name)
}

fn steps(number: u8) -> PathBuf {
    compile(&format!("gcc -O1 -w -DNUMBER={number}"), &[source("steps.c")])
}

/// Whether anything can be kept here.
static IS_KEPT: LazyLock<bool> = LazyLock::new(|| {
    let place = TempDir::new().unwrap();
    run(place.path(), &["/bin/true".into()]);
    let is_kept = backend() == "sfi" && fs::read_dir(place.path()).unwrap().count() > 0;
    let report =
        Command::new(endo_binary()).arg("doctor").env("ENDO_CACHE_DIR", place.path()).output().unwrap();
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(is_kept || backend() != "sfi" || report.contains("keyring cannot be used"), "{report}");
    is_kept
});

fn endo(directory: &Path) -> Command {
    let mut command = Command::new(endo_binary());
    command.args(["run", "--backend", &backend(), "--stats", "--cache-dir"]).arg(directory).arg("--");
    command.stdin(Stdio::null());
    command
}

fn run(directory: &Path, program: &[PathBuf]) -> Output {
    endo(directory).args(program).output().expect("endo can be started")
}

/// A figure of `--stats`.
fn figure(output: &Output, name: &str) -> u64 {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn taken(output: &Output) -> u64 {
    figure(output, "fragments taken from the store")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Status and output of `steps`.
fn assert_right(output: &Output, number: u8) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(number.into()), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{number} 63 1\n"));
}

/// A directory in which a run of `steps(1)` has left what it translated.
fn filled() -> TempDir {
    let place = TempDir::new().unwrap();
    assert_right(&run(place.path(), &[steps(1)]), 1);
    assert!(!*IS_KEPT || !files(place.path()).is_empty());
    place
}

#[test]
fn the_second_run_takes_what_the_first_has_made() {
    let place = filled();
    let second = run(place.path(), &[steps(1)]);
    assert_right(&second, 1);
    if *IS_KEPT {
        let (taken, made) = (taken(&second), figure(&second, "fragments translated"));
        assert!(taken > 100 && made < taken / 5, "{taken} taken, {made} made");
    }
}

#[test]
fn programs_share_what_their_libraries_need() {
    let place = filled();
    let other = run(place.path(), &["/bin/true".into()]);
    assert_eq!(other.status.code(), Some(0));
    assert!(!*IS_KEPT || taken(&other) > 100);
}

#[test]
fn without_a_directory_nothing_is_kept() {
    let place = filled();
    let mut command = Command::new(endo_binary());
    command.args(["run", "--backend", &backend(), "--stats", "--no-cache", "--"]).arg(steps(1));
    let output = command.env("ENDO_CACHE_DIR", place.path()).output().unwrap();
    assert_right(&output, 1);
    assert_eq!(taken(&output), 0);
}

#[test]
fn another_program_in_the_place_of_the_first_is_not_mistaken_for_it() {
    let place = TempDir::new().unwrap();
    let home = TempDir::new().unwrap();
    let program = home.path().join("program");
    for number in [1, 2, 1, 3] {
        // Written over in place: the inode stays.
        fs::write(&program, fs::read(steps(number)).unwrap()).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for _ in 0..2 {
            assert_right(&run(place.path(), std::slice::from_ref(&program)), number);
        }
    }
}

#[test]
fn code_that_a_program_makes_or_changes_is_its_own() {
    let place = TempDir::new().unwrap();
    let jit = compile("gcc -O1 -w", &[source("jit.c")]);
    for _ in 0..3 {
        let output = run(place.path(), std::slice::from_ref(&jit));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "42 7 42\n");
    }
}

#[test]
fn damaged_files_change_nothing() {
    let place = filled();
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..12 {
        for file in files(place.path()) {
            let mut bytes = fs::read(&file).unwrap();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] ^= 1 << (seed >> 60 & 7);
            }
            fs::write(&file, bytes).unwrap();
        }
        assert_right(&run(place.path(), &[steps(1)]), 1);
    }
}

#[test]
fn files_cut_short_or_empty_change_nothing() {
    let place = filled();
    for divisor in [2, 10, 1000, usize::MAX] {
        for file in files(place.path()) {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / divisor]).unwrap();
        }
        assert_right(&run(place.path(), &[steps(1)]), 1);
    }
}

#[test]
fn files_that_others_may_write_and_links_are_replaced() {
    let place = filled();
    let elsewhere = TempDir::new().unwrap();
    for (number, file) in files(place.path()).into_iter().enumerate() {
        if number % 2 == 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        } else {
            let target = elsewhere.path().join(file.file_name().unwrap());
            fs::rename(&file, &target).unwrap();
            symlink(&target, &file).unwrap();
        }
    }
    let refusing = run(place.path(), &[steps(1)]);
    assert_right(&refusing, 1);
    assert_eq!(taken(&refusing), 0);
    for file in files(place.path()) {
        let status = fs::symlink_metadata(&file).unwrap();
        assert!(status.is_file() && status.permissions().mode() & 0o777 == 0o600, "{}", file.display());
    }
    let again = run(place.path(), &[steps(1)]);
    assert!(!*IS_KEPT || taken(&again) > 100);
}

#[test]
fn a_directory_that_others_may_write_is_not_used() {
    let place = filled();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = run(place.path(), &[steps(1)]);
    assert_right(&output, 1);
    assert_eq!(taken(&output), 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("translations are not kept"));
}

#[test]
fn a_directory_that_cannot_be_made_or_is_a_file_costs_nothing_else() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "x").unwrap();
    for directory in [file.clone(), file.join("below"), PathBuf::from("/proc/endo")] {
        let output = run(&directory, &[steps(1)]);
        assert_right(&output, 1);
        assert!(String::from_utf8_lossy(&output.stderr).contains("translations are not kept"));
    }
}

/// On a file system of 64 KiB, in a mount namespace of its own; where there are none of these, in a directory that cannot
/// be written.
#[test]
fn no_room_for_files_costs_nothing_else() {
    let place = TempDir::new().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=0700 none '{0}' || chmod 0500 '{0}'; '{1}' run --backend {2} --cache-dir '{0}' -- '{3}'
         echo $?; find '{0}' -mindepth 1 -name '*.*'",
        place.path().display(),
        endo_binary().display(),
        backend(),
        steps(1).display()
    );
    let output = Command::new("unshare").args(["-rm", "/bin/sh", "-c", &script]).output();
    let output = output
        .ok()
        .filter(|output| output.status.success())
        .unwrap_or_else(|| Command::new("/bin/sh").args(["-c", &script]).output().expect("there is a shell"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 63 1\n1\n", "{output:?}");
}

#[test]
fn several_processes_fill_a_directory_at_once() {
    let place = TempDir::new().unwrap();
    let start =
        || endo(place.path()).arg(steps(1)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..3 {
        let children: Vec<_> = (0..6).map(|_| start()).collect();
        for child in children {
            assert_right(&child.wait_with_output().unwrap(), 1);
        }
    }
    assert!(!*IS_KEPT || taken(&run(place.path(), &[steps(1)])) > 100);
    let unfinished = files(place.path()).into_iter().filter(|file| file.extension().is_some());
    assert_eq!(unfinished.count(), 0);
}

#[test]
fn programs_that_a_guest_executes_use_it_too() {
    let place = TempDir::new().unwrap();
    let script = format!("'{0}'; '{0}'; exec '{0}'", steps(1).display());
    for _ in 0..2 {
        let output = run(place.path(), &["/bin/sh".into(), "-c".into(), script.clone().into()]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1 63 1\n".repeat(3));
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_guest_cannot_ask_for_the_key() {
    let place = TempDir::new().unwrap();
    let guest = compile("gcc -O1 -w", &[source("key.c")]);
    let native = Command::new(&guest).output().unwrap();
    let confined = run(place.path(), &[guest]);
    assert_eq!(String::from_utf8_lossy(&confined.stdout), "38 38 38\n", "ENOSYS");
    assert!(!*IS_KEPT || native.stdout != confined.stdout, "natively the calls do something");
}

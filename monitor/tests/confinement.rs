//! A guest that loads, stores, jumps, or hands pointers to the kernel outside its window, in every form of instruction,
//! touches nothing of endo's and gets what the kernel would have given it.
//!
//! The guest (`programs/guests/outside.S`) is told where to aim by this test, which finds endo's own memory in
//! `/proc/PID/maps`. The same program run natively with the same addresses says what is to be expected: nothing is
//! mapped there in its address space.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "confinement/aims.rs"]
mod aims;
#[path = "confinement/session.rs"]
mod session;

use aims::{Mapping, canary_address, mappings, read_memory};
use endo_testing::Under;
use session::{Report, Session};

/// What is looked for on endo's stack: a variable of its environment, which nobody changes.
const CANARY: &str = "ENDO_TEST_CANARY=a-canary-of-8-bytes-or-more-that-nobody-changes-0123456789abcdef";

/// Addresses that no mapping has anything to do with: just past the window, far past it, the last page below the
/// kernel's half.
const PAST_THE_WINDOW: [u64; 4] = [0x1_0000_0000, 0x1_1234_0000, 0x7000_1234_5678, 0x7fff_ffff_e000];

/// Addresses of the kernel's half, and some that are no addresses.
const BEYOND_USERS: [u64; 4] =
    [0xffff_ffff_ffff_fff8, 0xffff_8000_0000_1000, 0x8000_1234_0000, 0x1234_5678_1234_0000];

#[test]
fn no_form_of_instruction_reaches_endos_memory() {
    let mut session = Session::start(&Under::Endo, CANARY);
    let process = session.process();
    let canary = canary_address(process, CANARY);
    let targets = targets_of(&mappings(process));
    assert!(targets.len() >= 6, "too little of endo was found: {targets:x?}");
    let watched: Vec<(u64, Vec<u8>)> = targets
        .iter()
        .filter(|target| target.is_quiet)
        .map(|target| (target.address, read_memory(process, target.address, 64)))
        .collect();
    let mut aims = vec![canary, canary + 1];
    aims.extend(targets.iter().map(|target| target.address));
    let ours = session.aim_at(&aims);
    assert_eq!(read_memory(process, canary, CANARY.len()), CANARY.as_bytes(), "the canary has changed");
    for (address, before) in watched {
        assert_eq!(read_memory(process, address, 64), before, "{address:x} has changed");
    }
    session.finish();
    expect_what_the_machine_does(&ours, &aims);
}

#[test]
fn what_lies_past_the_window_is_not_there() {
    let mut session = Session::start(&Under::Endo, CANARY);
    let ours = session.aim_at(&PAST_THE_WINDOW);
    session.finish();
    expect_what_the_machine_does(&ours, &PAST_THE_WINDOW);
}

/// Compares with a native run: signal, code, address, registers, flags, memory. Emitted code cuts the pointers of strings
/// and the stack to 32 bits before it uses them, so of those forms only the lower halves are compared.
fn expect_what_the_machine_does(ours: &Report, aims: &[u64]) {
    let mut native = Session::start(&Under::Native, CANARY);
    let theirs = native.aim_at(aims);
    native.finish();
    let differences = ours.differences_from(&theirs);
    assert!(ours.forms() >= 150, "only {} forms", ours.forms());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn addresses_that_no_user_has_end_in_a_fault() {
    let mut session = Session::start(&Under::Endo, CANARY);
    let ours = session.aim_at(&BEYOND_USERS);
    session.finish();
    let mut native = Session::start(&Under::Native, CANARY);
    let theirs = native.aim_at(&BEYOND_USERS);
    native.finish();
    // The machine refuses most of them without an address, and those on the stack with SIGBUS.
    let differences = ours.differences_in_faults(&theirs);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn an_address_that_wraps_into_the_window_harms_nobody_else() {
    let mut session = Session::start(&Under::Endo, CANARY);
    let process = session.process();
    let canary = canary_address(process, CANARY);
    // The lower halves of these are the guest's own memory, where the access lands.
    let own = session.own_memory();
    let report = session.aim_at(&[own + 0x7000_0000_0000, own + 0x1_0000_0000]);
    assert_eq!(read_memory(process, canary, CANARY.len()), CANARY.as_bytes(), "the canary has changed");
    session.finish();
    assert!(report.forms() >= 150, "only {} forms", report.forms());
}

/// Without isolation a store reaches the canary: the attack is real.
#[test]
fn without_isolation_the_canary_dies() {
    let null = Under::EndoWith(vec!["--backend".to_owned(), "null".to_owned()]);
    let mut session = Session::start_for_one_store(&null, CANARY);
    let process = session.process();
    let canary = canary_address(process, CANARY);
    session.aim_at(&[canary]);
    assert_ne!(
        read_memory(process, canary, CANARY.len()),
        CANARY.as_bytes(),
        "the attack does not work at all"
    );
    session.finish();
}

/// A place of endo's to aim at.
#[derive(Debug)]
struct Target {
    address: u64,
    /// Whether nothing but an attack would change it.
    is_quiet: bool,
}

/// A place in each kind of mapping outside the window.
fn targets_of(mappings: &[Mapping]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut seen = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.start >= 1 << 32 && mapping.is_readable) {
        let kind = (mapping.name.clone(), mapping.is_writable, mapping.is_executable);
        if mapping.name.starts_with("[v") || seen.contains(&kind) {
            continue;
        }
        seen.push(kind);
        // The last bytes of a mapping are rarely in use.
        let address = mapping.end - 128;
        targets.push(Target { address, is_quiet: !mapping.is_writable });
    }
    targets
}

//! What a program that dies on purpose finds in the file that the kernel makes of it.

use std::fs;

use endo_testing::{Guest, Outcome, Status, Under};

use crate::session::CANARY;

/// One past the guest's window.
const WINDOW_END: u64 = 1 << 32;

/// A part of memory in a core file.
struct Part<'a> {
    address: u64,
    is_executable: bool,
    bytes: &'a [u8],
}

/// The memory in a core file (elf(5), `PT_LOAD`).
fn parts(core: &[u8]) -> Vec<Part<'_>> {
    const LOAD: u64 = 1;
    const EXECUTABLE: u64 = 1;
    let number = |at: usize, size: usize| {
        let bytes = core[at..at + size].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(&core[..4], b"\x7fELF");
    let headers = (0..number(56, 2) as usize).map(|index| number(32, 8) as usize + 56 * index);
    let of_memory = headers.filter(|&at| number(at, 4) == LOAD);
    of_memory
        .map(|at| {
            let [offset, address, bytes] = [8, 16, 32].map(|field| number(at + field, 8));
            let is_executable = number(at + 4, 4) & EXECUTABLE != 0;
            Part { address, is_executable, bytes: &core[offset as usize..(offset + bytes) as usize] }
        })
        .collect()
}

fn hold_the_canary(parts: &[Part<'_>]) -> bool {
    let is_there = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    parts.iter().any(|part| is_there(part.bytes))
}

/// The core file of a program that dies of a signal, with a variable in its environment.
fn dead(signal: &str, under: &Under) -> Outcome {
    let (name, value) = CANARY.split_once('=').expect("the canary is a variable with a value");
    let script = format!("ulimit -c unlimited; kill -{signal} $$");
    let outcome = Guest::shell(&script).variable(name, value).run(under);
    assert!(matches!(outcome.status, Status::Killed(_)), "{:?}", outcome.status);
    outcome
}

/// Where the kernel leaves core files; a program that it hands them to leaves them who knows where.
fn are_left_here() -> bool {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("every kernel has the file");
    let is_local = pattern.starts_with("core");
    if !is_local {
        println!("not tried: this machine's core files do not lie where the program ran: {pattern}");
    }
    is_local
}

/// The signal that no code of the monitor's sees, and the one that it takes from the kernel first.
#[test]
fn a_core_file_holds_the_guests_memory_and_none_of_the_monitors() {
    if !are_left_here() {
        return;
    }
    for signal in ["ABRT", "SEGV"] {
        for under in [Under::Native, Under::Endo] {
            let outcome = dead(signal, &under);
            let core = outcome.files.iter().find(|(name, _)| name.starts_with("core"));
            let (_, (_, core)) = core.unwrap_or_else(|| panic!("{under:?}: there is a core file"));
            let (guests, others): (Vec<_>, Vec<_>) =
                parts(core).into_iter().partition(|part| part.address < WINDOW_END);
            if under == Under::Native {
                assert!(hold_the_canary(&others), "it would be found where the program is");
                continue;
            }
            assert!(hold_the_canary(&guests), "{signal}: the guest's own memory is there");
            assert!(!hold_the_canary(&others), "{signal}: the monitor's stack is there too");
            // The kernel never leaves out the pages of its own functions.
            let code = others.iter().filter(|part| part.is_executable).map(|part| part.bytes.len());
            assert!(code.sum::<usize>() <= 4 * 4096, "{signal}: the monitor's code is there too");
        }
    }
}

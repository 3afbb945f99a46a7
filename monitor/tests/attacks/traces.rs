//! What the monitor leaves behind: in registers, in memory.

use endo_testing::{Guest, Under};

use crate::aims::{Mapping, mappings, read_memory};
use crate::session::{Session, program};

/// One past the guest's window.
const WINDOW_END: u64 = 1 << 32;

#[test]
fn no_call_leaves_anything_in_registers_or_changes_a_mode() {
    let outcome = Guest::new(program("residue.c")).same_and_succeeds();
    assert!(outcome.text().lines().all(|line| line.ends_with(':')), "{}", outcome.text());
}

/// The words in the guest's writable memory that are addresses of endo's, with where they are.
fn addresses_of_endos(process: u32) -> Vec<(u64, u64)> {
    let (guests, endos): (Vec<Mapping>, Vec<Mapping>) =
        mappings(process).into_iter().partition(|mapping| mapping.start < WINDOW_END);
    let is_endos = |word: u64| {
        let mut mappings = endos.iter().filter(|mapping| mapping.name != "[vsyscall]");
        mappings.any(|mapping| (mapping.start..mapping.end).contains(&word))
    };
    let mut found = Vec::new();
    for mapping in guests.iter().filter(|mapping| mapping.is_readable && mapping.is_writable) {
        let bytes = read_memory(process, mapping.start, (mapping.end - mapping.start) as usize);
        let (words, _) = bytes.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).enumerate();
        found.extend(
            words.filter(|&(_, word)| is_endos(word)).map(|(at, word)| (mapping.start + 8 * at as u64, word)),
        );
    }
    found
}

#[test]
fn no_address_of_the_monitors_lies_in_the_guests_memory() {
    let mut session = Session::start(&Guest::new(program("traces.c")), &Under::Endo);
    assert_eq!(session.hear(), ["ready"]);
    let process = session.process();
    assert_eq!(addresses_of_endos(process), []);
    // The search would find one.
    let some =
        mappings(process).into_iter().find(|mapping| mapping.start >= WINDOW_END && mapping.is_executable);
    let some = some.expect("endo has code").start + 64;
    session.tell(&format!("{some:x}"));
    assert_eq!(session.hear(), ["planted"]);
    assert_eq!(addresses_of_endos(process).iter().map(|&(_, word)| word).collect::<Vec<_>>(), [some]);
    session.tell("enough");
    assert!(session.end().success());
}

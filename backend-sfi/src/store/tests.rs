use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use endo_core::{CodeOrigin, StoreConfig, StoreKey};
use proptest::prelude::*;
use tempfile::TempDir;

use super::Store;
use super::record::{Parts, Record};
use crate::cache::Gate;
use crate::returns::Returns;
use crate::translate::{Alone, Constants, ExitSite, MapEntry, Source, Translator};
use crate::verify::{Claims, ContextSlots, Gates, Layout, Verifier};

const START: u32 = 0x40_1000;
const PAGE_NUMBER: u32 = START / 4096;

fn store(directory: &Path, key: u8) -> Store {
    let directory = Arc::new(OwnedFd::from(std::fs::File::open(directory).unwrap()));
    Store::new(&StoreConfig { directory, key: StoreKey([key; 32]) }, b"layout").unwrap()
}

fn origin(base: u64) -> CodeOrigin {
    CodeOrigin { device: 1, inode: 2, length: 3, modified: (4, 5), changed: (6, 7), base }
}

fn parts() -> Parts<'static> {
    Parts {
        start: START,
        address: 0x1000,
        source: &[0x90; 2500],
        body: &[0xe9, 1, 2, 3, 4, 0xe9, 5, 6, 7, 8],
        map: &[MapEntry { guest: 0, code: 0 }, MapEntry { guest: 1, code: 5 }],
        exits: &[ExitSite { site: 1, target: 0x40_2000, stub: None }],
        entries: &[(START, 0)],
        gates: &[(6, Gate::Special)],
    }
}

/// Saves one fragment, twice the size that is worth saving, and says where.
fn save_one(directory: &Path, key: u8) -> PathBuf {
    let mut first = store(directory, key);
    first.admit(origin(0), PAGE_NUMBER, PAGE_NUMBER);
    first.keep(&origin(0), &parts());
    first.keep(&origin(0), &Parts { start: START + 1, ..parts() });
    first.save();
    assert_eq!(first.saved, 2);
    std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

/// How many records another process finds.
fn found(directory: &Path, key: u8, base: u64) -> usize {
    let mut second = store(directory, key);
    second.admit(origin(base), PAGE_NUMBER, PAGE_NUMBER);
    second.take(&origin(base), PAGE_NUMBER).map_or(0, |group| group.records().count())
}

#[test]
fn what_was_kept_is_found_again() {
    let place = TempDir::new().unwrap();
    let file = save_one(place.path(), 1);
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut second = store(place.path(), 1);
    second.admit(origin(0), PAGE_NUMBER, PAGE_NUMBER);
    let group = second.take(&origin(0), PAGE_NUMBER).unwrap();
    let bytes = parts().to_bytes().unwrap();
    assert_eq!(group.records().next(), Record::take(&mut &bytes[..]));
    assert!(second.take(&origin(0), PAGE_NUMBER).is_none(), "once is enough");
}

#[test]
fn another_key_address_or_state_of_the_file_finds_nothing() {
    let place = TempDir::new().unwrap();
    save_one(place.path(), 1);
    assert_eq!(
        [found(place.path(), 1, 0), found(place.path(), 2, 0), found(place.path(), 1, 0x1000)],
        [2, 0, 0]
    );
    let changed = CodeOrigin { modified: (4, 6), ..origin(0) };
    let mut second = store(place.path(), 1);
    second.admit(changed, PAGE_NUMBER, PAGE_NUMBER);
    assert!(second.take(&changed, PAGE_NUMBER).is_none());
}

#[test]
fn a_file_under_the_name_of_another_is_refused() {
    let place = TempDir::new().unwrap();
    let ours = save_one(place.path(), 1);
    let elsewhere = TempDir::new().unwrap();
    let foreign = save_one(elsewhere.path(), 2);
    std::fs::copy(foreign, ours).unwrap();
    assert_eq!(found(place.path(), 1, 0), 0);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let place = TempDir::new().unwrap();
    let file = save_one(place.path(), 1);
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&file, bad).unwrap();
        assert_eq!(found(place.path(), 1, 0), 0, "byte {at}");
    }
    std::fs::write(&file, good).unwrap();
    assert_eq!(found(place.path(), 1, 0), 2);
}

#[test]
fn a_file_cut_short_is_refused() {
    let place = TempDir::new().unwrap();
    let file = save_one(place.path(), 1);
    let good = std::fs::read(&file).unwrap();
    for length in (0..good.len()).step_by(7) {
        std::fs::write(&file, &good[..length]).unwrap();
        assert_eq!(found(place.path(), 1, 0), 0, "{length} bytes");
    }
}

#[test]
fn what_others_could_have_written_is_refused_and_replaced() {
    let place = TempDir::new().unwrap();
    let file = save_one(place.path(), 1);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(found(place.path(), 1, 0), 0);
    let target = place.path().join("target");
    std::fs::rename(&file, &target).unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&target, &file).unwrap();
    assert_eq!(found(place.path(), 1, 0), 0);
    save_one(place.path(), 1);
    assert_eq!(found(place.path(), 1, 0), 2);
    assert!(!std::fs::symlink_metadata(&file).unwrap().is_symlink());
}

#[test]
fn new_fragments_join_old_ones_and_dropped_ones_go() {
    let place = TempDir::new().unwrap();
    save_one(place.path(), 1);
    let mut second = store(place.path(), 1);
    second.admit(origin(0), PAGE_NUMBER, PAGE_NUMBER);
    second.keep(&origin(0), &Parts { start: START + 2, ..parts() });
    second.keep(&origin(0), &Parts { start: START + 4096, ..parts() });
    second.drop_fragment(&origin(0), START);
    second.save();
    let mut third = store(place.path(), 1);
    third.admit(origin(0), PAGE_NUMBER, PAGE_NUMBER + 1);
    let mut starts = |page| -> Vec<u32> {
        third.take(&origin(0), page).unwrap().records().map(|record| record.start).collect()
    };
    assert_eq!(
        (starts(PAGE_NUMBER), starts(PAGE_NUMBER + 1)),
        (vec![START + 1, START + 2], vec![START + 4096])
    );
}

#[test]
fn little_that_is_new_is_not_worth_a_file() {
    let place = TempDir::new().unwrap();
    let mut first = store(place.path(), 1);
    first.admit(origin(0), PAGE_NUMBER, PAGE_NUMBER);
    first.keep(&origin(0), &parts());
    first.save();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn several_writers_leave_a_whole_file() {
    let place = TempDir::new().unwrap();
    save_one(place.path(), 1);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for round in 0..50 {
                    let mut store = store(place.path(), 1);
                    store.admit(origin(0), PAGE_NUMBER, PAGE_NUMBER);
                    for more in 0..4 {
                        let start = START + 2 + writer * 1000 + round * 4 + more;
                        store.keep(&origin(0), &Parts { start, ..parts() });
                    }
                    store.save();
                    assert!(found(place.path(), 1, 0) >= 2);
                }
            });
        }
    });
}

/// Nothing else is translated in these tests.
const ALONE: Alone = Alone { next_exit: 77 };

fn translator(gates: u64) -> Translator {
    Translator::new(-1024, Constants { link: gates, special: gates + 16, syscall: gates + 32 })
}

fn translate(translator: &mut Translator, code: &[u8], address: u64) {
    translator.source_mut().clear();
    translator.source_mut().extend_from_slice(code);
    let source = Source { start: START, limit: 100, indirect: true, overlap: 0 };
    translator.translate(source, address, &ALONE);
}

/// What another process makes of a fragment is what it would have translated itself, to the byte.
#[test]
fn a_restored_fragment_is_the_one_that_a_translation_makes() {
    let code = [
        &[0x48, 0x89, 0x07][..],                        // mov [rdi], rax
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], // mov rax, fs:[0x28]
        &[0x0f, 0x84, 0x10, 0, 0, 0],                   // je forward
        &[0xe8, 0x00, 0x10, 0, 0],                      // call
        &[0x0f, 0x05],                                  // syscall
        &[0x0f, 0xa2],                                  // cpuid
        &[0x90; 16],
        &[0x75, 0xf5], // jne back
        &[0xff, 0xe0], // jmp rax
    ]
    .concat();
    let (here, there) = (0x7000_1000, 0x7777_3010);
    let mut first = translator(0x7000_0000);
    translate(&mut first, &code, here);
    let parts = Parts {
        start: START,
        address: here,
        source: &code[..(first.end() - START) as usize],
        body: &first.code()[..first.body() as usize],
        map: first.map(),
        exits: first.exits(),
        entries: first.indirect_entries(),
        gates: first.gates(),
    };
    let bytes = parts.to_bytes().unwrap();
    let record = Record::take(&mut &bytes[..]).unwrap();
    let (mut restored, mut fresh) = (translator(0x7777_0000), translator(0x7777_0000));
    assert!(restored.restore(&record, there, &ALONE));
    translate(&mut fresh, &code, there);
    assert_eq!(restored.code(), fresh.code());
    assert_eq!((restored.map(), restored.exits()), (fresh.map(), fresh.exits()));
    assert_eq!((restored.indirect_entries(), restored.gates()), (fresh.indirect_entries(), fresh.gates()));
    assert_eq!((restored.end(), restored.body()), (fresh.end(), fresh.body()));
    assert!(!fresh.exits().is_empty() && fresh.gates().len() >= 2 && fresh.indirect_entries().len() >= 2);
}

/// What the restored fragments of a record pass before they may run.
fn verifier(gates: u64) -> Verifier {
    Verifier::new(Layout {
        cache: gates..gates + 0x10_0000,
        context: ContextSlots {
            spill: -1024..-992,
            guest_bases: -992..-976,
            return_target: -976,
            return_stack: -968,
            exit_info: -960,
        },
        gates: Gates { link: gates, special: gates + 16, syscall: gates + 32, miss: gates + 48 },
        returns: Returns::Dispatched,
    })
}

/// Whoever knows the key can write records of any bytes. They do not run.
#[test]
fn code_that_is_not_confined_is_refused_wherever_it_comes_from() {
    let escapes: [&[u8]; 5] = [
        &[0x0f, 0x05, 0xe9, 0, 0, 0, 0],          // syscall
        &[0x48, 0x89, 0x07, 0xe9, 0, 0, 0, 0],    // mov [rdi], rax
        &[0xff, 0xe0, 0x90, 0xe9, 0, 0, 0, 0],    // jmp rax
        &[0x90, 0x90, 0x90, 0x90],                // nothing at the end
        &[0xe9, 0, 0x10, 0, 0, 0x90, 0x90, 0x90], // a jump that is no exit
    ];
    for body in escapes {
        let map = &[MapEntry { guest: 0, code: 0 }];
        let exits: &[ExitSite] = if body.len() < 7 || body[0] == 0xe9 {
            &[]
        } else {
            &[ExitSite { site: body.len() as u32 - 4, target: 0x40_2000, stub: None }]
        };
        let parts = Parts { body, map, exits, entries: &[], gates: &[], ..parts() };
        let bytes = parts.to_bytes().unwrap();
        let record = Record::take(&mut &bytes[..]).unwrap();
        let mut translator = translator(0x7777_0000);
        let address = 0x7777_3000;
        if translator.restore(&record, address, &ALONE) {
            let verdict =
                verifier(0x7777_0000).admit(address, translator.code(), &Claims { indirect_entries: &[] });
            assert!(verdict.is_err(), "{body:x?}");
        }
    }
}

proptest! {
    /// Only somebody with the key could write such a record; even then it is refused or makes a fragment to be verified.
    #[test]
    fn a_damaged_record_is_refused_or_restored_without_harm(at in 0_usize..64, value: u8) {
        let mut bytes = parts().to_bytes().unwrap();
        bytes[at] = value;
        if let Some(record) = Record::take(&mut &bytes[..]) {
            translator(0x7777_0000).restore(&record, 0x7777_3000, &ALONE);
        }
    }

    #[test]
    fn noise_is_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut rest = &bytes[..];
        while let Some(record) = Record::take(&mut rest) {
            prop_assert!(record.map().all(|entry| usize::from(entry.code) < record.body.len()));
        }
    }
}

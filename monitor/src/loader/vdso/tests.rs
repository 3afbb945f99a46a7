//! The image as C libraries read it.

use goblin::elf::Elf;

use super::*;

fn u16_at(at: usize) -> usize {
    u16::from_le_bytes([IMAGE[at], IMAGE[at + 1]]).into()
}

fn u32_at(at: usize) -> usize {
    u32::from_le_bytes(std::array::from_fn(|i| IMAGE[at + i])) as usize
}

fn string_at(at: usize) -> &'static str {
    std::ffi::CStr::from_bytes_until_nul(&IMAGE[at..]).unwrap().to_str().unwrap()
}

/// What the dynamic section says of `tag`, found through the program headers alone.
fn dynamic(tag: u64) -> usize {
    let elf = Elf::parse(&IMAGE).unwrap();
    let entries = elf.dynamic.unwrap().dyns;
    entries.iter().find(|entry| entry.d_tag == tag).expect("the entry is there").d_val as usize
}

/// Whether a symbol has this name and this version.
fn matches(symbol: usize, name: &str, version: &str) -> bool {
    let strings = dynamic(dynamic::DT_STRTAB);
    let at = dynamic(dynamic::DT_SYMTAB) + symbol * sym::SIZEOF_SYM;
    let wanted = u16_at(dynamic(dynamic::DT_VERSYM) + symbol * 2);
    let mut definition = dynamic(dynamic::DT_VERDEF);
    while u16_at(definition + 4) != wanted {
        assert_ne!(u32_at(definition + 16), 0, "the version is defined");
        definition += u32_at(definition + 16);
    }
    let version_name = string_at(strings + u32_at(definition + u32_at(definition + 12)));
    assert_eq!(u32_at(definition + 8), elf_hash(version_name) as usize);
    string_at(strings + u32_at(at)) == name && version_name == version
}

/// A look-up by `DT_HASH`.
fn find_by_hash(name: &str, version: &str) -> Option<usize> {
    let table = dynamic(dynamic::DT_HASH);
    let (buckets, chains) = (u32_at(table), table + 8 + u32_at(table) * 4);
    let mut symbol = u32_at(table + 8 + elf_hash(name) as usize % buckets * 4);
    while symbol != 0 && !matches(symbol, name, version) {
        symbol = u32_at(chains + symbol * 4);
    }
    (symbol != 0).then_some(symbol)
}

/// A look-up by `DT_GNU_HASH`.
fn find_by_gnu_hash(name: &str, version: &str) -> Option<usize> {
    let table = dynamic(dynamic::DT_GNU_HASH);
    let (buckets, first, filter_words) = (u32_at(table), u32_at(table + 4), u32_at(table + 8));
    let hash = gnu_hash(name) as usize;
    let buckets_at = table + 16 + filter_words * 8;
    let mut symbol = u32_at(buckets_at + hash % buckets * 4);
    loop {
        let entry = u32_at(buckets_at + buckets * 4 + (symbol - first) * 4);
        if entry | 1 == hash | 1 && matches(symbol, name, version) {
            return Some(symbol);
        }
        if entry & 1 != 0 {
            return None;
        }
        symbol += 1;
    }
}

#[test]
fn hashes_are_those_of_known_names() {
    assert_eq!(elf_hash("LINUX_2.6"), 61_765_110);
    assert_eq!(elf_hash("LINUX_2.6.39"), 123_718_537);
    assert_eq!(gnu_hash("printf"), 0x156b_2bb8);
}

#[test]
fn both_hash_tables_find_every_function_with_its_version() {
    for (index, function) in VDSO_FUNCTIONS.iter().enumerate() {
        assert_eq!(find_by_hash(function.name, VDSO_VERSION), Some(index + 1));
        assert_eq!(find_by_gnu_hash(function.name, VDSO_VERSION), Some(index + 1));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    assert_eq!(find_by_hash("__vdso_nothing", VDSO_VERSION), None);
    assert_eq!(find_by_gnu_hash("__vdso_nothing", VDSO_VERSION), None);
    assert_eq!(find_by_hash(VDSO_FUNCTIONS[0].name, SONAME), None);
}

#[test]
fn every_function_is_a_stub_that_makes_its_call() {
    let elf = Elf::parse(&IMAGE).unwrap();
    assert_eq!(elf.soname, Some(SONAME));
    for (symbol, function) in elf.dynsyms.iter().skip(1).zip(VDSO_FUNCTIONS) {
        let at = symbol.st_value as usize;
        assert_eq!(IMAGE[at..at + VDSO_STUB_LENGTH], arch::vdso_stub(function.number));
        assert!(symbol.is_function() && symbol.st_shndx != 0);
    }
}

#[test]
fn tables_do_not_overlap() {
    let tables = [
        PROGRAM_HEADERS_AT,
        DYNAMIC_AT,
        SYMBOLS_AT,
        HASH_AT,
        GNU_HASH_AT,
        VERSIONS_AT,
        VERSION_DEFINITIONS_AT,
        UNWIND_HEADER_AT,
        UNWIND_AT,
        STRINGS_AT,
        CODE_AT,
    ];
    assert!(tables.is_sorted());
}

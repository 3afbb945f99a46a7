//! Every kind of program, with glibc and with musl.

use endo_testing::Guest;

use crate::guest;

const KINDS: [&str; 7] = [
    "gcc -O1 -fPIE -pie",
    "gcc -O1 -no-pie",
    "gcc -O1 -static",
    "gcc -O1 -static-pie",
    "musl-gcc -O1 -static",
    "musl-gcc -O1",
    "gcc -O1 -fPIE -pie -Wl,-z,max-page-size=0x200000",
];

#[test]
fn a_program_is_told_what_the_kernel_would_tell_it() {
    for kind in KINDS {
        let program = guest(kind, "start.c");
        let outcome =
            Guest::new(program).arguments(["one", "", "three"]).variable("EMPTY", "").same_and_succeeds();
        assert!(outcome.text().contains("entry is _start: 1"), "{kind}: {}", outcome.text());
    }
}

#[test]
fn data_bss_and_heap_are_as_the_file_says() {
    for kind in KINDS {
        let outcome = Guest::new(guest(kind, "memory.c")).same_and_succeeds();
        assert!(outcome.text().ends_with("heap: 1 1 1\n"), "{kind}: {}", outcome.text());
    }
}

#[test]
fn a_program_finds_the_functions_of_the_vdso() {
    let outcome = Guest::new(guest("gcc -O1", "vdso.c")).same_and_succeeds();
    assert!(outcome.text().contains("found: 1"), "{}", outcome.text());
}

#[test]
fn loading_leaves_no_descriptor_behind() {
    for kind in KINDS {
        let outcome = Guest::new(guest(kind, "descriptors.c")).same_and_succeeds();
        assert!(outcome.text().ends_with("next: 3\n"), "{kind}: {}", outcome.text());
    }
}

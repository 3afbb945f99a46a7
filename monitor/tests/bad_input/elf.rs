//! ELF files that cannot be loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::complaint::{Complaint, NOT_EXECUTABLE, NOT_FOUND, Scratch, complaint_about};

/// A real program's bytes.
fn program() -> Vec<u8> {
    fs::read("/bin/true").expect("every Linux has /bin/true")
}

fn complaint_about_bytes(bytes: &[u8]) -> Complaint {
    let scratch = Scratch::new();
    complaint_about(scratch.executable("program", bytes))
}

/// What is said about a real program with other bytes here and there.
fn complaint_about_changed(changes: &[(usize, u8)]) -> Complaint {
    let mut bytes = program();
    changes.iter().for_each(|&(at, value)| bytes[at] = value);
    complaint_about_bytes(&bytes)
}

/// Links a program of one instruction that does nothing but fault.
fn linked(scratch: &Scratch, options: &[&str]) -> PathBuf {
    let source = scratch.file("program.s", ".globl _start\n_start: .byte 0\n", 0o644);
    built(scratch, &[&["-nostdlib", "-Wl,--build-id=none"], options].concat(), &source)
}

fn built(scratch: &Scratch, options: &[&str], source: &Path) -> PathBuf {
    let program = scratch.path("program");
    let built = Command::new("gcc").args(options).arg(source).arg("-o").arg(&program).status().unwrap();
    assert!(built.success());
    program
}

fn says(complaint: &Complaint, what: &str) {
    assert_eq!(complaint.status, NOT_EXECUTABLE, "{}", complaint.text);
    assert!(complaint.text.contains(what), "{}", complaint.text);
}

#[test]
fn a_file_cut_within_its_header_is_truncated() {
    let complaint = complaint_about_bytes(&program()[..40]);
    says(
        &complaint,
        "program: truncated ELF file: its header ends at byte 64, the file has 40 (get an intact copy)",
    );
}

#[test]
fn a_file_cut_within_its_program_headers_is_truncated() {
    says(
        &complaint_about_bytes(&program()[..200]),
        "truncated ELF file: its program header table ends at byte",
    );
}

#[test]
fn a_file_cut_within_a_segment_is_truncated() {
    says(&complaint_about_bytes(&program()[..5000]), "truncated ELF file: a segment ends at byte");
}

#[test]
fn program_headers_of_another_size_are_corrupt() {
    says(
        &complaint_about_changed(&[(0x36, 55)]),
        "corrupt ELF file: program headers of 55 bytes instead of 56",
    );
}

#[test]
fn no_program_headers_are_corrupt() {
    says(&complaint_about_changed(&[(0x38, 0), (0x39, 0)]), "corrupt ELF file: 0 program headers");
}

#[test]
fn program_headers_beyond_the_file_are_truncated() {
    let far: Vec<(usize, u8)> = (0x20..0x28).map(|at| (at, 0x7f)).collect();
    says(&complaint_about_changed(&far), "truncated ELF file: its program header table");
}

#[test]
fn a_32_bit_program_is_refused_by_name() {
    let complaint = complaint_about_changed(&[(4, 1), (0x12, 3)]);
    says(&complaint, "program: a 32-bit ELF file for x86 (i386); only 64-bit");
    says(&complaint, "(use a build for this machine)");
}

#[test]
fn a_program_for_another_machine_is_refused_naming_both() {
    let complaint = complaint_about_changed(&[(0x12, 243)]);
    says(&complaint, "program: an ELF file for risc-v; this is ");
}

#[test]
fn a_big_endian_program_is_refused() {
    says(&complaint_about_changed(&[(5, 2)]), "a big-endian ELF file");
}

#[test]
fn an_unknown_class_is_refused() {
    says(&complaint_about_changed(&[(4, 9)]), "an ELF file of unknown class 9");
}

#[test]
fn an_object_file_is_refused() {
    let scratch = Scratch::new();
    let source = scratch.file("object.s", "nop\n", 0o644);
    let object = built(&scratch, &["-c"], &source);
    fs::set_permissions(&object, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    says(&complaint_about(object), "an ELF object file, not a program (link it into a program first)");
}

#[test]
fn a_missing_dynamic_linker_is_named() {
    let scratch = Scratch::new();
    let source = scratch.file("main.c", "int main(void) { return 0; }\n", 0o644);
    let program = built(&scratch, &["-Wl,--dynamic-linker=/nonexistent/ld.so"], &source);
    let complaint = complaint_about(program);
    assert_eq!(complaint.status, NOT_FOUND);
    let expected = "program: its interpreter (PT_INTERP) /nonexistent/ld.so: no such file (install";
    assert!(complaint.text.contains(expected), "{}", complaint.text);
}

#[test]
fn a_dynamic_linker_that_is_no_program_is_named() {
    let scratch = Scratch::new();
    let text = scratch.executable("ld.so", "text");
    let source = scratch.file("main.c", "int main(void) { return 0; }\n", 0o644);
    let program = built(&scratch, &[&format!("-Wl,--dynamic-linker={}", text.display())], &source);
    says(&complaint_about(program), "ld.so: neither an ELF program nor a script");
}

#[test]
fn segments_beyond_the_window_are_refused_naming_both() {
    let scratch = Scratch::new();
    let program = linked(&scratch, &["-static", "-no-pie", "-Wl,-Ttext-segment=0x600000000000"]);
    let complaint = complaint_about(program);
    says(&complaint, "its segments lie at 0x600000000000-0x6000000");
    says(&complaint, ", outside the addresses 0x10000-");
}

#[test]
fn segments_below_the_window_are_refused() {
    let scratch = Scratch::new();
    let program = linked(&scratch, &["-static", "-no-pie", "-Wl,-Ttext-segment=0x1000"]);
    says(&complaint_about(program), "outside the addresses 0x10000-");
}

#[test]
fn a_movable_program_that_is_too_large_has_no_room() {
    let mut bytes = program();
    let headers = u16::from_le_bytes([bytes[0x38], bytes[0x39]]);
    let mut loaded = (0..usize::from(headers))
        .map(|index| 64 + index * 56)
        .filter(|&at| bytes[at..at + 4] == [1, 0, 0, 0]);
    let last = loaded.next_back().expect("something is loaded");
    // 96 TiB of memory.
    bytes[last + 0x28..last + 0x30].copy_from_slice(&0x6000_0000_0000_u64.to_le_bytes());
    says(&complaint_about_bytes(&bytes), "no room for a program of 0x6000");
}

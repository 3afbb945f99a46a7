//! The lock-step comparer on a static and a dynamic program, and on one whose translation is made to go wrong.

#![cfg(target_arch = "x86_64")]

use std::process::{Command, Output};

use iced_x86::{Decoder, DecoderOptions};

const STATIC_PROGRAM: &str = "/bin/busybox";

fn lockstep(arguments: &[&str]) -> Output {
    let tool = env!("CARGO_BIN_EXE_endo-tools");
    Command::new("timeout")
        .args(["120", tool, "lockstep"])
        .args(arguments)
        .env_clear()
        .output()
        .expect("timeout(1) is there")
}

fn assert_agrees(output: &Output, printed: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("no divergence"), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), printed);
}

#[test]
fn a_static_program_agrees_after_every_instruction() {
    assert_agrees(&lockstep(&[STATIC_PROGRAM, "echo", "hi"]), "hi\n");
}

#[test]
fn a_static_program_agrees_after_every_fragment() {
    assert_agrees(&lockstep(&["--fragments", STATIC_PROGRAM, "echo", "hi"]), "hi\n");
}

#[test]
fn a_dynamic_program_agrees_after_every_instruction() {
    assert_agrees(&lockstep(&["/bin/true"]), "");
}

/// Address of the second instruction of a static program.
fn second_instruction() -> u64 {
    const ENTRY: usize = 24;
    const PROGRAM_HEADERS: usize = 32;
    let file = std::fs::read(STATIC_PROGRAM).expect("busybox-static is installed");
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    let entry = word(ENTRY);
    // The segment that holds the entry: program headers are 56 bytes, offset at 8, address at 16, file size at 32.
    let offset = (0..16)
        .map(|index| word(PROGRAM_HEADERS) as usize + 56 * index)
        .find(|&at| file[at] == 1 && (word(at + 16)..word(at + 16) + word(at + 32)).contains(&entry))
        .map(|at| entry - word(at + 16) + word(at + 8))
        .expect("a loaded segment holds the entry");
    let code = &file[offset as usize..offset as usize + 16];
    Decoder::with_ip(64, code, entry, DecoderOptions::NONE).decode().next_ip()
}

#[test]
fn a_wrong_translation_is_found_at_its_instruction() {
    let wrong = second_instruction();
    let output = lockstep(&["--wrong-at", &format!("{wrong:x}"), STATIC_PROGRAM, "echo", "hi"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.starts_with(&format!("first divergence: step 2, guest {wrong:#x}\n  rax: native")),
        "{told}"
    );
}

//! Scripts that cannot be run.

use crate::complaint::{Complaint, NOT_EXECUTABLE, NOT_FOUND, Scratch, complaint_about};

fn complaint_about_script(line: &str) -> Complaint {
    let scratch = Scratch::new();
    complaint_about(scratch.executable("script", line))
}

#[test]
fn a_missing_interpreter_is_named() {
    let complaint = complaint_about_script("#!/nonexistent/sh -e\n");
    assert_eq!(complaint.status, NOT_FOUND);
    let expected = "script: its #! interpreter /nonexistent/sh: no such file (install it, or correct the script's first line)";
    assert!(complaint.text.ends_with(expected), "{}", complaint.text);
}

#[test]
fn an_interpreter_that_cannot_run_is_named() {
    let complaint = complaint_about_script("#!/usr\n");
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("script: its #! interpreter /usr: is a directory"), "{}", complaint.text);
}

#[test]
fn a_line_without_an_interpreter_is_refused() {
    let complaint = complaint_about_script("#! \t\n");
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("script: the #! line names no interpreter"), "{}", complaint.text);
}

#[test]
fn an_interpreter_without_an_end_is_refused() {
    let complaint = complaint_about_script(&format!("#!/{}", "a".repeat(300)));
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("does not end within 256 bytes"), "{}", complaint.text);
}

#[test]
fn a_script_that_is_its_own_interpreter_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("script");
    scratch.executable("script", format!("#!{}\n", path.display()));
    let complaint = complaint_about(path);
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("more than 5 #! interpreters one after another"), "{}", complaint.text);
}

#[test]
fn a_script_that_is_a_broken_interpreter_is_named() {
    let scratch = Scratch::new();
    let inner = scratch.executable("inner", "text");
    let complaint = complaint_about(scratch.executable("outer", format!("#!{}\n", inner.display())));
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    let expected = format!("outer: its #! interpreter {}: neither an ELF program", inner.display());
    assert!(complaint.text.contains(&expected), "{}", complaint.text);
}

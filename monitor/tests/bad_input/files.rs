//! Files that are not programs at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::complaint::{NOT_EXECUTABLE, NOT_FOUND, Scratch, complaint_about, complaint_of};

#[test]
fn a_path_that_does_not_exist_is_not_found() {
    let complaint = complaint_about("/nonexistent/program");
    assert_eq!(complaint.status, NOT_FOUND);
    assert_eq!(complaint.text, "/nonexistent/program: no such file (check the path)");
}

#[test]
fn a_name_that_no_directory_of_path_has_is_not_found() {
    let complaint = complaint_about("endo-no-such-program");
    assert_eq!(complaint.status, NOT_FOUND);
    assert!(complaint.text.starts_with("endo-no-such-program: not found in PATH"), "{}", complaint.text);
}

#[test]
fn an_empty_name_is_not_found() {
    assert_eq!(complaint_about("").status, NOT_FOUND);
}

#[test]
fn a_path_through_a_file_is_not_executable() {
    let complaint = complaint_about("/etc/passwd/program");
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("not a directory"), "{}", complaint.text);
}

#[test]
fn a_directory_is_not_executable() {
    let complaint = complaint_about("/usr");
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert_eq!(complaint.text, "/usr: is a directory (name a program file)");
}

#[test]
fn a_file_without_the_right_to_execute_is_not_executable() {
    let scratch = Scratch::new();
    let path = scratch.file("data", fs::read("/bin/true").unwrap(), 0o644);
    let complaint = complaint_about(&path);
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("data: not executable (chmod +x"), "{}", complaint.text);
}

#[test]
fn a_program_that_may_not_be_read_is_not_executable() {
    const NOBODY: u32 = 65534;
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let endo = scratch.executable("endo", fs::read(endo_testing::endo_binary()).unwrap());
    let secret = scratch.file("secret", fs::read("/bin/true").unwrap(), 0o711);
    let mut command = Command::new(endo);
    command.args(["run", "--backend", "null", "--"]).arg(&secret);
    if fs::metadata(&secret).is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0) {
        // The superuser may read everything.
        command.uid(NOBODY).gid(NOBODY);
    } else {
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o311)).unwrap();
    }
    let complaint = complaint_of(&mut command);
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("secret: no permission to read it"), "{}", complaint.text);
}

#[test]
fn a_pipe_is_not_executable_and_not_waited_for() {
    let scratch = Scratch::new();
    let made = Command::new("mkfifo").arg("-m777").arg(scratch.path("pipe")).status().unwrap();
    assert!(made.success());
    let complaint = complaint_about(scratch.path("pipe"));
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("pipe: not a regular file"), "{}", complaint.text);
}

#[test]
fn a_device_is_not_executable() {
    let complaint = complaint_about("/dev/null");
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.starts_with("/dev/null: not a regular file"), "{}", complaint.text);
}

#[test]
fn text_without_an_interpreter_is_not_executable() {
    let scratch = Scratch::new();
    let complaint = complaint_about(scratch.executable("text", "echo hello\n"));
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    let expected = "text: neither an ELF program nor a script that begins with #!";
    assert!(complaint.text.contains(expected), "{}", complaint.text);
}

#[test]
fn an_empty_file_is_not_executable() {
    let scratch = Scratch::new();
    let complaint = complaint_about(scratch.executable("empty", ""));
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    assert!(complaint.text.contains("empty: neither an ELF program"), "{}", complaint.text);
}

#[test]
fn a_name_with_a_line_feed_is_still_one_line() {
    let complaint = complaint_about("/no\nsuch\nfile");
    assert_eq!(complaint.text, "/no\\nsuch\\nfile: no such file (check the path)");
}

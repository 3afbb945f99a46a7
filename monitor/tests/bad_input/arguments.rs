//! Arguments that exceed the kernel's limits.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::complaint::{NOT_EXECUTABLE, Scratch, complaint_of};

/// `execve` gives arguments and environment a quarter of this, and no less than 128 KiB.
const STACK_BYTES: u64 = 512 << 10;

/// `endo` with a stack limit, running `program` with an environment of about `bytes` bytes.
fn command(endo: &Path, program: &Path, bytes: usize) -> Command {
    let mut command = Command::new(endo);
    command.args(["run", "--backend", "null"]).arg(program).env_clear().env("REST", "x".repeat(bytes % 1000));
    for index in 0..bytes / 1000 {
        command.env(format!("PAD{index:03}"), "x".repeat(984));
    }
    let set_limit = || {
        let limit = libc::rlimit { rlim_cur: STACK_BYTES, rlim_max: STACK_BYTES };
        // SAFETY: the structure is valid for the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe { command.pre_exec(set_limit) };
    command
}

/// Whether the kernel takes it as far as Endo's own arguments are concerned.
fn starts(command: &mut Command) -> bool {
    match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(mut child) => child.kill().and_then(|()| child.wait()).is_ok(),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
            false
        }
    }
}

#[test]
fn a_script_whose_interpreter_makes_the_arguments_too_long_is_refused() {
    let scratch = Scratch::new();
    let endo = scratch.path("e");
    symlink(endo_testing::endo_binary(), &endo).unwrap();
    // The interpreter's name comes before the script's: it takes more room than Endo's own words that go.
    let interpreter = scratch.path(&"i".repeat(200));
    symlink("/bin/true", &interpreter).unwrap();
    let script = scratch.executable("s", format!("#!{}\n", interpreter.display()));
    let (mut most, mut too_much) = (1000_usize, 200_000);
    while too_much - most > 8 {
        let middle = most.midpoint(too_much);
        if starts(&mut command(&endo, &script, middle)) { most = middle } else { too_much = middle }
    }
    let complaint = complaint_of(&mut command(&endo, &script, most));
    assert_eq!(complaint.status, NOT_EXECUTABLE);
    let expected = "s: too many arguments: ";
    assert!(complaint.text.contains(expected), "{}", complaint.text);
    assert!(
        complaint.text.contains("a program can be given 131072 (pass less, or raise"),
        "{}",
        complaint.text
    );
}

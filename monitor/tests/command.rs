//! What the `endo` command prints when it is asked for something.

#![cfg(target_os = "linux")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use endo_testing::endo_binary;

const SUBCOMMANDS: [&str; 5] = ["run", "doctor", "completions", "man", "version"];
const RUN_OPTIONS: [&str; 7] =
    ["--backend", "--trace", "--stats", "--log-file", "--cache-size", "--verify", "--perf-map"];

fn endo(arguments: &[&str]) -> Output {
    Command::new(endo_binary()).args(arguments).output().expect("endo can be started")
}

/// What it prints, when it succeeds.
fn printed(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = endo(arguments);
    assert!(status.success(), "{status}");
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    String::from_utf8(stdout).expect("endo prints UTF-8")
}

/// What a program says about its input; it must be content.
fn fed(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    let mut child =
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} refuses it");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_shell_gets_completions_of_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for word in SUBCOMMANDS.iter().chain(&RUN_OPTIONS) {
            assert!(script.contains(word.trim_start_matches("--")), "{shell} completes {word}");
        }
    }
    fed("bash", &["-n"], &printed(&["completions", "bash"]));
}

#[test]
fn the_manual_page_describes_every_command_option_and_status() {
    let page = printed(&["man"]).replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    assert!(page.starts_with(".ie") || page.contains(".TH"), "it is a manual page");
    for word in SUBCOMMANDS.map(|subcommand| format!("ENDO {}", subcommand.to_uppercase())) {
        assert!(page.contains(&word), "it has a section {word}");
    }
    for word in RUN_OPTIONS.iter().chain(&["125", "126", "127"]) {
        assert!(page.contains(word), "it explains {word}");
    }
}

#[test]
fn the_doctor_tells_of_every_backend_and_of_its_choice() {
    let report = printed(&["doctor"]);
    for name in ["sfi", "mpk", "poe", "mte", "null"] {
        let line = report.lines().find(|line| line.trim_start().starts_with(name)).expect(name);
        assert!(line.contains("usable: "), "{line}");
    }
    assert!(report.contains("auto picks"));
    assert!(report.contains("addresses below 4 GiB"));
}

#[test]
fn the_doctor_speaks_json() {
    let report = printed(&["doctor", "--json"]);
    let read = "import json, sys; report = json.load(sys.stdin); print(report['backends']['mte'], report['version'])";
    let answer = fed("python3", &["-c", read], &report);
    assert!(
        answer.starts_with("not usable: ") && answer.trim_end().ends_with(env!("CARGO_PKG_VERSION")),
        "{answer}"
    );
}

#[test]
fn the_version_is_the_package_s() {
    let expected = format!("endo {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["version"]), expected);
    assert_eq!(printed(&["--version"]), expected);
}

#[test]
fn help_is_printed_for_the_asking() {
    let help = printed(&["run", "--help"]);
    assert!(RUN_OPTIONS.iter().all(|option| help.contains(option)), "{help}");
}

#[test]
fn options_after_the_program_are_the_program_s() {
    for arguments in [
        ["run", "--backend=null", "/bin/echo", "--trace", "--"],
        ["run", "--backend=null", "--", "/bin/echo", "--"],
    ] {
        let expected = if arguments[2] == "--" { "--\n" } else { "--trace --\n" };
        assert_eq!(printed(&arguments), expected);
    }
}

#[test]
fn the_log_file_gets_trace_and_figures_and_nothing_else_does() {
    let directory = tempfile::tempdir().expect("there is room for scratch files");
    let log = directory.path().join("log");
    std::fs::write(&log, "old").unwrap();
    let option = format!("--log-file={}", log.display());
    // The shell forks and the child execs: each has its part in the log.
    let script = "echo out; /bin/true; echo err >&2; exit 7";
    let backend = format!("--backend={}", endo_testing::backend());
    let output = endo(&["run", &backend, "--trace", "--stats", &option, "--", "/bin/sh", "-c", script]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"out\n".as_slice(), b"err\n".as_slice())
    );
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("old"), "{log}");
    assert!(log.contains("write(1, \"out\\n\", 4) = 4\n"), "{log}");
    assert!(log.contains("execve(\"/bin/true\""), "{log}");
    assert!(log.contains("system calls:\n") && log.contains(" in all\n"), "{log}");
}

#[test]
fn a_log_file_that_cannot_be_written_is_refused() {
    let output = endo(&["run", "--log-file=/nonexistent/log", "/bin/true"]);
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, "endo: /nonexistent/log: cannot open the log: no such file or directory\n");
}

#[test]
fn the_program_s_status_and_signal_are_endo_s() {
    use std::os::unix::process::ExitStatusExt;
    let backend = format!("--backend={}", endo_testing::backend());
    let run = |script| endo(&["run", &backend, "--", "/bin/sh", "-c", script]).status;
    assert_eq!(run("exit 0").code(), Some(0));
    assert_eq!(run("exit 125").code(), Some(125));
    assert_eq!(run("exit 255").code(), Some(255));
    assert_eq!(run("kill -KILL $$").signal(), Some(libc::SIGKILL));
    assert_eq!(run("kill -TERM $$").signal(), Some(libc::SIGTERM));
    assert_eq!(run("kill -SEGV $$").signal(), Some(libc::SIGSEGV));
}

//! Processes under `endo run` do what they do natively: fork, vfork, exec, wait, and what passes between them.
//!
//! Each test runs one case of the guest in `processes/` twice, natively and under Endo, and compares output and status.
//! `ENDO_BACKEND` chooses the backend.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use endo_testing::{Guest, Status, Under, compile, endo_binary};

fn process(name: &str) -> Guest {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/processes/");
    Guest::new(compile("gcc -O1 -w", &[format!("{directory}guest.c").into()])).argument(name)
}

#[test]
fn a_forked_child_has_a_copy() {
    process("fork_copies").same_and_succeeds();
}

#[test]
fn children_of_children_report_through_a_pipe() {
    process("fork_tree").same_and_succeeds();
}

#[test]
fn a_child_of_vfork_shares_memory() {
    process("vfork_shares").same_and_succeeds();
}

#[test]
fn what_a_child_of_vfork_does_about_signals_is_its_own() {
    process("vfork_keeps_the_parents_signals").same_and_succeeds();
}

#[test]
fn a_child_of_vfork_execs_or_tells_why_not() {
    process("vfork_exec").same_and_succeeds();
}

#[test]
fn posix_spawn_starts_programs_and_reports_errors() {
    process("spawn").same_and_succeeds();
}

#[test]
fn clone_and_clone3_honour_stacks_ids_and_flags() {
    process("clones").same_and_succeeds();
}

#[test]
fn exec_passes_arguments_and_environment_and_nothing_of_endos() {
    process("exec_environment").same_and_succeeds();
}

#[test]
fn exec_hands_on_ignored_blocked_and_pending_signals() {
    process("exec_inherits").same_and_succeeds();
}

#[test]
fn scripts_run_with_their_interpreters() {
    process("exec_scripts").same_and_succeeds();
}

#[test]
fn an_exec_that_cannot_be_fails_and_leaves_the_caller_as_it_was() {
    process("exec_failures").same_and_succeeds();
}

#[test]
fn a_descriptor_and_the_own_executable_can_be_execd() {
    process("exec_by_descriptor").same_and_succeeds();
}

#[test]
fn exec_after_exec_keeps_the_process() {
    process("exec_repeatedly").same_and_succeeds();
}

#[test]
fn an_orphan_is_adopted() {
    process("orphan").same_and_succeeds();
}

#[test]
fn waiting_tells_who_ended_how() {
    process("waits").same_and_succeeds();
}

#[test]
fn exit_statuses_have_eight_bits() {
    process("exits").same_and_succeeds();
}

#[test]
fn sessions_and_groups_are_the_hosts() {
    process("groups").same_and_succeeds();
}

#[test]
fn what_endo_does_not_run_is_refused() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/processes/refused.c");
    let guest = Guest::new(compile("gcc -O1 -w", &[source.into()]));
    let outcome = guest.run(&Under::Endo);
    let refused = "Function not implemented\nInvalid argument\nInvalid argument\ndone\n";
    assert_eq!(outcome.text(), refused.to_owned() + &"Operation not permitted\n".repeat(8));
    assert_eq!(outcome.status, Status::Exited(0));
    let message = "endo: the program wants a process that shares its memory, which endo cannot run\n";
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), message);
}

#[test]
fn after_exec_the_process_is_still_endos_and_has_the_programs_command_line() {
    let script = "exec /bin/sleep 20";
    let mut endo = Guest::shell(script).command(&Under::Endo).spawn().unwrap();
    let proc = PathBuf::from(format!("/proc/{}", endo.id()));
    let command_line =
        wait_for(|| fs::read(proc.join("cmdline")).ok().filter(|line| line.starts_with(b"/bin/sleep")));
    let executable = fs::read_link(proc.join("exe"));
    endo.kill().unwrap();
    endo.wait().unwrap();
    assert_eq!(command_line.as_deref(), Some(&b"/bin/sleep\x0020\0"[..]));
    assert_eq!(executable.unwrap(), endo_binary().canonicalize().unwrap());
}

/// Asks until there is an answer, for some seconds.
fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        ask()
    })
}

#[test]
fn a_shell_starts_pipelines_and_children_in_loops() {
    let script = r#"
        i=0; while [ $i -lt 10 ]; do echo $i | { read x; echo "<$x>"; }; i=$((i + 1)); done
        for s in 1 15 11 9; do (kill -$s $(exec sh -c 'echo $PPID')); echo "status $?"; done
        trap 'echo caught' USR1; kill -USR1 $$; sleep 0.05 & wait $!; echo "waited $?"
        (trap '' PIPE; exec sh -c 'yes; echo "yes: $?" >&2') 2>&1 | head -n 1
        a=1 b="two words" sh -c 'echo "$a $b $0 $1"' zero one; x=$(exit 3); echo $?
    "#;
    Guest::shell(script).same_and_succeeds();
}

//! What daemons, shells and supervisors ask of the kernel about themselves.

use endo_testing::{Guest, Status, Under, compile};

fn session(name: &str) -> Guest {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/toolchains/session.c");
    Guest::new(compile("gcc -O1 -w -lutil", &[source.into()])).argument(name)
}

#[test]
fn a_daemon_leaves_its_session_its_terminal_and_its_parent() {
    session("daemonizes").same_and_succeeds();
}

#[test]
fn a_subreaper_inherits_orphans() {
    session("reaps_orphans").same_and_succeeds();
}

#[test]
fn prctl_sets_what_it_says() {
    session("prctls").same_and_succeeds();
}

#[test]
fn a_child_that_wants_to_dies_with_its_parent() {
    session("dies_with_its_parent").same_and_succeeds();
}

#[test]
fn limits_are_kept_and_their_signals_come() {
    session("rlimits").same_and_succeeds();
}

#[test]
fn all_variants_of_wait_tell_the_same() {
    session("waits").same_and_succeeds();
}

#[test]
fn a_shell_gives_its_terminal_to_a_job_and_takes_it_back() {
    session("controls_a_terminal").same_and_succeeds();
}

#[test]
fn an_exec_of_the_own_executable_keeps_the_descriptors_that_it_should() {
    session("execs_itself").same_and_succeeds();
}

#[test]
fn a_set_user_id_program_runs_without_its_privilege_and_this_is_said_once() {
    // For root it would gain nothing.
    let script = "su() { /usr/bin/su --version; }
        if [ $(id -u) = 0 ]; then su() { setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/su --version; }; fi
        su";
    let native = Guest::shell(script).run(&Under::Native);
    let ours = Guest::shell(script).run(&Under::Endo);
    assert_eq!((native.status, ours.status), (Status::Exited(0), Status::Exited(0)));
    assert_eq!((native.text(), native.stderr.len()), (ours.text(), 0));
    let said = "endo: /usr/bin/su is set-user-id or set-group-id: it runs without that privilege\n";
    assert_eq!(String::from_utf8_lossy(&ours.stderr), said);
}

//! stress-ng and sysbench: a second each of what is hard on a monitor. Their figures differ from run to run; what they verify
//! must not fail. `ENDO_STRESS=10` makes ten seconds of each of stress-ng's.

use endo_testing::{Guest, Status, Under};

/// One worker of a stressor, which checks its results.
fn stress(stressor: &str) {
    let option = format!("--{stressor}");
    let seconds = std::env::var("ENDO_STRESS").unwrap_or_else(|_| "1".to_owned());
    let arguments = [&option, "1", "-t", &seconds, "--verify", "--temp-path", "."];
    let guest = Guest::new("/usr/bin/stress-ng").arguments(arguments).limit_seconds(60);
    for under in [Under::Native, Under::Endo] {
        let outcome = guest.run(&under);
        let said = format!("{}{}", outcome.text(), String::from_utf8_lossy(&outcome.stderr));
        assert_eq!(outcome.status, Status::Exited(0), "{under:?}: {said}");
        assert!(said.contains("successful run completed"), "{under:?}: {said}");
        assert!(!said.contains("fail:") && !said.contains("endo: "), "{under:?}: {said}");
    }
}

/// A sysbench test, with the lines of its report that have to be the same.
fn sysbench(arguments: &[&str]) {
    let guest = Guest::new("/usr/bin/sysbench").arguments(arguments).limit_seconds(60);
    let totals = |under| {
        let outcome = guest.run(under);
        assert_eq!(outcome.status, Status::Exited(0), "{}", String::from_utf8_lossy(&outcome.stderr));
        assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
        let text = outcome.text();
        let events = text.lines().find(|line| line.contains("total number of events"));
        events.expect("a report has its number of events").to_owned()
    };
    assert_eq!(totals(&Under::Endo), totals(&Under::Native));
}

#[test]
fn stress_of_the_processor() {
    stress("cpu");
}

#[test]
fn stress_of_virtual_memory() {
    stress("vm");
}

#[test]
fn stress_of_mappings() {
    stress("mmap");
}

#[test]
fn stress_of_signals() {
    stress("signal");
}

#[test]
fn stress_of_queued_signals() {
    stress("sigq");
}

#[test]
fn stress_of_faults() {
    stress("sigsegv");
}

#[test]
fn stress_of_forks() {
    stress("fork");
}

#[test]
fn stress_of_clones() {
    stress("clone");
}

#[test]
fn stress_of_pipes() {
    stress("pipe");
}

#[test]
fn stress_of_futexes() {
    stress("futex");
}

#[test]
fn sysbench_computes_in_threads() {
    sysbench(&["cpu", "--threads=2", "--time=0", "--events=500", "run"]);
}

#[test]
fn sysbench_fills_memory_in_threads() {
    sysbench(&[
        "memory",
        "--threads=4",
        "--time=0",
        "--memory-total-size=400M",
        "--memory-block-size=64K",
        "run",
    ]);
}

#[test]
fn sysbench_takes_mutexes_in_threads() {
    sysbench(&["threads", "--threads=8", "--time=0", "--events=1000", "run"]);
}

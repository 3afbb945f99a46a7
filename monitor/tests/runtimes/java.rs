//! Java: HotSpot with its compilers, its collectors and its way to stop threads, and a compiler that is written in Java.

use std::sync::LazyLock;

use endo_testing::{Guest, Outcome, Status, Under};

/// Everything that HotSpot does otherwise than C programs, in one file.
const MAIN: &str = include_str!("Main.java");

fn java(options: &[&str]) -> Guest {
    Guest::new("/usr/bin/java").arguments(options).limit_seconds(120)
}

/// Eclipse's compiler compiling [`MAIN`].
fn compiler() -> Guest {
    let class_path = "/usr/share/java/eclipse-jdt-core.jar";
    java(&[
        "-cp",
        class_path,
        "org.eclipse.jdt.internal.compiler.batch.Main",
        "-17",
        "-proc:none",
        "-nowarn",
        "Main.java",
    ])
    .file("Main.java", MAIN)
}

/// The program, with options for HotSpot.
fn program(options: &[&str]) -> Guest {
    static COMPILED: LazyLock<Outcome> = LazyLock::new(|| compiler().run(&Under::Native));
    assert_eq!(COMPILED.status, Status::Exited(0), "{}", String::from_utf8_lossy(&COMPILED.stderr));
    let classes = COMPILED.files.iter().filter(|(name, _)| name.ends_with(".class"));
    let guest = java(options).arguments(["-cp", ".", "Main", "one", "two"]);
    classes.fold(guest, |guest, (name, (_, bytes))| guest.file(name, bytes.clone()))
}

fn same(options: &[&str]) {
    let outcome = program(options).same();
    assert_eq!(outcome.status, Status::Exited(7));
    assert!(outcome.text().ends_with("<in>3\n2 one,two true\nhook\n"), "{}", outcome.text());
}

#[test]
fn java_runs_with_the_parallel_collector_and_all_compilers() {
    same(&["-Xmx48m", "-XX:+UseParallelGC"]);
}

#[test]
fn java_runs_with_a_concurrent_collector() {
    same(&["-Xmx48m", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=1"]);
}

#[test]
fn java_runs_interpreted_with_a_heap_of_its_own_choice() {
    let guest = java(&["-Xint", "-Xshare:off", "-version"]);
    assert!(String::from_utf8(guest.same_and_succeeds().stderr).unwrap().contains("interpreted mode"));
}

#[test]
fn a_compiler_in_java_writes_the_same_classes() {
    assert!(compiler().same_and_succeeds().files.contains_key("Main.class"));
}

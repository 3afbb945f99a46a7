//! System calls of small C programs: what each gives is what it gives natively.

use std::path::Path;

use endo_testing::{Guest, Status, Under, compile};

fn guest(name: &str) -> Guest {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/syscalls").join(name);
    Guest::new(compile("gcc -O1 -w", &[source]))
}

#[test]
fn mappings_follow_the_kernels_rules() {
    let outcome = guest("mappings.c").same_and_succeeds();
    assert!(outcome.text().contains("shared again: mapped\nseen twice\n"));
}

#[test]
fn pointers_to_nothing_of_the_programs_fault() {
    let outcome = guest("pointers.c").same_and_succeeds();
    assert!(outcome.text().contains("read: EFAULT"));
}

#[test]
fn proc_describes_the_program() {
    let outcome = guest("views.c").arguments(["one", "", "two words"]).same_and_succeeds();
    assert!(outcome.text().contains("'two words'"));
}

#[test]
fn the_process_is_to_itself_what_it_is_natively() {
    let outcome = guest("identity.c").arguments(["one", "two words"]).same_and_succeeds();
    assert!(outcome.text().contains("a child lives\nstatus 0\n"), "{}", outcome.text());
}

#[test]
fn a_child_is_to_its_parent_what_it_is_natively() {
    let outcome = guest("family.c").arguments(["one", "two words"]).same_and_succeeds();
    assert!(outcome.text().contains("cmdline: 'a cat' '-'\nenviron: 'ONE=1' 'TWO=two words'\n"));
}

#[test]
fn only_the_programs_descriptors_exist() {
    let outcome = guest("descriptors.c").same_and_succeeds();
    assert!(outcome.text().contains("again\nstatus 7"));
}

#[test]
fn the_monitors_descriptors_are_closed_to_every_call() {
    // With a small limit the monitor's are among the numbers that the program tries.
    let program =
        compile("gcc -O1 -w", &[Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/syscalls/descriptors.c")]);
    let guest = Guest::shell(&format!("ulimit -n 300; exec {}", program.display()));
    let outcome = guest.same_and_succeeds();
    assert!(outcome.text().contains("polled as closed: 8"), "{}", outcome.text());
}

#[test]
fn no_name_of_its_memory_opens() {
    let guest = guest("memory_files.c");
    let native = guest.run(&Under::Native);
    let ours = guest.run(&Under::Endo);
    let natively_read = native.text().lines().filter(|line| line.ends_with(": read")).count();
    assert!(natively_read >= 11, "the attack works natively:\n{}", native.text());
    let refused = ours.text().lines().filter(|line| line.ends_with(": EACCES")).count();
    assert_eq!((refused, ours.status), (natively_read, Status::Exited(0)), "{}", ours.text());
}

#[test]
fn a_trace_names_calls_arguments_and_errors() {
    let options = ["--backend", &endo_testing::backend(), "--trace"].map(str::to_owned).to_vec();
    let outcome = Guest::shell("read x < /nonexistent").run(&Under::EndoWith(options));
    let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let expected = r#"openat(AT_FDCWD, "/nonexistent", O_RDONLY) = -1 ENOENT (No such file or directory)"#;
    assert!(text.contains(expected), "{text}");
    assert!(text.ends_with("exit_group(2) = ?\n"), "{text}");
}

#[test]
fn figures_count_calls() {
    let options = ["--backend", &endo_testing::backend(), "--stats"].map(str::to_owned).to_vec();
    let outcome = Guest::new("/bin/true").run(&Under::EndoWith(options));
    let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(text.contains("1 exit_group\n") && text.contains(" in all\n"), "{text}");
}

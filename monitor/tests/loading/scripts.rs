//! Scripts: what their interpreter is told.

use endo_testing::{Guest, Status};

use crate::guest;

/// A program in the scratch directory that prints its arguments, and scripts for it there.
fn scratch(main: &str) -> Guest {
    let program = std::fs::read(guest("gcc -O1 -static", "arguments.c")).expect("it was just built");
    Guest::new(main).executable_file("show", program)
}

#[test]
fn a_script_becomes_an_argument_of_its_interpreter() {
    let outcome = scratch("./script")
        .executable_file("script", "#! ./show  one argument \nrest")
        .arguments(["a", "b c", ""])
        .same_and_succeeds();
    assert_eq!(outcome.text(), "0: ./show\n1: one argument\n2: ./script\n3: a\n4: b c\n5: \n");
}

#[test]
fn scripts_may_be_interpreters_of_scripts() {
    let outcome = scratch("./outer")
        .executable_file("outer", "#!./middle -o\n")
        .executable_file("middle", "#!./inner -m\n")
        .executable_file("inner", "#!./show -i\n")
        .argument("last")
        .same_and_succeeds();
    let expected = "0: ./show\n1: -i\n2: ./inner\n3: -m\n4: ./middle\n5: -o\n6: ./outer\n7: last\n";
    assert_eq!(outcome.text(), expected);
}

#[test]
fn five_interpreters_may_follow_one_another() {
    let chain = |count: usize| {
        (1..count).fold(scratch("./s1"), |guest, number| {
            guest.executable_file(&format!("s{number}"), format!("#!./s{}\n", number + 1))
        })
    };
    let five = chain(5).executable_file("s5", "#!./show\n");
    assert!(five.same_and_succeeds().text().ends_with("5: ./s1\n"));
    let six = chain(6).executable_file("s6", "#!./show\n");
    let outcome = six.run(&endo_testing::Under::Endo);
    assert_eq!(outcome.status, Status::Exited(126));
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("more than 5 #! interpreters"));
}

#[test]
fn shell_and_env_scripts_run() {
    Guest::new("./script")
        .executable_file("script", "#!/bin/sh -eu\nfor i in \"$0\" \"$@\"; do echo \"$i\"; done\n")
        .arguments(["x y", "z"])
        .same_and_succeeds();
    Guest::new("./script")
        .executable_file("script", "#!/usr/bin/env sh\necho \"$0\" \"$1\"\n")
        .argument("x")
        .same_and_succeeds();
}

//! The stack and the arguments, up to their limits.

use endo_testing::{Guest, Status};

use crate::guest;

#[test]
fn a_stack_may_be_used_nearly_to_its_limit() {
    let program = guest("gcc -O0", "stack.c");
    let outcome = Guest::new(program).argument("6500").same_and_succeeds();
    assert_eq!(outcome.text(), "starts\n6500\n");
}

#[test]
fn a_stack_that_is_used_up_ends_the_program() {
    let program = guest("gcc -O0", "stack.c");
    let outcome = Guest::new(program).argument("9000").same();
    assert_eq!((outcome.status, outcome.text().as_str()), (Status::Killed(libc::SIGSEGV), "starts\n"));
}

#[test]
fn many_and_long_arguments_arrive() {
    let program = guest("gcc -O1", "arguments.c");
    let many = (0..30_000).map(|number| format!("argument {number}"));
    Guest::new(&program).arguments(many).same_and_succeeds();
    let long = ["a", "b"].map(|letter| letter.repeat(120_000)).into_iter().cycle().take(10);
    Guest::new(&program).arguments(["-"; 20]).arguments(long).same_and_succeeds();
}

//! Command lines that make no sense.

use crate::complaint::{FAILURE, complaint};

fn refuses(arguments: &[&str], text: &str) {
    let complaint = complaint(arguments);
    assert_eq!(complaint.status, FAILURE, "{}", complaint.text);
    assert_eq!(complaint.text, text);
}

#[test]
fn no_command_is_refused() {
    refuses(&[], "nothing to do: no command given (see endo --help)");
}

#[test]
fn an_unknown_command_is_refused_with_the_likely_one() {
    refuses(&["docter"], "unknown command 'docter' (did you mean 'doctor'? see endo --help)");
    refuses(&["frobnicate"], "unknown command 'frobnicate' (see endo --help)");
}

#[test]
fn an_unknown_option_is_refused_with_the_likely_one() {
    refuses(&["run", "--trac", "true"], "unknown option '--trac' (did you mean '--trace'? see endo --help)");
    refuses(&["run", "--bogus", "true"], "unknown option '--bogus' (see endo --help)");
    refuses(&["run", "-x", "true"], "unknown option '-x' (see endo --help)");
}

#[test]
fn run_without_a_program_is_refused() {
    refuses(&["run"], "<PROGRAM>... is missing (see endo --help)");
    refuses(&["run", "--trace", "--"], "<PROGRAM>... is missing (see endo --help)");
}

#[test]
fn an_unknown_backend_is_refused_with_those_that_exist() {
    refuses(
        &["run", "--backend", "kvm", "true"],
        "--backend <BACKEND> cannot be 'kvm'; it is one of: auto, sfi, mpk, poe, mte, null (see endo --help)",
    );
}

#[test]
fn a_backend_that_cannot_be_used_says_why() {
    let complaint = complaint(&["run", "--backend", "mte", "true"]);
    assert_eq!(complaint.status, FAILURE);
    let text = complaint.text;
    assert!(text.starts_with("backend mte cannot be used here: "), "{text}");
    assert!(text.ends_with("(endo doctor says what this machine supports)"), "{text}");
}

#[test]
fn values_that_are_none_are_refused() {
    refuses(
        &["run", "--cache-size", "huge", "true"],
        "--cache-size <BYTES> cannot be 'huge': not a number of bytes like 500000, 64K, 64M or 1G (see endo --help)",
    );
    refuses(
        &["run", "--verify=maybe", "true"],
        "--verify <HOW_MUCH> cannot be 'maybe'; it is one of: off, sample, on (see endo --help)",
    );
    refuses(&["run", "--backend"], "--backend <BACKEND> needs a value (see endo --help)");
}

#[test]
fn an_option_given_twice_is_refused() {
    refuses(&["run", "--stats", "--stats", "true"], "--stats is given twice (see endo --help)");
}

#[test]
fn an_unknown_shell_is_refused() {
    let complaint = complaint(&["completions", "command.com"]);
    assert_eq!(complaint.status, FAILURE);
    assert!(complaint.text.contains("'command.com'; it is one of: bash, "), "{}", complaint.text);
}

//! What the conformance suite must find on a backend that isolates nothing: every property of the mechanics holds, and
//! of isolation exactly those hold that Syscall User Dispatch and page protection bring along.

#![cfg(target_arch = "x86_64")]

use endo_core::NullBackend;
use endo_core::conformance::{self, Class, HIJACKED, Outcome};

/// Attacks of which every single form must get through.
const ALL_FORMS_ESCAPE: [&str; 13] = [
    "no_ordinary_store_leaves_the_domain",
    "no_stack_store_leaves_the_domain",
    "no_string_store_leaves_the_domain",
    "no_bit_store_leaves_the_domain",
    "no_segment_relative_store_leaves_the_domain",
    "no_vector_store_leaves_the_domain",
    "no_state_saving_store_leaves_the_domain",
    "no_store_reaches_the_host_s_code",
    "no_ordinary_load_leaves_the_domain",
    "no_implicit_load_leaves_the_domain",
    "no_vector_load_leaves_the_domain",
    "no_jump_leaves_the_domain",
    "no_far_transfer_leaves_the_domain",
];

/// Attacks that succeed, with what they end in.
const SINGLE_ESCAPES: [(&str, &str); 3] = [
    ("a_jump_to_the_host_s_system_call_is_caught", "ended in Syscall at 0x60005a5b0002"),
    ("retired_code_does_not_run", "code at 0x10000000 ran from 0x10000000 to Syscall"),
    ("code_that_was_never_admitted_does_not_run", "code at 0x10000000 ran from 0x10000000 to Syscall"),
];

/// What holds without any isolation: the host lies outside the window, and honest system calls are dispatched.
const HOLDS_ANYWAY: [&str; 7] = [
    "accesses_across_the_edges_of_the_window_fault",
    "host_range_refuses_what_lies_outside_the_window",
    "memory_of_the_host_is_in_no_domain",
    "system_calls_never_reach_the_kernel",
    "a_system_call_inside_another_instruction_is_caught",
    "calls_of_32_bit_code_never_reach_the_kernel",
    "system_calls_of_a_forked_child_never_reach_the_kernel",
];

const CRASHES: &str = "a_guest_cannot_redirect_the_monitor";

fn outcome(name: &str) -> Outcome {
    conformance::run_one::<NullBackend>(name).unwrap_or_else(|| panic!("no property {name}"))
}

#[test]
fn every_form_of_access_escapes() {
    for name in ALL_FORMS_ESCAPE {
        let found = outcome(name);
        assert!(matches!(&found, Outcome::Failed(why) if why.starts_with("all of ")), "{name}: {found:?}");
    }
}

#[test]
fn code_runs_whatever_the_backend_was_told() {
    for (name, why) in SINGLE_ESCAPES {
        assert_eq!(outcome(name), Outcome::Failed(why.to_owned()), "{name}");
    }
}

#[test]
fn a_redirected_monitor_crashes_where_the_guest_wants() {
    let crash = Outcome::Crashed { signal: libc::SIGSEGV, address: Some(HIJACKED) };
    assert_eq!(outcome(CRASHES), crash);
}

#[test]
fn what_needs_no_isolation_holds() {
    for name in HOLDS_ANYWAY {
        assert_eq!(outcome(name), Outcome::Passed, "{name}");
    }
}

#[test]
fn every_property_of_the_mechanics_holds() {
    for property in conformance::properties::<NullBackend>() {
        if property.class == Class::Mechanics {
            assert_eq!(outcome(property.name), Outcome::Passed, "{}", property.name);
        }
    }
}

#[test]
fn every_isolation_property_is_expected_above() {
    let mut expected: Vec<&str> = ALL_FORMS_ESCAPE.into_iter().chain(HOLDS_ANYWAY).collect();
    expected.extend(SINGLE_ESCAPES.map(|(name, _)| name));
    expected.push(CRASHES);
    let properties = conformance::properties::<NullBackend>();
    let isolation = properties.iter().filter(|property| property.class == Class::Isolation);
    let mut found: Vec<&str> = isolation.map(|property| property.name).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

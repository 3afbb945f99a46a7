//! Signals under `endo run` do what they do natively: what handlers find, what they can change, what interrupts what, what
//! kills.
//!
//! Each test runs one case of a guest in `signals/` twice, natively and under Endo, and compares output and status.
//! `ENDO_BACKEND` chooses the backend.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use endo_testing::{Guest, Status, compile};

const COMPILER: &str = "gcc -O1 -w";

fn case(source: &str, name: &str) -> Guest {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/signals/");
    Guest::new(compile(COMPILER, &[format!("{directory}{source}").into()])).argument(name)
}

fn fault(name: &str) -> Guest {
    case("faults.c", name)
}

fn delivery(name: &str) -> Guest {
    case("delivery.c", name)
}

#[test]
fn a_load_and_a_store_at_an_unmapped_address_reach_the_handler() {
    fault("null_read").same_and_succeeds();
}

#[test]
fn an_access_without_the_right_is_told_from_one_to_nothing() {
    fault("protected_page").same_and_succeeds();
}

#[test]
fn a_page_that_its_file_lost_is_a_bus_error() {
    fault("lost_file").same_and_succeeds();
}

#[test]
fn a_handler_sees_every_register_and_can_change_them() {
    fault("exact_registers").same_and_succeeds();
}

#[test]
fn an_illegal_instruction_can_be_skipped() {
    fault("illegal").same_and_succeeds();
}

#[test]
fn a_division_by_zero_and_its_overflow_are_arithmetic_faults() {
    fault("division").same_and_succeeds();
}

#[test]
fn a_breakpoint_stands_after_its_instruction() {
    fault("breakpoint").same_and_succeeds();
}

#[test]
fn a_privileged_instruction_is_a_fault_without_an_address() {
    fault("general_protection").same_and_succeeds();
}

#[test]
fn a_jump_to_nowhere_faults_at_its_target() {
    fault("wild_jump").same_and_succeeds();
}

#[test]
fn a_stack_overflow_is_handled_on_the_alternate_stack_twice() {
    fault("stack_overflow").same_and_succeeds();
}

#[test]
fn a_fault_in_its_own_handler_kills() {
    assert_eq!(fault("fault_in_handler").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn a_handler_with_nodefer_may_fault_again() {
    fault("nodefer_faults").same_and_succeeds();
}

#[test]
fn a_sent_signal_is_ignored_but_a_fault_kills() {
    assert_eq!(fault("ignored_fault").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn a_blocked_fault_kills() {
    assert_eq!(fault("blocked_fault").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn a_handler_without_a_stack_kills() {
    assert_eq!(fault("no_stack_for_the_handler").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn an_unhandled_fault_kills() {
    assert_eq!(fault("kill_default").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn abort_kills() {
    assert_eq!(fault("kill_abort").same().status, Status::Killed(libc::SIGABRT));
}

#[test]
fn an_unhandled_illegal_instruction_kills() {
    assert_eq!(fault("kill_illegal").same().status, Status::Killed(libc::SIGILL));
}

#[test]
fn an_unhandled_division_by_zero_kills() {
    assert_eq!(fault("kill_division").same().status, Status::Killed(libc::SIGFPE));
}

#[test]
fn an_unhandled_breakpoint_kills() {
    assert_eq!(fault("kill_breakpoint").same().status, Status::Killed(libc::SIGTRAP));
}

#[test]
fn an_alarm_interrupts_a_loop_that_makes_no_call() {
    delivery("alarm_in_a_loop").same_and_succeeds();
}

#[test]
fn vector_registers_survive_a_handler_that_destroys_them() {
    delivery("vectors_survive").same_and_succeeds();
}

#[test]
fn a_read_fails_when_a_signal_comes() {
    delivery("read_without_restart").same_and_succeeds();
}

#[test]
fn a_read_goes_on_after_a_handler_with_restart() {
    delivery("read_with_restart").same_and_succeeds();
}

#[test]
fn a_storm_of_signals_disturbs_no_transfer() {
    delivery("storm").same_and_succeeds();
}

#[test]
fn sleeping_and_polling_fail_even_with_restart() {
    delivery("sleep_is_never_restarted").same_and_succeeds();
}

#[test]
fn waiting_for_a_child_goes_on_after_a_handler_with_restart() {
    delivery("wait_with_restart").same_and_succeeds();
}

#[test]
fn handlers_nest_unless_the_mask_says_no() {
    delivery("nested_handlers").same_and_succeeds();
}

#[test]
fn a_blocked_signal_is_pending_until_it_is_unblocked() {
    delivery("blocked_stay_pending").same_and_succeeds();
}

#[test]
fn standard_signals_are_pending_once_and_real_time_ones_queue() {
    delivery("many_at_once").same_and_succeeds();
}

#[test]
fn queued_signals_keep_their_order_and_values() {
    delivery("real_time_queue").same_and_succeeds();
}

#[test]
fn sigsuspend_waits_under_its_own_mask() {
    delivery("suspend").same_and_succeeds();
}

#[test]
fn ppoll_and_pselect_wait_under_their_own_masks() {
    delivery("masks_of_calls").same_and_succeeds();
}

#[test]
fn sigtimedwait_takes_pending_signals_without_their_handlers() {
    delivery("timed_wait").same_and_succeeds();
}

#[test]
fn a_signalfd_sees_what_is_blocked() {
    delivery("descriptor").same_and_succeeds();
}

#[test]
fn actions_are_checked_and_resethand_resets() {
    assert_eq!(delivery("reset_and_flags").same().status, Status::Killed(libc::SIGUSR1));
}

#[test]
fn sigpipe_is_ignored_handled_or_fatal() {
    assert_eq!(delivery("broken_pipe").same().status, Status::Killed(libc::SIGPIPE));
}

#[test]
fn ignoring_a_signal_drops_what_is_pending_of_it() {
    delivery("ignored_are_gone").same_and_succeeds();
}

#[test]
fn alternate_stacks_are_used_checked_and_disarmed() {
    delivery("alternate_stacks").same_and_succeeds();
}

#[test]
fn a_handler_can_change_the_mask_in_its_frame() {
    delivery("mask_in_frame").same_and_succeeds();
}

#[test]
fn contexts_switch_to_and_fro() {
    delivery("contexts_switch").same_and_succeeds();
}

#[test]
fn the_frame_has_the_shape_that_the_kernel_gives_it() {
    delivery("frame").same_and_succeeds();
}

#[test]
fn a_tampered_frame_is_refused_or_made_harmless() {
    delivery("tampered_frames").same_and_succeeds();
}

#[test]
fn a_sigreturn_without_a_frame_kills() {
    assert_eq!(delivery("bare_sigreturn").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn a_handler_without_restorer_is_a_fault() {
    assert_eq!(delivery("no_restorer").same().status, Status::Exited(3));
}

#[test]
fn a_forged_siginfo_goes_to_oneself_only() {
    delivery("forged_info").same_and_succeeds();
}

#[test]
fn an_alternate_stack_in_foreign_memory_is_not_written_to() {
    assert_eq!(delivery("foreign_alternate_stack").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn a_bad_pointer_is_efault_whatever_is_blocked_or_ignored() {
    assert_eq!(delivery("bad_pointers").same().status, Status::Killed(libc::SIGSEGV));
}

#[test]
fn a_signal_in_a_childs_first_moment_is_not_lost() {
    delivery("signals_to_new_children").same_and_succeeds();
}

#[test]
fn a_child_stops_and_continues() {
    delivery("stop_and_continue").same_and_succeeds();
}

#[test]
fn each_signal_kills_by_default_with_its_own_number() {
    delivery("default_deaths").same_and_succeeds();
}

#[test]
fn a_childs_end_is_signalled_or_forgotten() {
    delivery("children").same_and_succeeds();
}

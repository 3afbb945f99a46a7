//! Signals under `endo run` do what they do natively: what handlers find, what they can change, what interrupts what, what
//! kills.
//!
//! Each test runs one case of a guest in `signals/` twice, natively and under Endo, and compares output and status.
//! `ENDO_BACKEND` chooses the backend.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use endo_testing::{Guest, Status, Under, backend, compile};

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

fn action(name: &str) -> Guest {
    case("actions.c", name)
}

fn queue(name: &str) -> Guest {
    case("queues.c", name)
}

fn timer(name: &str) -> Guest {
    case("timers.c", name)
}

fn interrupted(name: &str) -> Guest {
    case("interrupted.c", name)
}

fn descriptor(name: &str) -> Guest {
    case("descriptors.c", name)
}

fn frame(name: &str) -> Guest {
    case("frames.c", name)
}

fn threads(name: &str) -> Guest {
    case("threads.c", name)
}

fn job(name: &str) -> Guest {
    case("jobs.c", name)
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

#[test]
fn unsupported_flags_are_cleared_by_which_programs_find_out() {
    action("flags_are_probed").same_and_succeeds();
}

#[test]
fn nodefer_lets_a_handler_interrupt_itself() {
    action("nodefer_nests").same_and_succeeds();
}

#[test]
fn resethand_resets_before_the_handler_runs() {
    assert_eq!(action("resethand").same().status, Status::Killed(libc::SIGUSR1));
}

#[test]
fn installing_what_is_installed_changes_nothing() {
    action("the_same_again").same_and_succeeds();
}

#[test]
fn handlers_without_siginfo_are_entered_too() {
    action("plain_handlers").same_and_succeeds();
}

#[test]
fn nocldstop_hides_stops_and_continuations() {
    action("nocldstop").same_and_succeeds();
}

#[test]
fn nocldwait_leaves_no_zombies() {
    action("nocldwait").same_and_succeeds();
}

#[test]
fn exec_keeps_what_is_ignored_blocked_and_pending() {
    action("exec").same_and_succeeds();
}

#[test]
fn real_time_signals_come_lowest_first_each_in_order() {
    queue("real_time_order").same_and_succeeds();
}

#[test]
fn handlers_that_do_not_block_each_other_nest() {
    queue("real_time_nesting").same_and_succeeds();
}

#[test]
fn no_queue_overflows_when_handlers_nest_without_end() {
    queue("nodefer_flood").same_and_succeeds();
}

#[test]
fn standard_signals_come_lowest_first() {
    queue("standard_order").same_and_succeeds();
}

#[test]
fn what_a_thread_was_sent_comes_before_what_the_process_was_sent() {
    queue("thread_before_process").same_and_succeeds();
}

#[test]
fn the_limit_on_pending_signals_is_the_kernels() {
    queue("limit").same_and_succeeds();
}

#[test]
fn sigtimedwait_takes_in_order_and_checks_its_arguments() {
    queue("waits_take_in_order").same_and_succeeds();
}

#[test]
fn a_signal_that_is_waited_for_does_not_reach_its_handler() {
    queue("wait_beats_handler").same_and_succeeds();
}

#[test]
fn sent_faults_are_pending_like_other_signals() {
    queue("sent_faults").same_and_succeeds();
}

#[test]
fn a_child_inherits_the_mask_and_nothing_pending() {
    queue("fork").same_and_succeeds();
}

#[test]
fn each_of_many_queued_values_arrives_once() {
    queue("every_value_arrives").same_and_succeeds();
}

#[test]
fn posix_timers_notify_in_each_way() {
    timer("posix_timers").same_and_succeeds();
}

#[test]
fn overruns_of_timers_are_counted() {
    timer("overruns").same_and_succeeds();
}

#[test]
fn bad_timers_are_refused() {
    timer("bad_timers").same_and_succeeds();
}

#[test]
fn interval_timers_of_each_kind_fire() {
    timer("interval_timers").same_and_succeeds();
}

#[test]
fn timers_on_cpu_time_fire() {
    timer("cpu_timers").same_and_succeeds();
}

#[test]
fn timers_stay_with_their_process() {
    timer("processes").same_and_succeeds();
}

#[test]
fn timer_descriptors_are_read_and_polled() {
    timer("descriptors").same_and_succeeds();
}

#[test]
fn calls_fail_when_a_signal_without_restart_comes() {
    interrupted("without_restart").same_and_succeeds();
}

#[test]
fn calls_are_restarted_as_the_kernel_does() {
    interrupted("with_restart").same_and_succeeds();
}

#[test]
fn waiting_for_locks_and_openings_is_interrupted() {
    interrupted("locks").same_and_succeeds();
}

#[test]
fn a_write_that_moved_something_comes_back_with_that() {
    interrupted("part_of_a_write").same_and_succeeds();
}

#[test]
fn a_stop_does_not_end_a_call() {
    interrupted("stopped_calls").same_and_succeeds();
}

#[test]
fn a_sleep_that_is_stopped_ends_at_its_time() {
    interrupted("sleep_keeps_its_time").same_and_succeeds();
}

#[test]
fn restart_syscall_without_reason_fails() {
    interrupted("restart_without_reason").same_and_succeeds();
}

#[test]
fn handlers_may_jump_out_of_calls() {
    interrupted("jumps").same_and_succeeds();
}

#[test]
fn signalfd_gives_records_of_what_is_blocked() {
    descriptor("records").same_and_succeeds();
}

#[test]
fn signalfd_can_be_polled() {
    descriptor("polled").same_and_succeeds();
}

#[test]
fn signalfd_wakes_a_reader() {
    descriptor("blocking_read").same_and_succeeds();
}

#[test]
fn epoll_pwait_waits_under_its_own_mask() {
    descriptor("masks_of_epoll").same_and_succeeds();
}

#[test]
fn a_mask_of_a_call_may_block_more() {
    descriptor("masks_that_block").same_and_succeeds();
}

#[test]
fn signals_go_through_process_descriptors() {
    descriptor("process_descriptors").same_and_succeeds();
}

#[test]
fn a_child_hears_of_its_parents_death() {
    descriptor("parent_death").same_and_succeeds();
}

#[test]
fn all_vector_and_mask_registers_survive_handlers() {
    frame("all_vectors").same_and_succeeds();
}

#[test]
fn a_handlers_edits_of_vector_registers_are_loaded() {
    frame("edits_of_vectors").same_and_succeeds();
}

#[test]
fn a_handler_starts_with_fresh_floating_point_state() {
    frame("fresh").same_and_succeeds();
}

#[test]
fn null_checks_by_fault_go_on_elsewhere() {
    frame("null_checks").same_and_succeeds();
}

#[test]
fn faults_of_a_closed_page_are_resumed() {
    frame("safepoints").same_and_succeeds();
}

#[test]
fn memory_is_made_accessible_on_demand() {
    frame("memory_on_demand").same_and_succeeds();
}

#[test]
fn jumps_out_of_handlers_free_the_alternate_stack() {
    frame("jumps_out").same_and_succeeds();
}

#[test]
fn disarming_stacks_nest_and_come_back() {
    frame("disarmed_stacks").same_and_succeeds();
}

#[test]
fn coroutines_are_preempted_by_signals() {
    frame("preempted_coroutines").same_and_succeeds();
}

#[test]
fn a_handler_may_move_stack_and_program_counter() {
    frame("moved_stack").same_and_succeeds();
}

#[test]
fn signals_of_job_control_stop_by_default() {
    job("defaults_stop").same_and_succeeds();
}

#[test]
fn an_editor_handles_its_stop_and_stops() {
    job("handled_stop").same_and_succeeds();
}

#[test]
fn continuing_beats_stopping() {
    job("continue_wins").same_and_succeeds();
}

#[test]
fn process_groups_are_signalled() {
    job("process_groups").same_and_succeeds();
}

#[test]
fn a_terminal_stops_background_processes_and_sends_keys() {
    job("terminal").same_and_succeeds();
}

#[test]
fn an_interactive_shell_controls_its_jobs() {
    job("shell").same_and_succeeds();
}

#[test]
fn a_traced_guest_has_its_signals_in_its_trace() {
    let traced = Under::EndoWith(["--backend", &backend(), "--trace"].map(str::to_owned).to_vec());
    let outcome = delivery("real_time_queue").run(&traced);
    let trace = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let queued = trace
        .lines()
        .filter(|line| line.starts_with("--- SIGRT_4 {si_signo=SIGRT_4, si_code=SI_QUEUE, si_pid="));
    assert_eq!(queued.count(), 4, "{trace}");
    assert!(trace.contains(", si_int=44, si_ptr=0x2c} ---"), "{trace}");
    assert!(trace.contains("--- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_TKILL, si_pid="), "{trace}");
}

#[test]
fn a_signal_reaches_the_one_thread_that_lets_it_through() {
    threads("reaches_who_lets_it_through").same_and_succeeds();
}

#[test]
fn one_thread_may_wait_for_the_signals_of_all() {
    threads("one_thread_waits").same_and_succeeds();
}

#[test]
fn a_signal_to_a_thread_is_no_other_ones() {
    threads("directed").same_and_succeeds();
}

#[test]
fn no_signal_is_lost_when_threads_end() {
    threads("threads_end").same_and_succeeds();
}

#[test]
fn no_signal_is_lost_when_threads_change_their_masks() {
    threads("masks_change").same_and_succeeds();
}

#[test]
fn timers_start_threads() {
    threads("timers").same_and_succeeds();
}

#[test]
fn threads_fault_at_once_each_for_itself() {
    threads("faults").same_and_succeeds();
}

//! The kernel as deputy: calls that name memory by its address, or bind whoever shares the process.

use endo_testing::{Guest, Under};

use crate::aims::{canary_address, mappings};
use crate::session::{CANARY, Session, program};

/// What an attempt came to.
#[derive(Debug)]
struct Attempt {
    /// What it came to on the program's own memory: "done" or an errno.
    twin: String,
    /// What it came to on the target.
    outcome: String,
    /// Whether the target's bytes or its page's rights have changed.
    has_changed: bool,
    /// Whether the target's bytes are what the program has read.
    was_read: bool,
}

impl Attempt {
    /// Whether it had an effect that can be seen.
    fn had_effect(&self) -> bool {
        self.has_changed || self.was_read
    }

    /// Whether the kernel, or who stands in for it, said that it did as asked.
    fn was_granted(&self) -> bool {
        self.outcome == "done"
    }
}

/// Has the guest attempt an attack on its own secret, or, under Endo, on endo's canary.
fn attempt(attack: &str, under: &Under) -> Attempt {
    let mut session = Session::start(&Guest::new(program("deputy.c")).argument(attack), under);
    let own_secret = session.hear();
    let own_secret = u64::from_str_radix(&own_secret[1], 16).expect("the guest says where its secret is");
    let twin = session.hear().swap_remove(1);
    let process = session.process();
    let target = if *under == Under::Native { own_secret } else { canary_address(process, CANARY) };
    let before = state(process, target);
    session.tell(&format!("{target:x}"));
    let words = session.hear();
    let after = state(process, target);
    session.tell("enough");
    let status = session.end();
    assert!(status.success(), "{attack}: the guest ended with {status}");
    let secret: String = before.1.iter().map(|byte| format!("{byte:02x}")).collect();
    Attempt { twin, outcome: words[1].clone(), has_changed: before != after, was_read: words[2] == secret }
}

/// Rights and bytes of a place in a process; nothing, where nothing is mapped.
fn state(process: u32, address: u64) -> ([bool; 3], Vec<u8>) {
    let mapping =
        mappings(process).into_iter().find(|mapping| (mapping.start..mapping.end).contains(&address));
    mapping.map_or_else(Default::default, |mapping| {
        let rights = [mapping.is_readable, mapping.is_writable, mapping.is_executable];
        (rights, crate::aims::read_memory(process, address, 16))
    })
}

/// The attack works natively, fails under Endo, and there does to the program's own memory what it does natively, or, for
/// what nobody is offered, fails with this errno (or one of these, where the machine may lack the thing). Where the
/// effect can be seen it counts, and otherwise what the program is told.
#[track_caller]
fn fails(attack: &str, twin: &str) {
    let native = attempt(attack, &Under::Native);
    let works = native.had_effect() || native.was_granted();
    assert!(works && native.twin == "done", "{attack} does not even work natively: {native:?}");
    let ours = attempt(attack, &Under::Endo);
    assert!(!ours.had_effect() && (native.had_effect() || !ours.was_granted()), "{attack}: {ours:?}");
    has_twin(&ours, attack, twin);
}

/// The same for what not every kernel and every user may do: natively it is not tried.
#[track_caller]
fn fails_here(attack: &str, twin: &str) {
    let ours = attempt(attack, &Under::Endo);
    assert!(!ours.had_effect() && !ours.was_granted(), "{attack}: {ours:?}");
    has_twin(&ours, attack, twin);
}

#[track_caller]
fn has_twin(ours: &Attempt, attack: &str, twin: &str) {
    assert!(twin.split('|').any(|twin| twin == ours.twin), "{attack} on the program's own memory: {ours:?}");
}

macro_rules! attacks {
    ($($check:ident { $(fn $test:ident: $attack:literal, $twin:literal;)* })*) => {
        $($(#[test] fn $test() { $check($attack, $twin); })*)*
    };
}

attacks! {
    fails {
        fn process_vm_readv_reads_nothing_of_the_monitors: "process_vm_readv", "done";
        fn process_vm_writev_writes_nothing_of_the_monitors: "process_vm_writev", "done";
        fn process_vm_writev_by_a_child_writes_nothing_of_its_parents_monitor: "process_vm_writev_of_the_parent", "done";
        fn the_memory_file_writes_nothing: "proc_mem", "EACCES";
        fn the_memory_file_of_the_parent_writes_nothing: "proc_mem_of_the_parent", "EACCES";
        fn no_child_traces_its_parent: "ptrace_of_the_parent", "EPERM";
        fn nobody_is_invited_to_trace: "ptrace_traceme", "EPERM";
        fn physical_pages_are_not_told: "pagemap", "EACCES";
        fn the_objects_behind_mappings_are_not_listed: "map_files", "EACCES";
        fn references_are_not_cleared: "clear_refs", "EACCES";
        fn foreign_memory_is_not_unmapped: "munmap", "done";
        fn nothing_is_mapped_over_foreign_memory: "map_fixed", "done";
        fn rights_of_foreign_pages_do_not_change: "mprotect", "done";
        fn rights_of_foreign_pages_do_not_change_by_key: "pkey_mprotect", "done";
        fn rights_of_a_range_that_leaves_the_window_do_not_change: "mprotect_straddling", "done";
        fn foreign_memory_is_not_moved_away: "mremap_away", "done";
        fn nothing_is_moved_onto_foreign_memory: "mremap_onto", "done";
        fn foreign_pages_are_not_emptied: "madvise", "done";
        fn foreign_pages_are_not_locked: "mlock", "done";
        fn foreign_pages_are_not_synchronised: "msync", "done";
        fn it_is_not_told_which_foreign_pages_are_in_memory: "mincore", "done";
        fn no_segment_is_attached_over_foreign_memory: "shmat", "done";
        fn readable_does_not_become_executable: "personality", "EINVAL";
        fn no_page_is_spliced_into_a_pipe: "vmsplice", "done";
        fn nothing_foreign_is_written_to_a_pipe: "write_to_pipe", "done";
        fn nothing_is_read_into_foreign_memory: "read_from_pipe", "done";
        fn asynchronous_requests_are_not_taken: "io_submit", "ENOSYS";
        fn the_word_that_a_thread_clears_at_its_end_is_the_guests: "set_tid_address", "done";
        fn the_word_for_a_childs_number_is_the_guests: "clone_parent_settid", "done";
        fn the_word_that_a_child_clears_is_the_guests: "clone_child_cleartid", "done";
        fn restartable_sequences_are_not_registered: "rseq", "ENOSYS";
        fn futex_operations_change_no_foreign_word: "futex_wake_op", "done";
        fn a_robust_list_that_leads_to_foreign_memory_is_not_followed: "set_robust_list", "done";
        fn a_segment_base_leads_to_no_foreign_memory: "gs_base", "done";
        fn filters_of_calls_are_not_installed: "seccomp", "ENOSYS";
        fn filters_of_calls_are_not_installed_by_prctl: "seccomp_by_prctl", "EINVAL";
        fn user_dispatch_is_not_touched: "user_dispatch", "EINVAL";
        fn a_vector_that_changes_meanwhile_leads_to_no_foreign_memory: "writev_race", "done";
        fn a_message_that_changes_meanwhile_takes_nothing_foreign: "sendmsg_race", "done";
        fn a_vector_that_changes_meanwhile_is_not_filled_in_foreign_memory: "readv_race", "done";
        fn a_message_that_changes_meanwhile_is_not_received_in_foreign_memory: "recvmsg_race", "done";
        fn messages_that_change_meanwhile_are_not_received_in_foreign_memory: "recvmmsg_race", "done";
        fn a_child_with_a_foreign_stack_pushes_nothing_there: "clone_stack", "done";
        fn a_child_with_a_foreign_thread_pointer_stores_nothing_there: "clone_tls", "done";
        fn a_link_that_changes_meanwhile_leads_to_no_memory_file: "link_race", "EACCES";
        fn a_descriptor_is_judged_before_any_thread_has_it: "number_race", "EACCES";
        fn the_time_stamp_counter_stays_readable: "time_stamps", "EINVAL";
    }
    fails_here {
        fn the_kernel_is_not_told_of_other_arguments: "prctl_set_mm", "EINVAL";
        fn mappings_are_not_named: "prctl_name", "EINVAL";
        fn write_and_execute_are_not_parted_for_good: "prctl_mdwe", "EINVAL";
        fn advice_by_descriptor_is_not_taken: "process_madvise", "ENOSYS";
        fn faults_are_not_handled_by_the_guest: "userfaultfd", "ENOSYS";
        fn pages_are_not_sealed: "mseal", "ENOSYS";
        fn it_is_not_told_on_which_node_pages_are: "move_pages", "ENOSYS";
        fn rings_of_requests_are_not_set_up: "io_uring_setup", "ENOSYS";
        fn descriptor_tables_of_segments_are_not_changed: "local_descriptor_table", "ENOSYS";
        fn the_vsyscall_page_is_not_called: "vsyscall", "0";
        fn events_are_not_watched: "perf_event", "EACCES";
        fn programs_are_not_loaded_into_the_kernel: "bpf", "EPERM";
        fn ports_are_not_opened: "iopl", "EPERM";
        fn ports_are_not_opened_one_by_one: "ioperm", "EPERM";
        fn cpuid_is_not_made_to_fault: "cpuid_faults", "EINVAL";
        fn shadow_stacks_are_not_switched: "shadow_stack", "EINVAL";
        fn shadow_stacks_are_not_mapped: "map_shadow_stack", "ENOSYS";
        fn machines_are_not_made: "kvm", "ENOTTY|EBADF";
        fn descriptors_are_not_taken_by_process: "pidfd_getfd", "EPERM";
        fn objects_are_not_compared: "kcmp", "EPERM";
        fn the_root_is_not_changed: "chroot", "EPERM";
        fn namespaces_are_not_left: "unshare", "EPERM";
        fn namespaces_are_not_entered: "setns", "EPERM";
        fn files_are_not_opened_by_handle: "open_by_handle", "EOPNOTSUPP";
        fn the_machines_memory_is_not_opened: "machine_memory", "EPERM|ENOENT";
        fn the_kernels_memory_is_not_opened: "kernel_memory", "EPERM|ENOENT";
    }
}

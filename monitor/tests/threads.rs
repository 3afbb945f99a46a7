//! Programs with several threads do under `endo run` what they do natively.
//!
//! Each test runs one case of a guest in `threads/` twice, natively and under Endo, and compares output and status.
//! `ENDO_BACKEND` chooses the backend.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use endo_testing::{Guest, compile, data};

fn guest_by(command: &str, file: &str, case: &str) -> Guest {
    let source = format!("{}/tests/threads/{file}.c", env!("CARGO_MANIFEST_DIR"));
    Guest::new(compile(command, &[source.into()])).argument(case)
}

fn guest(file: &str, case: &str) -> Guest {
    guest_by("gcc -O1 -w -pthread", file, case)
}

fn musl(file: &str, case: &str) -> Guest {
    guest_by("musl-gcc -static -O1 -w", file, case)
}

#[test]
fn threads_are_made_and_joined() {
    guest("basics", "create_join").same_and_succeeds();
    musl("basics", "create_join").same_and_succeeds();
}

#[test]
fn locks_keep_threads_apart() {
    guest("basics", "locks").same_and_succeeds();
    musl("basics", "locks").same_and_succeeds();
}

#[test]
fn each_thread_has_its_own_storage() {
    guest("basics", "storage").same_and_succeeds();
    musl("basics", "storage").same_and_succeeds();
}

#[test]
fn a_signal_to_a_thread_reaches_that_thread() {
    guest("basics", "signals").same_and_succeeds();
}

#[test]
fn a_signal_to_the_process_reaches_a_thread_that_lets_it_through() {
    guest("basics", "process_signals").same_and_succeeds();
}

#[test]
fn a_fault_is_its_threads_own() {
    guest("basics", "faults").same_and_succeeds();
}

#[test]
fn threads_have_names_and_entries_in_proc() {
    guest("basics", "names").same_and_succeeds();
}

#[test]
fn a_thousand_threads_come_and_go_and_memory_stays() {
    guest("basics", "many").argument("1000").same_and_succeeds();
    musl("basics", "many").argument("200").same_and_succeeds();
}

#[test]
fn hundreds_of_threads_live_at_once() {
    guest("basics", "crowd").same_and_succeeds();
}

#[test]
fn threads_map_and_unmap_at_the_same_time() {
    guest("basics", "mappings").same_and_succeeds();
}

#[test]
fn scheduling_and_barriers_are_the_hosts() {
    guest("basics", "scheduling").same_and_succeeds();
}

#[test]
fn a_process_ends_with_its_threads_in_whatever_state() {
    guest("ends", "ends").same_and_succeeds();
}

#[test]
fn exec_leaves_one_thread_and_a_failed_one_all() {
    guest("ends", "execs").same_and_succeeds();
}

#[test]
fn children_are_forked_while_threads_allocate_and_map() {
    guest("ends", "forks").same_and_succeeds();
}

#[test]
fn children_with_another_signal_at_their_end_are_forked_while_threads_are_in_the_monitor() {
    guest("ends", "clones").same_and_succeeds();
}

#[test]
fn the_thread_that_forks_is_the_childs_first() {
    guest("ends", "forked_by_thread").same_and_succeeds();
}

#[test]
fn posix_spawn_leaves_other_threads_alone() {
    guest("ends", "spawns").same_and_succeeds();
}

#[test]
fn a_child_of_vfork_keeps_its_signal_actions_to_itself() {
    guest("ends", "vfork_and_actions").same_and_succeeds();
}

#[test]
fn any_thread_waits_for_any_child() {
    guest("ends", "waits").same_and_succeeds();
}

#[test]
fn futexes_wait_wake_requeue_and_inherit() {
    guest("futexes", "operations").same_and_succeeds();
}

#[test]
fn locks_of_the_dead_are_found_abandoned() {
    guest("futexes", "robust").same_and_succeeds();
}

#[test]
fn locks_work_between_processes() {
    guest("futexes", "between_processes").same_and_succeeds();
}

#[test]
fn a_wait_ends_or_goes_on_after_a_signal() {
    guest("futexes", "interrupted").same_and_succeeds();
}

#[test]
fn clone_makes_threads_as_musl_and_go_want_them() {
    guest("clones", "clones").same_and_succeeds();
}

#[test]
fn the_c_librarys_own_signals_are_the_guests() {
    guest("ids", "ids").same_and_succeeds();
    musl("ids", "ids").same_and_succeeds();
}

#[test]
fn sort_and_compressors_use_several_threads() {
    let text = data::text(2 << 20, 1);
    Guest::new("/usr/bin/sort")
        .arguments(["--parallel=4", "-S", "1M", "in"])
        .file("in", text.clone())
        .same_and_succeeds();
    Guest::new("/usr/bin/xz")
        .arguments(["-T2", "--block-size=500KiB", "-1k", "in"])
        .file("in", text.clone())
        .same_and_succeeds();
    Guest::new("/usr/bin/zstd")
        .arguments(["-qT2", "-B524288", "in"])
        .file("in", text.clone())
        .same_and_succeeds();
}

#[test]
fn pythons_threads_run() {
    let program = r#"
import threading, queue, subprocess, concurrent.futures, hashlib
q, results = queue.Queue(), []
def work():
    while (n := q.get()) is not None:
        results.append((n, hashlib.sha256(b"x" * n * 1000).hexdigest()))
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for n in range(200): q.put(n)
for _ in threads: q.put(None)
for t in threads: t.join()
print(len(results), hashlib.sha256(repr(sorted(results)).encode()).hexdigest())
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda n: subprocess.run(["/bin/echo", str(n)], capture_output=True).stdout, range(8))))
e = threading.Event(); t = threading.Timer(0.01, e.set); t.start(); print(e.wait(5))
"#;
    Guest::new("/usr/bin/python3.11").arguments(["-c", program]).same_and_succeeds();
}

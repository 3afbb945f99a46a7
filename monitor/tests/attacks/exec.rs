//! Shedding the monitor: by exec in every form, before it is ready, after it has gone.

use endo_testing::{Guest, Under};

use crate::session::{built, is_always_confined, program};

#[test]
fn no_form_of_exec_sheds_the_monitor() {
    let other = built("gcc -O1 -w -static", "exec.c");
    let guest = Guest::new(program("exec.c")).argument(other);
    let [native, ours] = is_always_confined(&guest, 17);
    assert_eq!(native.replace("free", "confined").lines().count(), ours.lines().count());
}

#[test]
fn a_set_user_id_file_gives_no_privilege() {
    let guest = Guest::new(program("exec.c")).argument(built("gcc -O1 -w -static", "exec.c"));
    let [native, ours] = [Under::Native, Under::Endo].map(|under| guest.run(&under).text());
    // Only the super-user can make such a file that is not its own.
    let expected = if native.contains("user 0\n") { "user 65534\n" } else { "user " };
    assert!(ours.contains(expected), "{ours}");
}

#[test]
fn nothing_runs_before_the_monitor_or_after_it() {
    is_always_confined(&Guest::new(program("early.c")), 6);
    is_always_confined(&Guest::new(built("gcc -O1 -w -static", "early.c")), 6);
}

//! bash with traps and job control; terminals.

use endo_testing::Guest;

/// Jobs that stop, go on and are killed, with no terminal. Whatever a shell says on its own goes to standard error with
/// process numbers in it.
const JOBS: &str = r#"
    exec 2>/dev/null; set -m
    trap 'echo usr1' USR1; trap 'echo exit $?' EXIT; kill -USR1 $$
    sleep 0.1 & wait; echo "waited $?"
    sleep 100 & p=$!; kill -STOP $p; sleep 0.1; jobs -s; kill -CONT $p; sleep 0.1; jobs -r; kill $p; wait $p; echo "killed $?"
    (trap 'echo term; exit 9' TERM; while :; do sleep 0.02; done) & p=$!; sleep 0.2; kill $p; wait $p; echo $?
    sleep 100 | cat & sleep 0.2; kill %%; wait; echo "pipeline $?"
    bash -c 'kill -TSTP $$; echo resumed' & sleep 0.2; jobs; fg %% >/dev/null; echo "foreground $?"
    coproc cat; echo hi >&${COPROC[1]}; read x <&${COPROC[0]}; echo "got $x"; kill $COPROC_PID; wait $COPROC_PID; echo $?
    trap '' TERM; bash -c 'kill -TERM $$; echo immune'; trap - TERM
    trap 'echo "error at $LINENO"' ERR; false; trap - ERR
    timeout 0.1 sleep 10; echo $?; timeout -s KILL 0.1 sleep 10; echo $?
    sleep 0.05 & sleep 0.2 & wait -n; echo "first $?"; wait
    exec 5> >(sed 's/^/through /'); echo five >&5; exec 5>&-; wait $!
    (ulimit -n 100; ulimit -n; exec 150<&0); echo "too high: $?"
    trap 'echo child' CHLD; /bin/true; trap - CHLD; exit 4
"#;

/// The same with a terminal, which background jobs may not read from, and, if so set, not write to.
const TERMINAL: &str = r#"
    set -m; tty | sed 's/[0-9]*$/N/'; ps -o stat= -p $$ | cut -c1
    cat & sleep 0.2; jobs; kill -KILL %1; wait 2>/dev/null
    sh -c 'kill -TSTP $$; echo back'; echo "stopped $?"; fg >/dev/null; echo "again $?"
    stty tostop; (echo background) & sleep 0.2; jobs; stty -tostop; fg >/dev/null
    stty size; stty rows 30 cols 90; stty size
    trap 'echo window' WINCH; stty rows 31; :
    read -t 0.05 line; echo "timed out: $(($? > 128))"
"#;

#[test]
fn bash_traps_signals_and_controls_jobs() {
    let guest = Guest::new("/bin/bash").arguments(["-c", JOBS]).limit_seconds(60);
    let outcome = guest.same();
    assert!(outcome.text().ends_with("child\nexit 4\n"), "{}", outcome.text());
}

#[test]
fn bash_controls_jobs_on_a_terminal() {
    // What bash says about killed jobs goes to the terminal, with process numbers.
    let script =
        r#"script -qefc "bash --norc --noprofile job.sh" /dev/null </dev/null | tr -d '\r' | grep -v Killed"#;
    let outcome = Guest::shell(script).file("job.sh", TERMINAL).limit_seconds(60).same_and_succeeds();
    assert!(outcome.text().contains("Stopped"), "{}", outcome.text());
}

#[test]
fn script_passes_the_status_of_its_command_on() {
    let outcome =
        Guest::shell("script -qefc 'echo seen; exit 3' /dev/null </dev/null; echo $?").same_and_succeeds();
    assert_eq!(outcome.text(), "seen\r\n3\n");
}

#[test]
fn a_terminal_multiplexer_runs_shells_in_its_windows() {
    let script = r#"
        T="tmux -L endo-test-$$ -f /dev/null"
        say() { for i in $(seq 400); do $T capture-pane -p -t s:$1 | grep -q "$2" && { echo "$2"; return; }; sleep 0.05; done; echo "no $2"; }
        $T new-session -d -x 80 -y 24 -s s sh
        $T send-keys -t s 'echo $((6 * 7)) "$(stty size)"' Enter; say 0.0 '^42 24 80'
        $T split-window -t s 'stty size; exec sleep 100'; say 0.1 '^11 80'
        $T list-panes -t s -F '#{pane_index} #{pane_width}x#{pane_height}'
        $T kill-server; sleep 0.1; $T ls >/dev/null 2>&1; echo $?
    "#;
    let outcome = Guest::shell(script).variable("TERM", "screen").limit_seconds(60).same_and_succeeds();
    assert!(outcome.text().starts_with("^42 24 80\n^11 80\n"), "{}", outcome.text());
}

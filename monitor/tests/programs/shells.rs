//! Shells: builtins, pipelines, substitutions, children.

use endo_testing::Guest;

/// A script that stays inside the shell.
const BUILTINS: &str = r#"
    i=0; s=; while [ $i -lt 3000 ]; do i=$((i + 1)); s=${s#????????}$i; done; echo "$s"
    f() { case $1 in (a*) echo "A: $1";; (*[0-9]) echo "number: ${1%%[0-9]*}";; (*) return 7;; esac; }
    f apple; f x123; f zzz; echo $?
    set -- one "two three" four; for x; do echo "<$x>"; done; echo $#
    echo "${undefined:-default} ${PATH:+set}"; printf '%05d|%s\n' 42 end
    trap 'echo bye' EXIT; exit 3
"#;

/// A script that starts children.
const CHILDREN: &str = r#"
    echo "c b a" | tr ' ' '\n' | sort | sed 's/^/- /'
    x=$(echo inner; exit 4); echo "$x $?"
    (echo sub; exit 5); echo $?
    seq 1000 | while read n; do [ $((n % 250)) = 0 ] && echo "$n"; done
    false || echo "after false"; ! true; echo $?
    cat <<END | wc -c
here is a document
END
    sleep 0.05 & wait $!; echo "waited $?"
    sh -c 'kill -TERM $$'; echo "signal $?"
    nosuchcommand 2>/dev/null; echo $?
    yes | head -n 2
    echo to-a-file > f; cat < f >> f2; cat f2
"#;

#[test]
fn dash_runs_a_script_of_builtins() {
    Guest::new("/bin/dash").arguments(["-c", BUILTINS]).same();
}

#[test]
fn bash_runs_a_script_of_builtins() {
    Guest::new("/bin/bash").arguments(["-c", BUILTINS]).same();
}

#[test]
fn bash_has_arrays_patterns_and_arithmetic() {
    let script = r#"
        declare -A m=([one]=1 [two]=2); a=(x y "z w"); echo "${#a[@]} ${a[2]} ${m[two]}"
        for ((i = 0; i < 500; i++)); do ((t += i ** 2 % 7)); done; echo $t
        [[ abc123 =~ ^([a-z]+)([0-9]+)$ ]] && echo "${BASH_REMATCH[1]}-${BASH_REMATCH[2]}"
        echo {1..5} "${a[@]^^}" $'\t|' "${PATH//:/ }"; mapfile -t l < <(printf 'a\nb\n'); echo "${l[1]}"
    "#;
    Guest::new("/bin/bash").arguments(["-c", script]).same_and_succeeds();
}

#[test]
fn a_shell_pipeline_works() {
    let outcome = Guest::shell("echo one two | tr ' ' '\\n' | sort -r | cat -n").same_and_succeeds();
    assert_eq!(outcome.text(), "     1\ttwo\n     2\tone\n");
}

#[test]
fn dash_starts_children_and_waits_for_them() {
    Guest::new("/bin/dash").arguments(["-c", CHILDREN]).same_and_succeeds();
}

#[test]
fn bash_starts_children_and_waits_for_them() {
    Guest::new("/bin/bash").arguments(["-c", CHILDREN]).same_and_succeeds();
}

#[test]
fn busybox_runs_its_applets() {
    for arguments in [
        &["echo", "hello"][..],
        &["ls", "-la", "/etc"],
        &["sh", "-c", BUILTINS],
        &["sh", "-c", CHILDREN],
        &["awk", "BEGIN { for (i = 0; i < 10000; i++) s += i * i; print s, sqrt(s) }"],
        &["sha256sum", "/bin/busybox"],
        &["md5sum", "/bin/busybox"],
        &["sort", "-r", "/etc/passwd"],
        &["grep", "-n", "root", "/etc/passwd"],
        &["vi", "--help"],
        &["dc", "-e", "2 100 ^ p"],
        &["find", "/usr/include/linux", "-name", "*.h"],
        &["gzip", "-c", "/etc/passwd"],
        &["nosuchapplet"],
    ] {
        Guest::new("/bin/busybox").arguments(arguments).same();
    }
}

#[test]
fn a_script_with_an_interpreter_line_runs() {
    let outcome = Guest::new("./script")
        .arguments(["x", "y z"])
        .executable_file("script", "#!/bin/sh -e\necho \"$0 $# $2\"\nfalse\necho not reached\n")
        .same();
    assert_eq!(outcome.text(), "./script 2 y z\n");
}

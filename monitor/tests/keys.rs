//! Real programs on the backend of protection keys do what they do natively: output, status and files.
//!
//! `cargo xtask vm tests` runs it in the emulated machine, with `ENDO_BACKEND=mpk`; `cargo test` leaves it out.

#![cfg(target_arch = "x86_64")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use endo_testing::{Guest, Under, backend, endo_binary};

/// Emulated, and others run beside it.
const LIMIT_SECONDS: u64 = 170;

fn guest(program: &str, arguments: &[&str]) -> Guest {
    assert_eq!(backend(), "mpk", "the backend under test");
    Guest::new(program).arguments(arguments).variable("LC_ALL", "C").limit_seconds(LIMIT_SECONDS)
}

fn same(program: &str, arguments: &[&str], expected: &str) {
    let outcome = guest(program, arguments).same_and_succeeds();
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), expected);
}

#[test]
fn the_doctor_finds_protection_keys_usable() {
    let output = Command::new(endo_binary()).arg("doctor").output().expect("endo can be started");
    let report = String::from_utf8(output.stdout).expect("endo prints UTF-8");
    let line = report.lines().find_map(|line| line.trim_start().strip_prefix("mpk")).expect("a line");
    assert!(line.trim().starts_with("usable: "), "{line}");
}

#[test]
fn a_static_program() {
    same("/usr/bin/busybox", &["sh", "-c", "for word in b a; do echo $word; done | busybox sort"], "a\nb\n");
}

#[test]
fn a_pipeline_of_dynamic_programs_that_bind_lazily() {
    same(
        "/bin/sh",
        &[
            "-c",
            "printf 'b\\na\\nc\\n' | sort | tr a-c A-C | wc -l; seq 5 | awk '{ s += $1 } END { print s }'",
        ],
        "3\n15\n",
    );
}

#[test]
fn archives_and_compression() {
    same(
        "/bin/sh",
        &[
            "-c",
            "seq 20000 > f; tar cf - f | gzip | gzip -d | tar tf -; xz -c f | xz -dc | cmp - f && echo same",
        ],
        "f\nsame\n",
    );
}

#[test]
fn python_with_threads_and_processes() {
    let program = "import threading, subprocess, json\n\
                   seen = []\n\
                   threads = [threading.Thread(target=lambda n=n: seen.append(n)) for n in range(8)]\n\
                   [t.start() for t in threads]; [t.join() for t in threads]\n\
                   print(json.dumps(sorted(seen)), subprocess.check_output(['echo', 'child']))";
    same("/usr/bin/python3", &["-c", program], "[0, 1, 2, 3, 4, 5, 6, 7] b'child\\n'\n");
}

#[test]
fn python_that_handles_signals() {
    let program = "import signal, os\n\
                   hits = []\n\
                   signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))\n\
                   for _ in range(20): os.kill(os.getpid(), signal.SIGUSR1)\n\
                   print(len(hits))";
    same("/usr/bin/python3", &["-c", program], "20\n");
}

#[test]
fn perl_that_forks() {
    same(
        "/usr/bin/perl",
        &["-e", "if (my $p = fork) { waitpid $p, 0; print $? >> 8, qq(\\n) } else { exit 7 }"],
        "7\n",
    );
}

#[test]
fn lua_and_sqlite() {
    same("/usr/bin/lua5.4", &["-e", "local s = 0 for i = 1, 1e5 do s = s + i end print(s)"], "5000050000\n");
    let script = "create table t(x); with recursive c(n) as (select 1 union all select n + 1 from c where n < 500) \
                  insert into t select n from c; select sum(x) from t;";
    same("/usr/bin/sqlite3", &[":memory:", script], "125250\n");
}

#[test]
fn openssl_signs_and_hashes() {
    let outcome = guest("/usr/bin/openssl", &["dgst", "-sha256", "f"]).file("f", "endo").same_and_succeeds();
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("SHA2-256(f)= "));
}

#[test]
fn a_program_in_go() {
    let outcome = guest("/usr/bin/gojq", &["-n", "-c", "[range(5)] | map(. * .)"]).same_and_succeeds();
    assert_eq!(outcome.stdout, b"[0,1,4,9,16]\n");
}

#[test]
fn a_just_in_time_compiler() {
    let program = "let s = 0; for (let i = 0; i < 100000; i++) s += i % 7; console.log(s)";
    same("/usr/bin/node", &["-e", program], "299995\n");
}

#[test]
fn nginx_serves_a_client_at_native_speed() {
    let port = 18_080;
    let configuration = format!(
        "worker_processes 2; error_log stderr; pid nginx.pid; events {{}} http {{ access_log off; \
         client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e; \
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"hello\\n\"; }} }} }}"
    );
    let place = std::env::temp_dir().join(format!("endo-nginx-{}", std::process::id()));
    std::fs::create_dir(&place).expect("a fresh directory");
    std::fs::write(place.join("nginx.conf"), configuration).expect("room for a file");
    let directory = place.to_str().expect("UTF-8");
    let arguments = ["-p", directory, "-c", "nginx.conf", "-g", "daemon off;"];
    let mut server = guest("/usr/sbin/nginx", &arguments)
        .command(&Under::Endo)
        .stdin(Stdio::null())
        .spawn()
        .expect("endo can be started");
    let answers: Vec<String> = (0..5).map(|_| ask(port)).collect();
    // SAFETY: no memory is passed.
    let sent = unsafe { libc::kill(server.id() as i32, libc::SIGQUIT) };
    let status = server.wait().expect("it is our child");
    assert!(answers.iter().all(|answer| answer.ends_with("hello\n")), "{answers:?}");
    assert_eq!((sent, status.code()), (0, Some(0)));
}

/// What the server answers, once it is there.
fn ask(port: u16) -> String {
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(LIMIT_SECONDS), "{error}"),
        }
        sleep(Duration::from_millis(100));
    };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the server listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}

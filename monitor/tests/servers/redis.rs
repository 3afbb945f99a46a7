//! Redis: commands, scripts, snapshots by forked children, an append-only file, publishing.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use endo_testing::{Guest, Server, Under, run_to_end, same_session};

/// Starts a server on a socket in the directory, with options.
fn start(under: &Under, directory: &Path, options: &[&str]) -> Server {
    let fixed =
        ["--port", "0", "--unixsocket", "s", "--daemonize", "no", "--loglevel", "warning", "--save", ""];
    let guest = Guest::new("/usr/bin/redis-server").arguments(fixed).arguments(options);
    let mut command = guest.command(under);
    command.current_dir(directory);
    Server::start(command).ready_when(|| ask(&Under::Native, directory, &["PING"], "") == "PONG\n")
}

/// What `redis-cli` says, with arguments or with commands on its standard input.
fn ask(under: &Under, directory: &Path, arguments: &[&str], input: &str) -> String {
    let guest = Guest::new("/usr/bin/redis-cli").arguments(["-s", "s"]).arguments(arguments);
    let mut command = guest.command(under);
    command.current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run_to_end(&mut command, Some(input.as_bytes()), Some(Duration::from_secs(30))).unwrap();
    assert!(!ended.timed_out, "redis-cli does not end");
    let [out, error] =
        [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    out + &error
}

const COMMANDS: &str = r#"SET greeting "hello world"
GET greeting
APPEND greeting !
STRLEN greeting
INCRBYFLOAT pi 3.14159
EXPIRE pi 1000
TTL missing
LPUSH list a b c d e
LRANGE list 0 -1
LSET list 9 x
SADD left 1 2 3 4
SADD right 3 4 5
SINTER left right
ZADD scores 3 three 1 one 2 two
ZRANGE scores 0 -1 WITHSCORES
HSET hash field value other 7
HGETALL hash
HINCRBY hash field 1
GEOADD places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
GEODIST places Palermo Catania km
PFADD distinct a b c d e f g
PFCOUNT distinct
XADD stream 1-1 k v
XRANGE stream - +
MULTI
SET inside 1
INCR inside
EXEC
EVAL "local t = 0 for i = 1, ARGV[1] do t = t + i end return {t, redis.call('GET', KEYS[1])}" 1 inside 1000
EVAL "return redis.call('NOSUCH')" 0
SORT list ALPHA DESC
SETRANGE big 3000000 end
STRLEN big
OBJECT ENCODING hash
DEBUG JMAP
DBSIZE
"#;

#[test]
fn redis_answers_and_keeps_what_it_was_told() {
    let session = |under: &Under, directory: &Path| {
        let server = start(under, directory, &["--appendonly", "yes", "--appendfsync", "everysec"]);
        let mut said = String::new();
        for client in [under, &Under::Native] {
            said.push_str(&ask(client, directory, &["FLUSHALL", "SYNC"], ""));
            said.push_str(&ask(client, directory, &[], COMMANDS));
        }
        said.push_str(&ask(under, directory, &["BGREWRITEAOF"], ""));
        let mut server = server;
        server.wait_until("the file has been rewritten", || {
            ask(&Under::Native, directory, &["INFO", "persistence"], "").contains("aof_rewrite_in_progress:0")
        });
        // Threads of its own free the memory.
        said.push_str(&ask(under, directory, &["UNLINK", "big"], ""));
        said.push_str(&ask(under, directory, &["SAVE"], ""));
        said.push_str(&ask(under, directory, &["BGSAVE"], ""));
        server.wait_until("the snapshot has been written", || {
            let info = ask(&Under::Native, directory, &["INFO", "persistence"], "");
            info.contains("rdb_bgsave_in_progress:0") && info.contains("rdb_last_bgsave_status:ok")
        });
        let _ = writeln!(said, "{:?}", server.stop(libc::SIGTERM));
        let server = start(under, directory, &["--appendonly", "yes"]);
        said.push_str(&ask(under, directory, &["DBSIZE"], ""));
        said.push_str(&ask(under, directory, &["ZRANGE", "scores", "0", "-1"], ""));
        said.push_str(&ask(under, directory, &["SHUTDOWN", "NOSAVE"], ""));
        let _ = writeln!(said, "{:?}", server.end());
        said
    };
    let said = same_session(session);
    for line in ["hello world", "166.2742", "500500", "Exited(0)\n11\none\ntwo\nthree\nExited(0)\n"] {
        assert!(said.contains(line), "{line} is missing: {said}");
    }
}

#[test]
fn redis_publishes_to_subscribers() {
    let session = |under: &Under, directory: &Path| {
        let server = start(under, directory, &["--io-threads", "2"]);
        let said = std::thread::scope(|scope| {
            let subscribers: Vec<_> = [under, &Under::Native]
                .into_iter()
                .map(|client| {
                    scope.spawn(move || ask(client, directory, &["-r", "1", "BLPOP", "queue", "20"], ""))
                })
                .collect();
            let waits =
                || ask(&Under::Native, directory, &["INFO", "clients"], "").contains("blocked_clients:2");
            endo_testing::wait_until("both wait", waits);
            let pushed = ask(under, directory, &["RPUSH", "queue", "one", "two"], "");
            let mut answers: Vec<String> =
                subscribers.into_iter().map(|client| client.join().unwrap()).collect();
            answers.sort();
            format!("{pushed}{}", answers.concat())
        });
        format!("{said}{:?}", server.stop(libc::SIGTERM))
    };
    assert_eq!(same_session(session), "2\nqueue\none\nqueue\ntwo\nExited(0)");
}

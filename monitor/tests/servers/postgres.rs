//! PostgreSQL: a cluster is made, used in single-user mode, and served to clients; backends share memory and signal each
//! other.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use endo_testing::{Guest, Server, Under, endo_binary, kill, run_to_end, same_session};

/// The user that servers run as when the tests run as root, which PostgreSQL refuses.
const NOBODY: u32 = 65534;

/// A cluster in a directory.
struct Cluster<'a> {
    under: &'a Under,
    directory: &'a Path,
    programs: PathBuf,
    endo: PathBuf,
}

impl Cluster<'_> {
    /// Finds the programs, and gives the directory to who will run them.
    fn new<'a>(under: &'a Under, directory: &'a Path) -> Cluster<'a> {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
        let newest = versions.flatten().map(|entry| entry.path()).max().expect("PostgreSQL has a version");
        // Whoever runs it may not be able to reach the place where it was built.
        let endo = directory.join("endo");
        fs::copy(endo_binary(), &endo).expect("there is room for a copy");
        if is_root() {
            let parent = directory.parent().expect("the directory lies in another");
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
            chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may do that");
        }
        Cluster { under, directory, programs: newest.join("bin"), endo }
    }

    fn command(&self, under: &Under, program: &str, arguments: &[&str]) -> Command {
        let guest = Guest::new(self.programs.join(program)).arguments(arguments);
        let plain = guest.command(under);
        let program = if *under == Under::Native { plain.get_program() } else { self.endo.as_os_str() };
        let mut command = Command::new(program);
        command.args(plain.get_args()).current_dir(self.directory).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs a program to its end; shows how it ended and what it wrote.
    fn run(&self, under: &Under, program: &str, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(under, program, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = run_to_end(&mut command, Some(input.as_bytes()), Some(Duration::from_secs(60))).unwrap();
        assert!(!ended.timed_out, "{program} does not end");
        let [out, error] =
            [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        format!("{}\n{out}{error}", ended.status)
    }

    /// Makes the cluster.
    fn make(&self) -> String {
        self.run(
            self.under,
            "initdb",
            &["-D", "data", "--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "-U", "me"],
            "",
        )
    }

    /// Starts the server.
    fn start(&self) -> Server {
        let socket = format!("unix_socket_directories={}", self.directory.display());
        let options = [
            "-D",
            "data",
            "-F",
            "-c",
            "listen_addresses=",
            "-c",
            &socket,
            "-c",
            "shared_buffers=16MB",
            "-c",
            "autovacuum=off",
        ];
        let server = Server::start(self.command(self.under, "postgres", &options));
        server.ready_when(|| self.ask(&Under::Native, "select 1").starts_with("exit status: 0"))
    }

    /// What the server says to a script.
    fn ask(&self, under: &Under, script: &str) -> String {
        let host = self.directory.display().to_string();
        self.run(under, "psql", &["-h", &host, "-U", "me", "-X", "-A", "-d", "postgres"], script)
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

const SCRIPT: &str = "
    create table t (id int primary key, name text, at timestamp default '2024-02-29', cost numeric(12, 3), j jsonb);
    insert into t (id, name, cost, j)
        select g, md5(g::text), g / 7.0, jsonb_build_object('g', g, 'a', array[g, g + 1]) from generate_series(1, 5000) g;
    create index on t (name);
    create index on t using gin (j);
    select count(*), sum(cost), min(name), max(at) from t;
    select id, name from t where name like 'c4%' order by id limit 5;
    select j->'a' from t where j @> '{\"g\": 77}';
    begin; delete from t where id > 100; savepoint s; drop table t; rollback to s; select count(*) from t; rollback;
    select count(*) from t;
    select 1 / 0;
    insert into t (id) values (1);
    create function fib(n int) returns int language plpgsql as
        $$ begin if n < 2 then return n; end if; return fib(n - 1) + fib(n - 2); end $$;
    select fib(15);
    do $$ begin raise notice 'noticed %', now() > '2020-01-01'; raise exception 'excepted'; end $$;
    copy (select id, cost from t where id < 4) to stdout;
    set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
    explain (costs off) select count(*) from t where name like '%7%';
    select count(*) from t where name like '%7%';
    vacuum analyze t;
    set statement_timeout = 100; select pg_sleep(20);
";

#[test]
fn postgres_makes_a_cluster_and_works_alone() {
    let session = |under: &Under, directory: &Path| {
        let cluster = Cluster::new(under, directory);
        let made = cluster.make();
        let script = "create table t as select g, md5(g::text) from generate_series(1, 1000) g;\n\
            select count(*), max(md5) from t;\nselect 1 / 0;\nselect sum(g) from t;\n";
        let alone = cluster.run(under, "postgres", &["--single", "-D", "data", "-F", "postgres"], script);
        let is_logged = |line: &&str| line.contains(" UTC [");
        // Lines of the log begin with time and process.
        let lines = alone.lines().filter(|line| !is_logged(line) || line.contains("ERROR"));
        let lines = lines.map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest));
        format!("{made}{}", lines.collect::<Vec<_>>().join("\n"))
    };
    let said = same_session(session);
    for line in ["Success. You can now start", "division by zero", "sum = \"500500\""] {
        assert!(said.contains(line), "{line} is missing: {said}");
    }
}

#[test]
fn postgres_serves_clients_and_survives_a_killed_backend() {
    let session = |under: &Under, directory: &Path| {
        let cluster = Cluster::new(under, directory);
        cluster.make();
        let mut server = cluster.start();
        let mut said = cluster.ask(under, SCRIPT);
        // A native client waits for a lock that one under Endo holds.
        let holder = "begin; lock table t; select 'locked'; select pg_sleep(0.3); commit;";
        std::thread::scope(|scope| {
            let held = scope.spawn(|| cluster.ask(under, holder));
            let waited = cluster.ask(&Under::Native, "select pg_sleep(0.1); select count(*) from t;");
            said.push_str(&held.join().unwrap());
            said.push_str(&waited);
        });
        // All other backends are stopped when one has been killed, and the server recovers.
        std::thread::scope(|scope| {
            let victim = scope.spawn(|| cluster.ask(&Under::Native, "select pg_sleep(20);"));
            let query = "select 'sleeper ' || pid from pg_stat_activity where wait_event = 'PgSleep';";
            let mut sleeper = None;
            server.wait_until("the backend sleeps", || {
                let answer = cluster.ask(&Under::Native, query);
                sleeper = answer.lines().find_map(|line| line.strip_prefix("sleeper ")?.parse().ok());
                sleeper.is_some()
            });
            kill(sleeper.unwrap_or(0), libc::SIGKILL);
            said.push_str(&victim.join().unwrap());
        });
        server.wait_until("it has recovered", || {
            cluster.ask(&Under::Native, "select 1").starts_with("exit status: 0")
        });
        said.push_str(&cluster.ask(&Under::Native, "select count(*), sum(id) from t;"));
        let _ = writeln!(said, "{:?}", server.stop(libc::SIGINT));
        said
    };
    let said = same_session(session);
    for line in [
        "division by zero",
        "Workers Planned",
        "canceling statement due to statement timeout",
        "noticed t",
        "Exited(0)",
    ] {
        assert!(said.contains(line), "{line} is missing: {said}");
    }
}

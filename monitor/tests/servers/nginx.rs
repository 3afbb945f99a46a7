//! nginx: a master with workers, files, reload, replacement of the running executable.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use endo_testing::{Guest, Server, Under, children, data, is_running, kill, same_session, wait_until};

use super::http::{answers, show};
use super::place::{address, write};

const NGINX: &str = "/usr/sbin/nginx";

/// The part of a configuration that all have, with `workers` and what the servers are.
pub(crate) fn configuration(servers: &str) -> String {
    format!(
        "worker_processes 2;\ndaemon off;\npid nginx.pid;\nerror_log error.log notice;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n  log_format plain '$request $status $body_bytes_sent';\n  access_log access.log plain;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi; types {{ text/html html; application/octet-stream bin; }}\n\
         sendfile on; tcp_nopush on; gzip on; gzip_min_length 256; etag off;\n{servers}}}\n"
    )
}

/// Starts nginx in a directory that holds `nginx.conf`, and waits until it answers at an address.
pub(crate) fn start(under: &Under, directory: &Path, address: SocketAddr) -> Server {
    let prefix = format!("{}/", directory.display());
    let guest = Guest::new(NGINX).arguments(["-p", &prefix, "-c", "nginx.conf", "-e", "error.log"]);
    let mut command = guest.command(under);
    command.current_dir(directory);
    Server::start(command).ready_when(|| answers(address))
}

/// Files, and a server at an address whose answer to `/hello` is `word`.
fn prepare(directory: &Path, address: SocketAddr, word: &str) {
    write(directory, "html/small.html", "<p>small</p>\n");
    write(directory, "html/page.html", data::text(4096, 1));
    write(directory, "html/big.bin", data::mixed(3 << 20, 2));
    let server = format!(
        "  server {{ listen {address}; root html;\n    location /hello {{ return 200 \"{word}\\n\"; }}\n\
         location /through {{ proxy_pass http://{address}/page.html; }} }}\n"
    );
    write(directory, "nginx.conf", configuration(&server));
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\nHost: h\nConnection: close\n\n")
}

#[test]
fn nginx_serves_files_ranges_compression_and_a_proxy() {
    let address = address();
    let session = |under: &Under, directory: &Path| {
        prepare(directory, address, "hello");
        let nginx = start(under, directory, address);
        let mut said = String::new();
        for request in [
            "GET /hello HTTP/1.0\n\n",
            &get("/small.html"),
            "HEAD /page.html HTTP/1.1\nHost: h\nConnection: close\n\n",
            "GET /page.html HTTP/1.1\nHost: h\nAccept-Encoding: gzip\nConnection: close\n\n",
            "GET /big.bin HTTP/1.1\nHost: h\nRange: bytes=1000000-2999999\nConnection: close\n\n",
            "GET /big.bin HTTP/1.1\nHost: h\nRange: bytes=0-9,100-109\nConnection: close\n\n",
            "GET /small.html HTTP/1.1\nHost: h\nIf-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\nConnection: close\n\n",
            "POST /small.html HTTP/1.1\nHost: h\nContent-Length: 3\nConnection: close\n\nabc",
            "GET /../../etc/passwd HTTP/1.1\nHost: h\nConnection: close\n\n",
            "nonsense\n\n",
            &get("/big.bin"),
            &get("/missing.html"),
            &get("/through"),
            "GET /small.html HTTP/1.1\nHost: h\n\nGET /page.html HTTP/1.1\nHost: h\n\nGET /hello HTTP/1.0\n\n",
        ] {
            // The boundary between several ranges is a number that the server counts.
            if !request.contains("0-9,100-109") {
                said.push_str(&show(address, request));
            } else {
                assert!(show(address, request).contains("206 Partial Content"));
            }
        }
        let _ = writeln!(said, "{:?}", nginx.stop(libc::SIGQUIT));
        let mut log: Vec<String> =
            fs::read_to_string(directory.join("access.log")).unwrap().lines().map(str::to_owned).collect();
        // Two workers write it.
        log.sort_unstable();
        said + &log.join("\n")
    };
    let said = same_session(session);
    for line in ["HTTP/1.1 206 Partial Content", "HTTP/1.1 304 Not Modified", "Exited(0)"] {
        assert!(said.contains(line), "{line} is missing: {said}");
    }
}

#[test]
fn nginx_reloads_its_configuration_and_replaces_killed_workers() {
    let address = address();
    let session = |under: &Under, directory: &Path| {
        prepare(directory, address, "before");
        let mut nginx = start(under, directory, address);
        let mut said = show(address, &get("/hello"));
        let first = workers(nginx.id());
        prepare(directory, address, "after");
        nginx.signal(libc::SIGHUP);
        nginx.wait_until("new workers answer", || show(address, &get("/hello")).contains("after"));
        nginx.wait_until("the old workers are gone", || !first.iter().any(|&id| is_running(id)));
        let second = workers(nginx.id());
        kill(i64::from(second[0]), libc::SIGKILL);
        nginx.wait_until("the killed worker is gone", || !is_running(second[0]));
        let _ = writeln!(said, "{}", workers(nginx.id()).len());
        said.push_str(&show(address, &get("/hello")));
        let _ = writeln!(said, "{:?}", nginx.stop(libc::SIGTERM));
        // Who dies first is chance, the master's own lines are not.
        let log = fs::read_to_string(directory.join("error.log")).unwrap();
        for line in ["reconfiguring", "gracefully shutting down", "exited on signal 9", "SIGTERM"] {
            let _ = writeln!(said, "{line}: {}", log.contains(line));
        }
        said
    };
    let said = same_session(session);
    assert!(said.contains("Exited(0)") && !said.contains("false"), "{said}");
}

#[test]
fn nginx_hands_its_sockets_to_a_new_executable() {
    let address = address();
    let session = |under: &Under, directory: &Path| {
        prepare(directory, address, "hello");
        // nginx wants to know that nobody restarts it: that who started it has gone.
        let script =
            "(/usr/sbin/nginx -p ./ -c nginx.conf -e error.log & until [ -s nginx.pid ]; do sleep 0.01; done)
            echo started; exec sleep 1000";
        let mut command = Guest::shell(script).command(under);
        command.current_dir(directory);
        let shell = Server::start(command);
        wait_until("nginx has been started", || shell.output().contains("started"));
        let master = || fs::read_to_string(directory.join("nginx.pid")).ok()?.trim().parse().ok();
        let first: u32 = master().unwrap();
        let old = workers(first);
        kill(i64::from(first), libc::SIGUSR2);
        wait_until("a new master is there", || master().is_some_and(|id: u32| id != first));
        let second = master().unwrap();
        assert_eq!(workers(second).len(), 2);
        kill(i64::from(first), libc::SIGQUIT);
        wait_until("the old master and its workers are gone", || {
            !old.iter().chain([&first]).any(|&id| is_running(id))
        });
        let mut said = show(address, &get("/hello"));
        said.push_str(&show(address, &get("/big.bin")));
        kill(i64::from(second), libc::SIGQUIT);
        wait_until("the new master is gone", || !is_running(second));
        let _ = writeln!(said, "{:?}", shell.stop(libc::SIGTERM));
        said
    };
    assert!(same_session(session).ends_with("Killed(15)\n"));
}

/// A master's two workers, once they run.
fn workers(master: u32) -> Vec<u32> {
    let mut workers = Vec::new();
    wait_until("two workers run", || {
        workers = children(master);
        workers.retain(|&id| is_running(id));
        workers.len() == 2
    });
    workers
}

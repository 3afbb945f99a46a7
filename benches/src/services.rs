//! The table of servers and of what has a rate of its own, and how each is set up.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use endo_testing::data;

/// Something whose rate is measured: by a client that runs natively while the server runs natively or under Endo, or by
/// the program itself.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name in tables.
    pub name: &'static str,
    /// What the rate should not fall below, relative to the native one.
    pub target: f64,
    /// The server's command, run in a [`Place`]; empty if the program below is what is measured.
    pub server: &'static str,
    /// What tells the rate. `{port}` and `{tls}` are the server's, `{seconds}` and `{count}` say how long.
    pub client: &'static str,
    /// What stands before the rate in what that writes, or after it.
    pub figure: Figure,
}

/// Where the figure is.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    /// The first word after this text, where it stands last.
    After(&'static str),
    /// The last word before it.
    Before(&'static str),
}

impl Figure {
    /// Finds it in what a program wrote.
    pub fn find(self, text: &str) -> Option<f64> {
        let word = match self {
            Figure::After(label) => text.rsplit_once(label)?.1.split_whitespace().next(),
            Figure::Before(label) => text.rsplit_once(label)?.0.split_whitespace().last(),
        };
        word?.parse().ok().filter(|&figure| figure > 0.0)
    }
}

const fn service(
    name: &'static str,
    target: f64,
    server: &'static str,
    client: &'static str,
    figure: Figure,
) -> Service {
    Service { name, target, server, client, figure }
}

const NGINX: &str = "/usr/sbin/nginx -p ./ -c nginx.conf -e error.log";
const LIGHTTPD: &str = "/usr/sbin/lighttpd -D -f lighttpd.conf";
const REDIS: &str = "/usr/bin/redis-server redis.conf";
const WRK: &str = "/usr/bin/wrk -t1 -c16 -d{seconds} http://127.0.0.1:{port}/page.html";
const EVENTS: Figure = Figure::After("total number of events:");
const OPERATIONS: Figure = Figure::After("Total operations:");

/// All of them.
#[rustfmt::skip]
pub const ALL: &[Service] = &[
    service("nginx, 4 KiB", 0.85, NGINX, WRK, Figure::After("Requests/sec:")),
    service("lighttpd, 4 KiB", 0.85, LIGHTTPD, WRK, Figure::After("Requests/sec:")),
    service("nginx, TLS handshakes", 0.90, NGINX, "/usr/bin/openssl s_time -connect 127.0.0.1:{tls} -new -time {seconds}", Figure::Before("connections in")),
    service("redis, GET", 0.80, REDIS, "/usr/bin/redis-benchmark -p {port} -c 16 -n {count} -q -t get", Figure::After("GET:")),
    service("redis, SET", 0.80, REDIS, "/usr/bin/redis-benchmark -p {port} -c 16 -n {count} -q -t set", Figure::After("SET:")),
    service("redis, GET, 16 at once", 0.80, REDIS, "/usr/bin/redis-benchmark -p {port} -c 16 -n {count}0 -q -P 16 -t get", Figure::After("GET:")),
    service("sysbench threads, 1", 0.85, "", "/usr/bin/sysbench threads --threads=1 --time={seconds} run", EVENTS),
    service("sysbench threads, 2", 0.85, "", "/usr/bin/sysbench threads --threads=2 --time={seconds} run", EVENTS),
    service("sysbench threads, 4", 0.85, "", "/usr/bin/sysbench threads --threads=4 --time={seconds} run", EVENTS),
    service("sysbench threads, 8", 0.85, "", "/usr/bin/sysbench threads --threads=8 --time={seconds} run", EVENTS),
    service("sysbench threads, 16", 0.85, "", "/usr/bin/sysbench threads --threads=16 --time={seconds} run", EVENTS),
    service("sysbench memory, 1", 0.85, "", "/usr/bin/sysbench memory --threads=1 --time={seconds} run", OPERATIONS),
    service("sysbench memory, 2", 0.85, "", "/usr/bin/sysbench memory --threads=2 --time={seconds} run", OPERATIONS),
    service("sysbench memory, 4", 0.85, "", "/usr/bin/sysbench memory --threads=4 --time={seconds} run", OPERATIONS),
    service("sysbench memory, 8", 0.85, "", "/usr/bin/sysbench memory --threads=8 --time={seconds} run", OPERATIONS),
    service("sysbench memory, 16", 0.85, "", "/usr/bin/sysbench memory --threads=16 --time={seconds} run", OPERATIONS),
];

/// A directory with what servers need, and the ports that they listen on.
#[derive(Debug)]
pub struct Place {
    /// Where it is.
    pub directory: PathBuf,
    /// Of plain connections.
    pub port: u16,
    /// Of those with TLS.
    pub tls: u16,
}

impl Place {
    /// Makes one.
    pub fn prepare(directory: &Path) -> anyhow::Result<Place> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
        let (port, tls) = free_ports()?;
        let write = |name: &str, contents: String| {
            fs::write(directory.join(name), contents).with_context(|| format!("write {name}"))
        };
        write("page.html", String::from_utf8_lossy(&data::text(4096, 1)).into_owned())?;
        write(
            "nginx.conf",
            NGINX_CONFIGURATION.replace("PLAIN", &port.to_string()).replace("TLS", &tls.to_string()),
        )?;
        let here = directory.display();
        write(
            "lighttpd.conf",
            format!(
                "server.document-root = \"{here}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
                 server.errorlog = \"{here}/error.log\"\nserver.max-keep-alive-requests = 65000\n\
                 mimetype.assign = (\".html\" => \"text/html\")\n"
            ),
        )?;
        write("redis.conf", format!("bind 127.0.0.1\nport {port}\nsave \"\"\nloglevel warning\n"))?;
        let line =
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=server.test";
        let made = Command::new("/usr/bin/openssl").args(line.split(' ')).current_dir(directory).output()?;
        ensure!(made.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Place { directory: directory.to_owned(), port, tls })
    }
}

/// One worker, as the client needs a processor too; the user matters only where the superuser starts it.
const NGINX_CONFIGURATION: &str = "\
user root; worker_processes 1; daemon off; pid nginx.pid;
events { worker_connections 256; }
http {
  access_log off; sendfile on; keepalive_requests 1000000; types { text/html html; }
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen 127.0.0.1:PLAIN; root .; }
  server { listen 127.0.0.1:TLS ssl; root .; ssl_certificate cert.pem; ssl_certificate_key key.pem; }
}
";

/// Two ports that nobody listens on.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, other) = (listener()?, listener()?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_last_one_that_a_program_tells() {
        let text = "GET: 10.00 (overall: 9.00)\rGET: 25.50 requests per second, p50=0.1 msec\n";
        assert_eq!(Figure::After("GET:").find(text), Some(25.5));
        let text =
            "9 connections in 0.2s; 45 connections/user sec\n 31 connections in 2 real seconds, 0 bytes\n";
        assert_eq!(Figure::Before("connections in").find(text), Some(31.0));
        assert_eq!(Figure::After("Requests/sec:").find("Requests/sec:      0.00\n"), None);
    }
}

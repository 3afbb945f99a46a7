//! lighttpd: one process that forks for CGI programs.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use endo_testing::{Guest, Server, Under, data, same_session};

use super::http::{answers, show};
use super::place::{address, write};

const CGI: &str = r#"read body
printf 'Content-Type: text/plain\r\n\r\n'
echo "$REQUEST_METHOD $QUERY_STRING $CONTENT_LENGTH <$body>"
echo "complaint" >&2
"#;

fn start(under: &Under, directory: &Path, address: SocketAddr) -> Server {
    write(directory, "html/small.html", "<p>small</p>\n");
    write(directory, "html/list/a.html", "a");
    write(directory, "html/list/b.html", "bb");
    write(directory, "html/big.bin", data::mixed(3 << 20, 2));
    write(directory, "html/run.cgi", CGI);
    let path = directory.display();
    let configuration = format!(
        "server.document-root = \"{path}/html\"\nserver.bind = \"{}\"\nserver.port = {}\n\
         server.errorlog = \"{path}/error.log\"\nserver.breakagelog = \"{path}/complaints\"\naccesslog.filename = \"{path}/access.log\"\n\
         accesslog.format = \"%r %s %b\"\ndir-listing.activate = \"enable\"\ndir-listing.set-footer = \"-\"\n\
         server.modules = (\"mod_accesslog\", \"mod_cgi\", \"mod_dirlisting\")\n\
         mimetype.assign = (\".html\" => \"text/html\", \".bin\" => \"application/octet-stream\")\n\
         cgi.assign = (\".cgi\" => \"/bin/sh\")\n",
        address.ip(),
        address.port()
    );
    write(directory, "lighttpd.conf", configuration);
    let guest = Guest::new("/usr/sbin/lighttpd").arguments(["-D", "-f", "lighttpd.conf"]);
    let mut command = guest.command(under);
    command.current_dir(directory);
    Server::start(command).ready_when(|| answers(address))
}

#[test]
fn lighttpd_serves_files_listings_and_programs() {
    let address = address();
    let session = |under: &Under, directory: &Path| {
        let lighttpd = start(under, directory, address);
        let mut said = String::new();
        for request in [
            "GET /small.html HTTP/1.0\n\n",
            "HEAD /big.bin HTTP/1.1\nHost: h\nConnection: close\n\n",
            "GET /big.bin HTTP/1.1\nHost: h\nConnection: close\n\n",
            "GET /big.bin HTTP/1.1\nHost: h\nRange: bytes=1000000-2999999\nConnection: close\n\n",
            "GET /missing HTTP/1.1\nHost: h\nConnection: close\n\n",
            "GET /list/ HTTP/1.1\nHost: h\nConnection: close\n\n",
            "POST /run.cgi?q=1 HTTP/1.1\nHost: h\nContent-Length: 6\nConnection: close\n\nposted",
            "GET /small.html HTTP/1.1\nHost: h\n\nGET /run.cgi HTTP/1.1\nHost: h\n\nGET /small.html HTTP/1.0\n\n",
            "nonsense\n\n",
        ] {
            let shown = show(address, request);
            // The version of the file that it makes of inode and time is another for each run.
            said.extend(
                shown.lines().filter(|line| !line.starts_with("ETag: ")).flat_map(|line| [line, "\n"]),
            );
        }
        let _ = writeln!(said, "{:?}", lighttpd.stop(libc::SIGINT));
        for log in ["access.log", "complaints"] {
            said.push_str(&fs::read_to_string(directory.join(log)).unwrap());
        }
        said
    };
    let said = same_session(session);
    for line in ["POST q=1 6 <posted>", "Exited(0)", "GET /list/ HTTP/1.1 200", "complaint\ncomplaint\n"] {
        assert!(said.contains(line), "{line} is missing: {said}");
    }
}

//! TLS: curl, nginx and OpenSSL's own server and client, each side natively and under Endo.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use endo_testing::{Guest, Server, Under, data, run_to_end, same_session};

use super::http::answers;
use super::nginx;
use super::place::{address, write};

/// Makes a key and a certificate of 127.0.0.0/8's name in a directory.
fn make_certificate(directory: &Path) {
    let line =
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=server.test";
    let result = Command::new("/usr/bin/openssl").args(line.split(' ')).current_dir(directory).output();
    let result = result.expect("openssl is installed");
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}

/// Runs a client to its end; shows how it ended and what it wrote.
fn client(under: &Under, directory: &Path, line: &str, input: &str) -> String {
    let mut words = line.split(' ');
    let guest = Guest::new(words.next().unwrap_or_default()).arguments(words);
    let mut command = guest.command(under);
    command.current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run_to_end(&mut command, Some(input.as_bytes()), Some(Duration::from_secs(30))).unwrap();
    assert!(!ended.timed_out, "{line} does not end");
    let [out, error] =
        [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{} {out}{error}\n", ended.status)
}

#[test]
fn curl_fetches_from_nginx_over_tls() {
    let address = address();
    let session = |under: &Under, directory: &Path| {
        make_certificate(directory);
        write(directory, "html/big.bin", data::mixed(2 << 20, 3));
        let server = format!(
            "  server {{ listen {address} ssl http2; root html; ssl_certificate cert.pem;\n\
             ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_certificate_key key.pem; location /hello {{ return 200 \"$ssl_protocol $ssl_cipher\\n\"; }} }}\n"
        );
        write(directory, "nginx.conf", nginx::configuration(&server));
        let nginx = nginx::start(under, directory, address);
        let mut said = String::new();
        let port = address.port();
        let curl = format!(
            "/usr/bin/curl -sS --cacert cert.pem --resolve server.test:{port}:{} https://server.test:{port}",
            address.ip()
        );
        // Natively in the session that is native throughout, and both ways in the other.
        for client_under in [under, &Under::Native] {
            for rest in [
                "/hello --tls-max 1.2 --http1.1",
                "/hello --tlsv1.3 --http1.1",
                "/hello --http2 -w %{http_version}",
                "/big.bin --http1.1 -o one",
                "/big.bin --http2 -o two",
                "/missing -f",
                "/hello --ciphers NULL --tls-max 1.2",
            ] {
                said.push_str(&client(client_under, directory, &format!("{curl}{rest}"), ""));
            }
            for name in ["one", "two"] {
                let fetched = std::fs::read(directory.join(name)).unwrap();
                assert!(fetched == data::mixed(2 << 20, 3), "{name} is not what was served");
            }
        }
        let untrusted = format!("/usr/bin/curl -sS https://{address}/hello");
        said.push_str(&client(under, directory, &untrusted, ""));
        let _ = writeln!(said, "{:?}", nginx.stop(libc::SIGQUIT));
        said
    };
    let said = same_session(session);
    for word in ["TLSv1.2 ", "TLSv1.3 ", "exit status: 22", "exit status: 60", "exit status: 35", "Exited(0)"]
    {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}

/// `openssl s_server`, which answers requests with what it knows of the connection.
fn start_openssl(under: &Under, directory: &Path, address: SocketAddr, options: &str) -> Server {
    let line = format!("s_server -accept {address} -cert cert.pem -key key.pem -quiet {options}");
    let guest = Guest::new("/usr/bin/openssl").arguments(line.split(' '));
    let mut command = guest.command(under);
    command.current_dir(directory);
    Server::start(command).ready_when(|| answers(address))
}

#[test]
fn openssl_shakes_hands_and_resumes_sessions() {
    let address = address();
    let session = |under: &Under, directory: &Path| {
        make_certificate(directory);
        let server = start_openssl(under, directory, address, "-WWW");
        write(directory, "page", "a page\n");
        let mut said = String::new();
        for client_under in [under, &Under::Native] {
            for options in
                ["-tls1_2", "-tls1_3", "-tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305", "-tls1_3 -groups P-521"]
            {
                let line =
                    format!("/usr/bin/openssl s_client -connect {address} -quiet -CAfile cert.pem {options}");
                said.push_str(&client(client_under, directory, &line, "GET /page HTTP/1.0\r\n\r\n"));
            }
            let line =
                format!("/usr/bin/openssl s_client -connect {address} -CAfile cert.pem -tls1_2 -reconnect");
            let reconnected = client(client_under, directory, &line, "");
            said.extend(
                reconnected.lines().filter(|line| line.contains(", Cipher is")).flat_map(|line| [line, "\n"]),
            );
        }
        let _ = writeln!(said, "{:?}", server.stop(libc::SIGTERM));
        said
    };
    let said = same_session(session);
    assert_eq!(said.matches("a page").count(), 8, "{said}");
    assert_eq!(said.matches("Reused, TLSv1.2").count(), 10, "{said}");
}

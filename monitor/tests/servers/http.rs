//! A client that sends bytes and shows what comes back.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bodies longer than this are shown by their lengths and checksums.
const MOST_SHOWN: usize = 2000;

/// Opens a connection, sends `bytes` and reads until the server closes the connection.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .unwrap_or_else(|error| panic!("{address} cannot be reached: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
    stream.write_all(bytes).expect("the server takes the request");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap_or_else(|error| {
        panic!("{error} after {} bytes: {}", reply.len(), String::from_utf8_lossy(bytes))
    });
    reply
}

/// Sends requests over one connection, the last of which asks for its end, and shows the replies, without their dates.
pub(crate) fn show(address: SocketAddr, requests: &str) -> String {
    let reply = without_dates(&exchange(address, requests.replace('\n', "\r\n").as_bytes()));
    let shown = if reply.len() > MOST_SHOWN { summary(&reply) } else { reply.escape_ascii().to_string() };
    format!("> {}\n{}\n", requests.lines().next().unwrap_or(""), shown.replace("\\r\\n", "\n"))
}

fn without_dates(reply: &[u8]) -> Vec<u8> {
    let lines = reply.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(b"Date: ")).flatten().copied().collect()
}

/// The first reply's head, and what follows by its length and checksum.
fn summary(reply: &[u8]) -> String {
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
    let (head, rest) = reply.split_at(end);
    format!("{}({} bytes, {:016x})", head.escape_ascii(), rest.len(), checksum(rest))
}

/// A number that differs when bytes do.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Whether something listens there.
pub(crate) fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, PATIENCE).is_ok()
}

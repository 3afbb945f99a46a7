//! Where servers listen, and what they serve.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

/// An address that no other test has: all of 127.0.0.0/8 is this machine, and the process's number chooses among it.
pub(crate) fn address() -> SocketAddr {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(20000);
    let [_, a, b, c] = process::id().to_be_bytes();
    let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, a | 0x40, b, c), port))
}

/// Writes a file whose time of modification is always the same: servers tell it to their clients.
pub(crate) fn write(directory: &Path, path: &str, contents: impl AsRef<[u8]>) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("the directory is ours");
    fs::write(&path, contents).expect("the directory is ours");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::open(&path).and_then(|file| file.set_modified(time)).expect("the file is ours");
}

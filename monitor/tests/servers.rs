//! Servers under `endo run` say to their clients what they say natively, and end as they do.
//!
//! Each test starts Debian's server (`xtask/debian-packages.txt`) natively and under Endo in an empty directory, talks to
//! it, stops it, and compares what came back. Addresses are sockets in that directory, or loopback addresses that no other
//! process of the tests takes. `ENDO_BACKEND` chooses the backend.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "servers/http.rs"]
mod http;
#[path = "servers/lighttpd.rs"]
mod lighttpd;
#[path = "servers/nginx.rs"]
mod nginx;
#[path = "servers/place.rs"]
mod place;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/redis.rs"]
mod redis;
#[path = "servers/tls.rs"]
mod tls;

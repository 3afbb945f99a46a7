//! Managed runtimes under `endo run` do what they do natively: just-in-time compilers, garbage collectors, threads.
//!
//! Programs are Debian's (`xtask/debian-packages.txt`). `ENDO_BACKEND` chooses the backend.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "runtimes/go.rs"]
mod go;
#[path = "runtimes/java.rs"]
mod java;
#[path = "runtimes/luajit.rs"]
mod luajit;
#[path = "runtimes/node.rs"]
mod node;
#[path = "runtimes/php.rs"]
mod php;
#[path = "runtimes/ruby.rs"]
mod ruby;

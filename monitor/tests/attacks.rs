//! Known attacks on isolation inside a process (docs/attacks.md), as far as they are about more than one instruction or one
//! call.
//!
//! Each runs natively first, where it must succeed, or else it shows nothing; then under Endo, where it must fail while its
//! benign twin works.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "confinement/aims.rs"]
mod aims;

#[path = "attacks/code.rs"]
mod code;
#[path = "attacks/cores.rs"]
mod cores;
#[path = "attacks/deputy.rs"]
mod deputy;
#[path = "attacks/exec.rs"]
mod exec;
#[path = "attacks/process.rs"]
mod process;
#[path = "attacks/session.rs"]
mod session;
#[path = "attacks/traces.rs"]
mod traces;

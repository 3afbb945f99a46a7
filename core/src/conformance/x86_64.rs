//! Properties with x86-64 guests, by what they look at.

pub(super) mod asynchrony;
pub(super) mod code;
pub(super) mod edges;
pub(super) mod faults;
pub(super) mod fork;
mod forms;
pub(super) mod host_state;
pub(super) mod jumps;
pub(super) mod loads;
mod processor;
pub(super) mod registers;
mod snippet;
pub(super) mod stores;
pub(super) mod syscalls;
pub(super) mod threads;
pub(super) mod vectors;

pub use self::host_state::HIJACKED;

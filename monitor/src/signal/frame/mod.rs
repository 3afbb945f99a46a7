//! The frame that a handler finds on its stack, and the way back from it: one file an architecture.
//!
//! A frame is guest memory: until [`arch::restore`] has checked it, everything in it is an allegation.
#![deny(unsafe_code)]

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;

use endo_core::GuestAddr;

use super::actions::Action;
use super::altstack::AlternateStack;
use super::info::SigInfo;
use super::set::{SigSet, Signal};

pub(crate) use arch::prepare_for_threads;
pub(super) use arch::{Trap, build, enter, restore, result_register, rewind_syscall, rewind_to_restart};

/// A signal on its way to a handler.
#[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "no frame is built there yet"))]
pub(super) struct Delivery<'a> {
    pub(super) signal: Signal,
    pub(super) info: &'a SigInfo,
    pub(super) action: &'a Action,
    /// The handler's address.
    pub(super) handler: GuestAddr,
    /// The mask that comes back when the handler returns.
    pub(super) saved_mask: SigSet,
    pub(super) alternate: AlternateStack,
    /// The last fault of the thread, which every frame repeats.
    pub(super) trap: Trap,
}

/// What a frame gives back besides registers.
pub(super) struct Restored {
    pub(super) alternate: [u8; AlternateStack::SIZE],
}

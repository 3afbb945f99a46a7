//! All locks of a process at once: for a fork.
#![deny(unsafe_code)]

use std::sync::MutexGuard;

use super::threads::LockedThreads;
use super::{Image, Process};
use crate::memory::MemoryMap;
use crate::signal::SignalActions;

/// Every lock of a process but the backend's, taken in the order that the module above states.
pub(super) struct AllLocks<'p> {
    pub(super) memory: MutexGuard<'p, MemoryMap>,
    pub(super) signals: MutexGuard<'p, SignalActions>,
    _image: MutexGuard<'p, Image>,
    pub(super) threads: LockedThreads<'p>,
}

impl<B, M> Process<B, M> {
    pub(super) fn lock_all(&self) -> AllLocks<'_> {
        AllLocks {
            memory: self.memory(),
            signals: self.signals(),
            _image: self.image(),
            threads: self.threads.lock(),
        }
    }
}

//! What the gate and the signal handler need of the calling host thread.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};

use super::port::Port;

/// A host thread's words, in its thread-local storage: memory of the monitor.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Block {
    /// 1 from the gate on until a handler has taken the guest out.
    pub(super) inside: AtomicU8,
    /// 1: an asynchronous signal came while the thread was outside.
    pub(super) pending: AtomicU8,
    /// Rights of the guest.
    pub(super) guest_pkru: Cell<u32>,
    /// The host's stack pointer while the guest runs.
    pub(super) host_stack_pointer: Cell<u64>,
    /// The thread's port; null until a guest thread is created.
    pub(super) port: Cell<*mut Port>,
    /// The guest's vector state, and which components of it are to be loaded.
    pub(super) vector: Cell<*mut u8>,
    pub(super) components: Cell<u64>,
    /// What the gate asks for.
    pub(super) seal: Cell<u64>,
    /// The guest's segment bases.
    pub(super) fs_base: Cell<u64>,
    pub(super) gs_base: Cell<u64>,
    /// How many guest threads this host thread has.
    pub(super) users: Cell<u32>,
}

thread_local! {
    // A constant initialiser and no destructor: plain loads and stores, which a signal handler may do.
    static BLOCK: Block = const {
        Block {
            inside: AtomicU8::new(0),
            pending: AtomicU8::new(0),
            guest_pkru: Cell::new(u32::MAX),
            host_stack_pointer: Cell::new(0),
            port: Cell::new(ptr::null_mut()),
            vector: Cell::new(ptr::null_mut()),
            components: Cell::new(0),
            seal: Cell::new(0),
            fs_base: Cell::new(0),
            gs_base: Cell::new(0),
            users: Cell::new(0),
        }
    };
}

impl Block {
    /// Shows the calling thread's. Async-signal-safe.
    pub(super) fn with<R>(see: impl FnOnce(&Block) -> R) -> R {
        BLOCK.with(see)
    }

    /// Whether a signal is pending, which it is not any more. Async-signal-safe.
    pub(super) fn take_pending(&self) -> bool {
        self.pending.swap(0, Ordering::Relaxed) != 0
    }
}

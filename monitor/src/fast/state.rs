//! What the functions of fast paths read: the layout is that of `build/stubs.rs`.

use core::mem::offset_of;
use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use endo_core::WatchedHull;

use super::vdso::FUNCTIONS;

#[repr(C)]
struct State {
    /// The highest descriptor that is the guest's.
    last_descriptor: AtomicI64,
    /// Where the backend watches for stores.
    watched: WatchedHull,
    /// The host's vDSO functions, or 0.
    vdso: [AtomicUsize; FUNCTIONS],
}

const _: () = assert!(offset_of!(State, watched) == 8 && offset_of!(State, vdso) == 24);

// SAFETY: no other symbol has this name; the functions that refer to it only read it.
#[unsafe(export_name = "endo_fast_state")]
static STATE: State = State {
    last_descriptor: AtomicI64::new(i32::MAX as i64),
    watched: WatchedHull::new(),
    vdso: [const { AtomicUsize::new(0) }; FUNCTIONS],
};

pub(super) fn limit_descriptors(below: i32) {
    STATE.last_descriptor.fetch_min(i64::from(below) - 1, Ordering::Relaxed);
}

/// Whether a descriptor may be the guest's.
pub(super) fn is_guests(descriptor: u32) -> bool {
    i64::from(descriptor) <= STATE.last_descriptor.load(Ordering::Relaxed)
}

/// Whether the kernel may not store into any of these bytes unannounced.
pub(super) fn may_be_watched(first: u64, last: u64) -> bool {
    STATE.watched.may_include(first, last)
}

pub(super) fn watched() -> &'static WatchedHull {
    &STATE.watched
}

pub(super) fn set_vdso(functions: &[usize; FUNCTIONS]) {
    for (slot, &function) in STATE.vdso.iter().zip(functions) {
        slot.store(function, Ordering::Relaxed);
    }
}

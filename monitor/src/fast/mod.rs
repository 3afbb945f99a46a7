//! Fast paths: system calls that never reach the monitor's own code.
//!
//! For every call whose row in the [table](crate::syscall::table) says that the kernel answers it, and whose arguments are flat, `build.rs` has
//! made a function that looks at the arguments; the backend runs it on the guest's thread between two guest
//! instructions and then makes the call itself. A handful of calls about the time are answered by the host's vDSO.
//! Whatever such a function does not like goes the usual way, so it decides nothing: it only says "nothing to decide".
//!
//! | resource | why sensitive | how handled |
//! | --- | --- | --- |
//! | pointers | the kernel follows them | all bytes lie in the low 4 GiB, where only guests have memory |
//! | arrays of pointers | another thread may change one after the look | the kernel gets a copy in the backend's memory |
//! | memory behind them | another thread may change or unmap it | the kernel copies it itself, and no pointer is in it |
//! | descriptors | some are the monitor's | all of the monitor's lie above all that pass ([`limit_descriptors`]) |
//! | translated code | a store makes it stale | what the kernel writes is not near it ([`endo_core::WatchedHull`]) |
//! | vector state, flags | the guest's are live | the functions use general registers only (`cargo xtask tidy --binary`) |
//! | a policy | it may want to see the call | [`paths`] leaves out what a monitor observes |
//!
//! All this holds for a guest whose addresses are the host's and lie below 4 GiB, as those of the first slot do.

mod state;
mod status;
mod vdso;
mod vectors;

use endo_core::{FastEntry, FastKind, SyscallNumber, WatchedHull};

// The functions that build.rs has made, and `FAST_PATHS`, which has them by number.
include!(concat!(env!("OUT_DIR"), "/fast_paths.rs"));

/// The end of the only window that fast paths are for (`build/plan.rs`).
const WINDOW_END: u64 = 1 << 32;

/// Whether memory of a constant length lies where only guests have some.
const fn is_inside(start: u64, length: u64) -> bool {
    start < WINDOW_END - length
}

/// The fast paths for a guest whose calls are all seen that `observes` wants to see. Called once a process: what it makes
/// stays.
pub fn paths(observes: impl Fn(SyscallNumber) -> bool) -> &'static [FastEntry] {
    state::set_vdso(&vdso::functions());
    let is_observed: Vec<bool> =
        (0..FAST_PATHS.len()).map(|number| observes(SyscallNumber(number as u32))).collect();
    if !is_observed.contains(&true) {
        return &FAST_PATHS;
    }
    if !is_observed.contains(&false) {
        return &[];
    }
    let path = |(&path, is_observed)| if is_observed { FastEntry::NONE } else { path };
    FAST_PATHS.iter().zip(is_observed).map(path).collect::<Vec<_>>().leak()
}

/// What fast path a call has.
pub fn kind(number: SyscallNumber) -> FastKind {
    FAST_PATHS.get(number.0 as usize).map_or(FastKind::None, |path| path.kind)
}

/// From now on only descriptors below this pass.
pub fn limit_descriptors(below: i32) {
    state::limit_descriptors(below);
}

/// Where a backend notes the pages on which it watches for stores, so that calls that would have the kernel store there
/// go to the monitor.
pub fn watched() -> &'static WatchedHull {
    state::watched()
}

#[cfg(test)]
mod tests;

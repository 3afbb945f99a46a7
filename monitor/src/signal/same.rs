//! `rt_sigaction` between two guest instructions, for a guest that asks what is done about a signal, or wants done what is
//! done already: programs ask in loops, and install the same handler before each call that it is for.
//!
//! A fast path (see [`crate::fast`]): no lock, no call but those of [`endo_core::copy`], and no vector register, which is why
//! arrays are spelt out.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use endo_core::{FastEntry, HostAddr, copy};

use super::actions::Action;
use super::set::{SigSet, Signal};

/// The words of each action that has a handler, as [`Action`] has them; zeros for the others.
static HANDLERS: [[AtomicU64; WORDS]; Signal::MAX as usize] =
    [const { [const { AtomicU64::new(0) }; WORDS] }; Signal::MAX as usize];
const WORDS: usize = Action::SIZE / 8;
/// The end of the only window that fast paths are for (`build/plan.rs`).
const WINDOW_END: u64 = 1 << 32;

/// Odd while one of them changes, and another number afterwards: who reads looks before and after. Those who change them
/// have the actions locked.
static VERSION: AtomicU64 = AtomicU64::new(0);
/// How many children that share this memory may have actions of their own, which get into [`HANDLERS`] too.
static CHILDREN: AtomicUsize = AtomicUsize::new(0);

/// Before a child that shares the memory starts.
pub(crate) fn child_starts() {
    CHILDREN.fetch_add(1, Ordering::SeqCst);
}

/// When it shares the memory no longer, and all actions have been noted again.
pub(crate) fn child_has_gone() {
    CHILDREN.fetch_sub(1, Ordering::SeqCst);
}

/// Remembers an action; `None` for one without a handler.
pub(super) fn note(signal: Signal, action: Option<&Action>) {
    let words = action.map_or([0; WORDS], Action::words);
    VERSION.fetch_add(1, Ordering::SeqCst);
    for (slot, word) in HANDLERS[signal.index()].iter().zip(words) {
        slot.store(word, Ordering::Release);
    }
    VERSION.fetch_add(1, Ordering::SeqCst);
}

/// The fast path.
///
/// # Safety
///
/// The guest's addresses are the host's, and a handler that calls [`copy::recover`] is installed.
// SAFETY: no other symbol has this name.
#[unsafe(export_name = "endo_fast_rt_sigaction")]
unsafe extern "C" fn rt_sigaction(number: u64, action: u64, old: u64, size: u64, _: u64, _: u64) -> u64 {
    let index = u64::from(number as u32).wrapping_sub(1);
    if index >= Signal::MAX as u64 || size != SigSet::SIZE || !is_inside(action) || !is_inside(old) {
        return FastEntry::FALL_BACK;
    }
    let version = VERSION.load(Ordering::Acquire);
    let slots = &HANDLERS[index as usize];
    let word = |at: usize| slots[at].load(Ordering::Acquire);
    let (handler, flags, restorer, mask) = (word(0), word(1), word(2), word(3));
    let is_torn = version & 1 != 0 || VERSION.load(Ordering::Acquire) != version;
    // Whoever read what a child wrote sees the child here.
    if handler == 0 || is_torn || CHILDREN.load(Ordering::Acquire) != 0 {
        return FastEntry::FALL_BACK;
    }
    let is_same = |at: usize, known: u64| {
        // SAFETY: the address lies in the guest's window, which ends below 4 GiB, and the caller vouches for the rest.
        action == 0 || unsafe { copy::load_word(HostAddr(action as usize + at)) } == Some(known)
    };
    if !(is_same(0, handler) && is_same(8, flags) && is_same(16, restorer) && is_same(24, mask)) {
        return FastEntry::FALL_BACK;
    }
    // SAFETY: likewise.
    if old != 0 && !unsafe { copy::store_pair(HostAddr(old as usize), [handler, flags]) } {
        return FastEntry::FALL_BACK;
    }
    // SAFETY: likewise.
    if old != 0 && !unsafe { copy::store_pair(HostAddr(old as usize + 16), [restorer, mask]) } {
        return FastEntry::FALL_BACK;
    }
    0
}

/// Whether an action there lies where only guests have memory.
const fn is_inside(start: u64) -> bool {
    start < WINDOW_END - Action::SIZE as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: i32, action: &Action, old: &mut [u64; WORDS]) -> u64 {
        let below = |address: usize| address as u64;
        let (action, old) = (below(&raw const *action as usize), below(&raw mut *old as usize));
        // SAFETY: the addresses are ours, and are refused, as they lie above the window.
        unsafe { rt_sigaction(number as u64, action, old, SigSet::SIZE, 0, 0) }
    }

    #[test]
    fn memory_above_the_window_is_not_looked_at() {
        let action = Action { handler: 0x40_1000, flags: 4, restorer: 7, mask: SigSet::EMPTY };
        let signal = Signal::new(libc::SIGUSR2).unwrap();
        note(signal, Some(&action));
        let mut old = [0; WORDS];
        assert_eq!(call(signal.number(), &action, &mut old), FastEntry::FALL_BACK);
        assert_eq!(old, [0; WORDS]);
    }

    #[test]
    fn an_action_without_handler_is_the_monitors_business() {
        let signal = Signal::new(libc::SIGUSR1).unwrap();
        note(signal, None);
        // SAFETY: null pointers are not followed.
        assert_eq!(unsafe { rt_sigaction(10, 0, 0, SigSet::SIZE, 0, 0) }, FastEntry::FALL_BACK);
        note(signal, Some(&Action { handler: 1 << 20, ..Action::default() }));
        // SAFETY: as above.
        assert_eq!(unsafe { rt_sigaction(10, 0, 0, SigSet::SIZE, 0, 0) }, 0);
    }
}

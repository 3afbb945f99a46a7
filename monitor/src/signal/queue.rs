//! Signals between the handler that took them from the kernel and the thread that will deal with them.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, compiler_fence};

use super::info::SigInfo;
use super::set::{SigSet, Signal};

/// One thread's signals in transit, and what it last told the kernel to block.
///
/// The writer is a handler that interrupts the reader, on the same thread, with all signals blocked: no more than one
/// of them is ever in the middle of something while the other runs, and a compiler fence is all the ordering it takes.
///
/// The ring cannot overflow: after the first signal the host blocks all but the six that instructions raise, and each
/// of those is kept once.
pub(super) struct Waiting {
    /// Not zero while there may be something in the ring.
    flag: AtomicU32,
    /// Slots read and written so far.
    read: AtomicUsize,
    written: AtomicUsize,
    slots: [UnsafeCell<SigInfo>; Self::SLOTS],
    /// The host's mask if it is known: see [`Waiting::UNKNOWN`].
    mask: Cell<SigSet>,
}

impl Waiting {
    const SLOTS: usize = 16;
    /// No mask that anybody sets: it blocks SIGKILL.
    const UNKNOWN: SigSet = SigSet(u64::MAX);

    pub(super) const fn new() -> Self {
        Waiting {
            flag: AtomicU32::new(0),
            read: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            slots: [const { UnsafeCell::new(SigInfo::from_bytes([0; SigInfo::SIZE])) }; Self::SLOTS],
            mask: Cell::new(Self::UNKNOWN),
        }
    }

    pub(super) fn flag(&self) -> &AtomicU32 {
        &self.flag
    }

    /// For the handler: keeps a signal, unless it is one that waits already and does not queue. The kernel's mask is no
    /// longer what the thread set. Async-signal-safe.
    pub(super) fn push(&self, info: SigInfo) {
        self.mask.set(Self::UNKNOWN);
        self.flag.store(1, Ordering::Relaxed);
        let (read, written) = (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
        let waits = |signal: Signal| (read..written).any(|at| self.slot(at).signal() == Some(signal));
        let is_kept = info.signal().is_some_and(|signal| signal.is_real_time() || !waits(signal));
        if !is_kept || written - read == Self::SLOTS {
            return;
        }
        // SAFETY: the slot is outside what the reader may look at until `written` moves, and no other handler runs.
        unsafe { self.slots[written % Self::SLOTS].get().write(info) };
        compiler_fence(Ordering::Release);
        self.written.store(written + 1, Ordering::Relaxed);
    }

    /// For the thread: takes everything out, oldest first.
    pub(super) fn drain(&self, mut each: impl FnMut(SigInfo)) {
        self.flag.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        loop {
            let read = self.read.load(Ordering::Relaxed);
            if read == self.written.load(Ordering::Relaxed) {
                return;
            }
            compiler_fence(Ordering::Acquire);
            let info = self.slot(read);
            compiler_fence(Ordering::Release);
            self.read.store(read + 1, Ordering::Relaxed);
            each(info);
        }
    }

    /// Says that the thread is about to set this mask, and whether that would change it.
    pub(super) fn note_mask(&self, mask: SigSet) -> bool {
        self.mask.replace(mask) != mask
    }

    /// The kernel's mask is about to be something else than the thread noted.
    pub(super) fn forget_mask(&self) {
        self.mask.set(Self::UNKNOWN);
    }

    fn slot(&self, at: usize) -> SigInfo {
        // SAFETY: `at` lies in read..written, whose slots are written and which no handler writes again before they
        // have been read.
        unsafe { self.slots[at % Self::SLOTS].get().read() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(number: i32) -> SigInfo {
        SigInfo::forced(Signal::new(number).unwrap())
    }

    fn drained(waiting: &Waiting) -> Vec<i32> {
        let mut numbers = Vec::new();
        waiting.drain(|info| numbers.push(info.signal().unwrap().number()));
        numbers
    }

    #[test]
    fn signals_come_out_in_the_order_they_came_in() {
        let waiting = Waiting::new();
        waiting.push(info(libc::SIGUSR2));
        waiting.push(info(libc::SIGUSR1));
        assert_eq!(waiting.flag().load(Ordering::Relaxed), 1);
        assert_eq!(drained(&waiting), [libc::SIGUSR2, libc::SIGUSR1]);
        assert_eq!(waiting.flag().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_standard_signal_waits_once_and_a_real_time_one_as_often_as_sent() {
        let waiting = Waiting::new();
        for number in [libc::SIGSEGV, 40, libc::SIGSEGV, 40] {
            waiting.push(info(number));
        }
        assert_eq!(drained(&waiting), [libc::SIGSEGV, 40, 40]);
    }

    #[test]
    fn a_signal_taken_makes_the_mask_unknown() {
        let waiting = Waiting::new();
        assert!(waiting.note_mask(SigSet::EMPTY));
        assert!(!waiting.note_mask(SigSet::EMPTY));
        waiting.push(info(libc::SIGUSR1));
        assert!(waiting.note_mask(SigSet::EMPTY));
    }
}

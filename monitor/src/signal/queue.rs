//! Signals between the handler that took them from the kernel and the thread that will deal with them.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence};

use super::info::SigInfo;
use super::set::{SigSet, Signal};

/// One thread's signals in transit, and what the kernel blocks for it.
///
/// The writer is a handler that interrupts the reader, on the same thread, with all signals blocked: no more than one
/// of them is ever in the middle of something while the other runs, and a compiler fence is all the ordering it takes.
///
/// The ring cannot overflow: once [`Waiting::FEW`] signals wait the host blocks all but the six that instructions raise,
/// and each of those is kept once.
pub(super) struct Waiting {
    /// Not zero while there may be something in the ring.
    flag: AtomicU32,
    /// Slots read and written so far.
    read: AtomicUsize,
    written: AtomicUsize,
    slots: [UnsafeCell<SigInfo>; Self::SLOTS],
    /// The host's mask, or [`Waiting::UNKNOWN`] or [`Waiting::CHANGING`].
    mask: AtomicU64,
    /// Whether a call with a mask of its own is under way.
    has_temporary_mask: Cell<bool>,
}

impl Waiting {
    const SLOTS: usize = 16;
    const FEW: usize = 8;
    /// No mask that anybody sets: these block SIGKILL.
    const UNKNOWN: u64 = u64::MAX;
    const CHANGING: u64 = u64::MAX - 1;

    pub(super) const fn new() -> Self {
        Waiting {
            flag: AtomicU32::new(0),
            read: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            slots: [const { UnsafeCell::new(SigInfo::from_bytes([0; SigInfo::SIZE])) }; Self::SLOTS],
            mask: AtomicU64::new(Self::UNKNOWN),
            has_temporary_mask: Cell::new(false),
        }
    }

    pub(super) fn flag(&self) -> &AtomicU32 {
        &self.flag
    }

    /// For the handler: keeps a signal, and says what the host is to block from now on. Async-signal-safe.
    ///
    /// Where the thread was between two changes of its mask, that is what it will block once the guest's handler runs:
    /// `interrupted`, the mask that the kernel would put back, and `while_handled`. The thread then has nothing to
    /// change. Otherwise it is everything, until the thread sets its mask.
    pub(super) fn take(&self, info: SigInfo, interrupted: SigSet, while_handled: SigSet) -> SigSet {
        let waiting = self.written.load(Ordering::Relaxed) - self.read.load(Ordering::Relaxed);
        let is_known = self.mask.load(Ordering::Relaxed) == interrupted.0
            && !self.has_temporary_mask.get()
            && waiting < Self::FEW;
        self.push(info);
        if is_known {
            let mask = interrupted.union(while_handled);
            self.mask.store(mask.0, Ordering::Relaxed);
            mask
        } else {
            self.mask.store(Self::UNKNOWN, Ordering::Relaxed);
            SigSet::FULL.as_host_mask()
        }
    }

    /// Keeps a signal, unless it is one that waits already and does not queue.
    fn push(&self, info: SigInfo) {
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

    /// Makes the host's mask this one by `set`, unless it is already. If a signal comes in between, the mask is unknown.
    pub(super) fn change_mask(&self, mask: SigSet, set: impl FnOnce()) {
        if self.mask.load(Ordering::Relaxed) == mask.0 {
            return;
        }
        self.mask.store(Self::CHANGING, Ordering::Relaxed);
        set();
        let _ = self.mask.compare_exchange(Self::CHANGING, mask.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The kernel's mask is about to be something else than the thread noted.
    pub(super) fn forget_mask(&self) {
        self.mask.store(Self::UNKNOWN, Ordering::Relaxed);
    }

    /// A call with a mask of its own begins, or has ended.
    pub(super) fn note_temporary_mask(&self, is_in_force: bool) {
        self.has_temporary_mask.set(is_in_force);
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

    /// Whether setting this mask needs the kernel.
    fn changes(waiting: &Waiting, mask: SigSet) -> bool {
        let mut is_set = false;
        waiting.change_mask(mask, || is_set = true);
        is_set
    }

    const OWN: SigSet = SigSet(0b1000);
    const ADDED: SigSet = SigSet(0b0110);

    #[test]
    fn a_signal_leaves_the_mask_that_its_handler_will_have() {
        let waiting = Waiting::new();
        assert!(changes(&waiting, OWN));
        assert!(!changes(&waiting, OWN));
        assert_eq!(waiting.take(info(libc::SIGUSR1), OWN, ADDED), OWN.union(ADDED));
        assert!(!changes(&waiting, OWN.union(ADDED)));
        assert!(changes(&waiting, OWN));
    }

    #[test]
    fn a_signal_in_the_midst_of_a_change_leaves_nothing_unblocked() {
        let waiting = Waiting::new();
        let mut left = SigSet::EMPTY;
        waiting.change_mask(OWN, || left = waiting.take(info(libc::SIGUSR1), OWN, ADDED));
        assert_eq!(left, SigSet::FULL.as_host_mask());
        assert!(changes(&waiting, OWN), "what the kernel blocks is not known");
    }

    #[test]
    fn a_signal_under_a_calls_own_mask_leaves_nothing_unblocked() {
        let waiting = Waiting::new();
        changes(&waiting, OWN);
        waiting.note_temporary_mask(true);
        assert_eq!(waiting.take(info(libc::SIGUSR1), OWN, ADDED), SigSet::FULL.as_host_mask());
    }

    #[test]
    fn a_flood_is_dammed_before_the_ring_is_full() {
        let waiting = Waiting::new();
        changes(&waiting, OWN);
        let taken = (0..Waiting::SLOTS).take_while(|_| waiting.take(info(40), OWN, SigSet::EMPTY) == OWN);
        assert_eq!(taken.count(), Waiting::FEW);
        assert_eq!(drained(&waiting).len(), Waiting::FEW + 1);
    }
}

//! A thread's own share of signal state: mask, alternate stack, and what waits for it.
#![deny(unsafe_code)]

use super::altstack::AlternateStack;
use super::blocking::RESTART;
use super::frame::Trap;
use super::host;
use super::info::SigInfo;
use super::set::{SigSet, Signal};
use crate::errno::Errno;

/// A thread's mask, alternate stack and pending signals.
#[derive(Clone, Debug, Default)]
pub struct ThreadSignals {
    mask: SigSet,
    /// While a call with a mask of its own is under way: the mask that comes back after it (`saved_sigmask`).
    saved_mask: Option<SigSet>,
    pub(super) alternate: AlternateStack,
    /// Taken from the kernel and not yet delivered, oldest first. Between two instructions of the guest only signals
    /// that it blocks are here, and of those only the ones that the host cannot block: see [`Self::change_mask`].
    pending: Vec<SigInfo>,
    /// The host's mask does not follow the guest's yet.
    is_unsettled: bool,
    pub(super) trap: Trap,
}

impl ThreadSignals {
    /// The state that a process starts with: a mask, no alternate stack.
    pub fn starting_with(mask: SigSet) -> Self {
        let mut signals = ThreadSignals::default();
        signals.set_mask(mask);
        signals
    }

    /// What the guest blocks.
    pub fn mask(&self) -> SigSet {
        self.mask
    }

    /// Changes what the guest blocks, on the host too.
    pub(crate) fn set_mask(&mut self, mask: SigSet) {
        self.mask = mask.as_mask();
        host::apply_mask(self.mask);
    }

    /// Changes what the guest blocks, on the host too. A signal that was taken from the kernel while the old mask let it
    /// through, and that the new one blocks, came before the call that changes the mask: then nothing is changed, and
    /// RESTART has it delivered first. So nothing that the guest blocks has ever to be put back into the kernel, where it
    /// would have lost its place and whom it was sent to.
    pub(crate) fn change_mask(&mut self, mask: SigSet) -> Result<(), Errno> {
        let before = self.mask;
        self.set_mask(mask);
        if host::has_waiting() {
            self.collect();
        }
        let is_overtaken = |signal| !before.contains(signal) && self.mask.contains(signal);
        if self.pending.iter().filter_map(SigInfo::signal).any(is_overtaken) {
            self.set_mask(before);
            return Err(RESTART);
        }
        Ok(())
    }

    /// From now on nothing is taken any more, since the thread is about to end. RESTART: what was taken comes first.
    pub(crate) fn before_exit(&mut self) -> Result<(), Errno> {
        host::block_all();
        self.deliver_first()
    }

    /// The same before exec, which keeps what is pending: all of it is put back into the kernel. The host blocks every
    /// signal, those of instructions too, until [`Self::after_failed_exec`].
    pub(crate) fn before_exec(&mut self) -> Result<(), Errno> {
        host::set_exact_mask(SigSet::FULL);
        self.deliver_first()?;
        self.pending.retain(|info| host::give_back(info).is_err());
        Ok(())
    }

    /// The host's mask fits the guest's again.
    pub(crate) fn after_failed_exec(&self) {
        host::apply_mask(self.mask);
    }

    fn deliver_first(&mut self) -> Result<(), Errno> {
        self.collect();
        if self.pending.iter().any(|info| self.lets_through(info)) {
            host::apply_mask(self.mask);
            return Err(RESTART);
        }
        Ok(())
    }

    /// Starts a call that waits under a mask of its own (`ppoll`, `pselect6`, `epoll_pwait`, `rt_sigsuspend`). The kernel
    /// is to be given the set that comes back as the call's mask; [`super::finish_syscall`] and
    /// [`super::deliver_pending`] end the matter. EINTR: a signal that the mask lets through waits here already, do
    /// not call.
    pub fn begin_temporary_mask(&mut self, mask: SigSet) -> Result<SigSet, Errno> {
        self.saved_mask = Some(self.mask);
        host::note_temporary_mask(true);
        self.mask = mask.as_mask();
        if self.pending.iter().any(|info| self.lets_through(info)) {
            return Err(Errno::EINTR);
        }
        Ok(self.mask.as_host_mask())
    }

    /// Ends a temporary mask that no handler has saved. The kernel has put back the host's.
    pub(super) fn cancel_temporary_mask(&mut self) {
        if let Some(saved) = self.saved_mask.take() {
            host::note_temporary_mask(false);
            self.mask = saved;
        }
    }

    /// The mask that a handler's return brings back.
    pub(super) fn take_mask_to_save(&mut self) -> SigSet {
        host::note_temporary_mask(false);
        self.saved_mask.take().unwrap_or(self.mask)
    }

    /// Changes the guest's mask; the host follows at [`settle`](Self::settle).
    pub(super) fn set_guest_mask(&mut self, mask: SigSet) {
        self.mask = mask.as_mask();
        self.is_unsettled = true;
    }

    /// Whether there is nothing for [`super::deliver_pending`] to do.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.saved_mask.is_none() && self.pending.is_empty() && !self.is_unsettled
    }

    /// Adds what the handler has taken from the kernel.
    pub(crate) fn collect(&mut self) {
        host::take_waiting(|info| {
            self.is_unsettled = true;
            self.push(info);
        });
    }

    /// Adds a signal, unless it is one that waits already and does not queue.
    pub(super) fn push(&mut self, info: SigInfo) {
        let is_known = self.pending.iter().any(|waiting| waiting.signal() == info.signal());
        if !is_known || info.signal().is_some_and(Signal::is_real_time) {
            self.pending.push(info);
        }
    }

    /// Takes the next signal that may be delivered: faults first (`dequeue_synchronous_signal`), then what has the number of
    /// one, lowest first (`next_signal`), then the oldest.
    pub(super) fn take_deliverable(&mut self) -> Option<SigInfo> {
        let rank = |info: &SigInfo| match info.signal() {
            Some(signal) if signal.is_synchronous() && info.code() > 0 => (0, 0),
            Some(signal) if signal.is_synchronous() => (1, signal.number()),
            _ => (2, 0),
        };
        let candidates = self.pending.iter().enumerate().filter(|(_, info)| self.lets_through(info));
        let (at, _) = candidates.min_by_key(|(_, info)| rank(info))?;
        Some(self.pending.remove(at))
    }

    /// Takes a pending signal of this set, blocked or not: for `rt_sigtimedwait`.
    pub(super) fn take_member(&mut self, set: SigSet) -> Option<SigInfo> {
        let is_member = |info: &SigInfo| info.signal().is_some_and(|signal| set.contains(signal));
        let at = self.pending.iter().position(is_member)?;
        Some(self.pending.remove(at))
    }

    /// Throws away what is pending of one signal, which is now ignored.
    pub(super) fn discard(&mut self, signal: Signal) {
        self.pending.retain(|info| info.signal() != Some(signal));
    }

    /// The signals that are here and not in the kernel.
    pub(super) fn pending_set(&self) -> SigSet {
        self.pending.iter().filter_map(SigInfo::signal).fold(SigSet::EMPTY, SigSet::with)
    }

    /// After delivery: ends a temporary mask that no handler has saved, and makes the host's mask fit. What is blocked
    /// again since it was taken, because another thread has changed a handler's mask meanwhile, goes back to the kernel;
    /// signals of instructions stay, as the host cannot block them.
    pub(super) fn settle(&mut self) {
        self.cancel_temporary_mask();
        self.is_unsettled = false;
        host::apply_mask(self.mask);
        self.pending.retain(|info| {
            let stays = info.signal().is_some_and(Signal::is_synchronous);
            // Refused only when the user's limit on pending signals is reached: then it stays here.
            stays || host::give_back(info).is_err()
        });
    }

    /// For a process that has just been forked: nothing is pending, the rest is the parent's.
    pub(crate) fn after_fork_in_child(&mut self) {
        host::forget_waiting();
        self.pending.clear();
        self.cancel_temporary_mask();
        host::apply_mask(self.mask);
    }

    fn lets_through(&self, info: &SigInfo) -> bool {
        info.signal().is_some_and(|signal| !self.mask.contains(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(number: i32) -> SigInfo {
        SigInfo::forced(Signal::new(number).unwrap())
    }

    fn next(signals: &mut ThreadSignals) -> Option<i32> {
        signals.take_deliverable().and_then(|info| info.signal()).map(Signal::number)
    }

    #[test]
    fn faults_come_before_older_signals() {
        let mut signals = ThreadSignals::default();
        signals.push(info(libc::SIGUSR1));
        signals.push(info(libc::SIGSEGV));
        assert_eq!(next(&mut signals), Some(libc::SIGSEGV));
        assert_eq!(next(&mut signals), Some(libc::SIGUSR1));
        assert_eq!(next(&mut signals), None);
    }

    #[test]
    fn sent_faults_come_in_the_order_of_their_numbers() {
        let mut signals = ThreadSignals::default();
        let sent = |number| SigInfo::sent(Signal::new(number).unwrap());
        for info in [sent(libc::SIGUSR1), sent(libc::SIGSEGV), sent(libc::SIGILL), info(libc::SIGBUS)] {
            signals.push(info);
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut signals)).collect();
        assert_eq!(order, [libc::SIGBUS, libc::SIGILL, libc::SIGSEGV, libc::SIGUSR1]);
    }

    #[test]
    fn a_blocked_signal_stays() {
        let mut signals = ThreadSignals::default();
        signals.set_guest_mask(SigSet::EMPTY.with(Signal::SEGV));
        signals.push(info(libc::SIGSEGV));
        assert_eq!(next(&mut signals), None);
        assert!(signals.pending_set().contains(Signal::SEGV));
        assert!(signals.take_member(SigSet::FULL).is_some());
    }

    #[test]
    fn a_temporary_mask_is_saved_by_the_handler_or_ends() {
        let mut signals = ThreadSignals::default();
        signals.set_guest_mask(SigSet::EMPTY.with(Signal::PIPE));
        signals.begin_temporary_mask(SigSet::EMPTY).unwrap();
        assert_eq!(signals.take_mask_to_save(), SigSet::EMPTY.with(Signal::PIPE));
        signals.set_guest_mask(SigSet::EMPTY.with(Signal::PIPE));
        signals.begin_temporary_mask(SigSet::EMPTY).unwrap();
        signals.cancel_temporary_mask();
        assert_eq!(signals.mask(), SigSet::EMPTY.with(Signal::PIPE));
    }
}

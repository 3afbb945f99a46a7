//! A thread's own share of signal state: mask, alternate stack, and what waits for it.
#![deny(unsafe_code)]

use super::altstack::AlternateStack;
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
    /// that it blocks are here, and of those only the ones that the host cannot block.
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

    /// Starts a call that waits under a mask of its own (`ppoll`, `pselect6`, `epoll_pwait`, `rt_sigsuspend`). The kernel
    /// is to be given the set that comes back as the call's mask; [`super::finish_syscall`] and
    /// [`super::deliver_pending`] end the matter. EINTR: a signal that the mask lets through waits here already, do
    /// not call.
    pub fn begin_temporary_mask(&mut self, mask: SigSet) -> Result<SigSet, Errno> {
        self.saved_mask = Some(self.mask);
        self.mask = mask.as_mask();
        if self.pending.iter().any(|info| self.lets_through(info)) {
            return Err(Errno::EINTR);
        }
        Ok(self.mask.as_host_mask())
    }

    /// Ends a temporary mask that no handler has saved. The kernel has put back the host's.
    pub(super) fn cancel_temporary_mask(&mut self) {
        if let Some(saved) = self.saved_mask.take() {
            self.mask = saved;
        }
    }

    /// The mask that a handler's return brings back.
    pub(super) fn take_mask_to_save(&mut self) -> SigSet {
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
        host::take_waiting(|info| self.push(info));
    }

    /// Adds a signal, unless it is one that waits already and does not queue.
    pub(super) fn push(&mut self, info: SigInfo) {
        let is_known = self.pending.iter().any(|waiting| waiting.signal() == info.signal());
        if !is_known || info.signal().is_some_and(Signal::is_real_time) {
            self.pending.push(info);
        }
    }

    /// Takes the next signal that may be delivered: those of instructions first (`dequeue_synchronous_signal`), then
    /// the oldest.
    pub(super) fn take_deliverable(&mut self) -> Option<SigInfo> {
        let is_deliverable = |info: &&SigInfo| self.lets_through(info);
        let is_synchronous = |info: &SigInfo| info.signal().is_some_and(Signal::is_synchronous);
        let mut candidates = self.pending.iter().enumerate().filter(|(_, info)| is_deliverable(info));
        let first = candidates.next()?;
        let best = [first].into_iter().chain(candidates).find(|(_, info)| is_synchronous(info));
        let at = best.map_or(first.0, |(at, _)| at);
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

    /// After delivery: ends a temporary mask that no handler has saved, makes the host's mask fit, and gives back to the
    /// kernel what is blocked again since it was taken. Signals of instructions stay: the host cannot block them.
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
        self.saved_mask = None;
        host::apply_mask(self.mask);
    }

    /// Puts everything that is pending back into the kernel, which keeps it across exec. The host blocks all of it.
    pub(crate) fn give_back_all(&mut self) {
        self.collect();
        self.pending.retain(|info| host::give_back(info).is_err());
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

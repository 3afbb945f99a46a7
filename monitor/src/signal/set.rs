//! Signal numbers and sets of them. Pure.
#![deny(unsafe_code)]

use core::fmt;

/// A signal number, 1..=64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// What happens to a process that neither handles nor ignores a signal (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultAction {
    /// The process ends, with a core file where one is wanted.
    Terminate,
    /// The process stops until SIGCONT.
    Stop,
    /// Nothing, or a stopped process goes on (which the kernel did when the signal was sent).
    Ignore,
}

impl Signal {
    /// The highest signal number.
    pub const MAX: i32 = 64;

    pub(crate) const SEGV: Signal = Signal(libc::SIGSEGV as u8);
    pub(crate) const BUS: Signal = Signal(libc::SIGBUS as u8);
    pub(crate) const FPE: Signal = Signal(libc::SIGFPE as u8);
    pub(crate) const ILL: Signal = Signal(libc::SIGILL as u8);
    pub(crate) const TRAP: Signal = Signal(libc::SIGTRAP as u8);
    pub(crate) const SYS: Signal = Signal(libc::SIGSYS as u8);
    #[cfg(test)]
    pub(crate) const PIPE: Signal = Signal(libc::SIGPIPE as u8);

    /// The signals that an instruction can raise: Endo's own handlers for them are always there, whatever the guest
    /// does about them, and the host never blocks them.
    pub(crate) const SYNCHRONOUS: [Signal; 6] =
        [Signal::SEGV, Signal::BUS, Signal::FPE, Signal::ILL, Signal::TRAP, Signal::SYS];

    /// The signal with this number, if there is one.
    pub const fn new(number: i32) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Signal(number as u8)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// The position in a table of all signals.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Whether several of these can be pending at once.
    pub const fn is_real_time(self) -> bool {
        self.0 >= 32
    }

    /// Whether an instruction can raise it.
    pub const fn is_synchronous(self) -> bool {
        SigSet::SYNCHRONOUS.contains(self)
    }

    /// Whether a program may handle, ignore or block it.
    pub const fn is_catchable(self) -> bool {
        !SigSet::UNBLOCKABLE.contains(self)
    }

    /// What happens without a handler.
    pub const fn default_action(self) -> DefaultAction {
        match self.number() {
            libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => DefaultAction::Ignore,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => DefaultAction::Stop,
            _ => DefaultAction::Terminate,
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal {}", self.0)
    }
}

/// A set of signals as the kernel's 8-byte `sigset_t`: bit *n* - 1 for signal *n*.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// Every signal.
    pub const FULL: SigSet = SigSet(u64::MAX);
    /// Bytes of a set: the `sigsetsize` that system calls insist on.
    pub const SIZE: u64 = 8;

    const UNBLOCKABLE: SigSet = SigSet(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));
    const SYNCHRONOUS: SigSet = {
        let mut bits = 0;
        let mut at = 0;
        while at < Signal::SYNCHRONOUS.len() {
            bits |= 1 << Signal::SYNCHRONOUS[at].index();
            at += 1;
        }
        SigSet(bits)
    };

    /// Whether the signal is in the set.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 >> signal.index() & 1 != 0
    }

    /// The set with one signal more.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        SigSet(self.0 | 1 << signal.index())
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: SigSet) -> Self {
        SigSet(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: SigSet) -> Self {
        SigSet(self.0 & !other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: SigSet) -> Self {
        SigSet(self.0 & other.0)
    }

    /// This set as a mask that the kernel accepts: SIGKILL and SIGSTOP cannot be blocked.
    #[must_use]
    pub const fn as_mask(self) -> Self {
        self.without(Self::UNBLOCKABLE)
    }

    /// The host's mask while the guest's is this one. A signal that the guest blocks stays pending in the kernel, so
    /// that `signalfd`, `sigpending` and `sigtimedwait` see it; but a fault of the monitor's copies or of the guest must
    /// always arrive.
    #[must_use]
    pub const fn as_host_mask(self) -> Self {
        self.without(Self::UNBLOCKABLE).without(Self::SYNCHRONOUS)
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = (1..=Signal::MAX).filter_map(Signal::new).filter(|&signal| self.contains(signal));
        f.debug_set().entries(members.map(Signal::number)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_1_to_64_is_no_signal() {
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::new(64).map(Signal::number), Some(64));
    }

    #[test]
    fn the_host_never_blocks_what_an_instruction_can_raise() {
        let host = SigSet::FULL.as_host_mask();
        assert!(Signal::SYNCHRONOUS.iter().all(|&signal| !host.contains(signal)));
        assert!(host.contains(Signal::PIPE));
        assert!(!host.contains(Signal(libc::SIGKILL as u8)));
    }

    #[test]
    fn the_mask_of_a_guest_may_hold_faults_but_not_kill() {
        let mask = SigSet::FULL.as_mask();
        assert!(mask.contains(Signal::SEGV));
        assert!(!mask.contains(Signal(libc::SIGSTOP as u8)));
    }
}

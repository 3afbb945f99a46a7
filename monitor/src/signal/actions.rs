//! What a process does about each signal (kernel/signal.c, `do_sigaction`).
#![deny(unsafe_code)]

use endo_core::GuestAddr;

use super::set::{DefaultAction, SigSet, Signal};
use super::{host, info::SigInfo, same};
use crate::errno::Errno;

/// The kernel's `struct sigaction`, as `rt_sigaction` reads and writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Action {
    /// A handler's address, `SIG_DFL` or `SIG_IGN`.
    pub handler: u64,
    /// `SA_` bits.
    pub flags: u64,
    /// Where a handler returns to, with `SA_RESTORER`.
    pub restorer: u64,
    /// What else is blocked while the handler runs.
    pub mask: SigSet,
}

/// How a signal is dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// As [`Signal::default_action`] says.
    Default,
    /// Not at all.
    Ignore,
    /// By the guest's code at this address.
    Handler(GuestAddr),
}

impl Action {
    /// Bytes of the structure.
    pub const SIZE: usize = 32;

    pub(super) const RESTORER: u64 = 0x0400_0000;
    const IGNORE: Action =
        Action { handler: libc::SIG_IGN as u64, flags: 0, restorer: 0, mask: SigSet::EMPTY };
    const DEFAULT: Action = Action { handler: libc::SIG_DFL as u64, ..Action::IGNORE };

    /// The flags that Linux 6.12 keeps; it clears all others, by which programs find out (sigaction(2)).
    const KNOWN_FLAGS: u64 = Self::RESTORER
        | libc::SA_NOCLDSTOP as u64
        | libc::SA_NOCLDWAIT as u64
        | libc::SA_SIGINFO as u64
        | libc::SA_ONSTACK as u64
        | libc::SA_RESTART as u64
        | libc::SA_NODEFER as u64
        | libc::SA_RESETHAND as u32 as u64
        | 0x800; // SA_EXPOSE_TAGBITS

    /// How the signal is dealt with.
    pub const fn disposition(&self) -> Disposition {
        match self.handler as usize {
            libc::SIG_DFL => Disposition::Default,
            libc::SIG_IGN => Disposition::Ignore,
            _ => Disposition::Handler(GuestAddr(self.handler)),
        }
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: i32) -> bool {
        self.flags & flag as u32 as u64 != 0
    }

    /// The structure's words.
    pub(super) fn words(&self) -> [u64; Self::SIZE / 8] {
        [self.handler, self.flags, self.restorer, self.mask.0]
    }

    /// The structure's bytes.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The structure with these bytes.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        Action { handler: word(0), flags: word(1), restorer: word(2), mask: SigSet(word(3)) }
    }

    fn host_disposition(&self) -> host::Disposition {
        match self.disposition() {
            Disposition::Default => host::Disposition::Default,
            Disposition::Ignore => host::Disposition::Ignore,
            Disposition::Handler(_) => host::Disposition::Handled { flags: self.flags, mask: self.mask },
        }
    }
}

/// What a process does about each signal. An entry that the guest has not touched is what the process inherited, and
/// is asked of the host when it is wanted.
#[derive(Clone, Debug)]
pub struct SignalActions {
    entries: [Option<Action>; Signal::MAX as usize],
}

impl SignalActions {
    /// Every action as inherited.
    pub const fn inherited() -> Self {
        SignalActions { entries: [None; Signal::MAX as usize] }
    }

    /// What is done about a signal.
    pub fn get(&self, signal: Signal) -> Action {
        self.entries[signal.index()].unwrap_or_else(|| {
            if host::is_inherited_ignored(signal) { Action::IGNORE } else { Action::DEFAULT }
        })
    }

    /// Changes what is done about a signal, here and, where it matters, on the host: a handler there brings the signal
    /// to the monitor, and with the default or with "ignore" the kernel does all that is to be done.
    pub fn set(&mut self, signal: Signal, action: Action) -> Result<(), Errno> {
        if !signal.is_catchable() {
            return Err(Errno::EINVAL);
        }
        let flags = action.flags & Action::KNOWN_FLAGS;
        let action = Action { flags, mask: action.mask.as_mask(), ..action };
        let before = self.entries[signal.index()].map(|before| before.host_disposition());
        host::set_disposition(signal, action.host_disposition(), before)?;
        self.enter(signal, action);
        Ok(())
    }

    /// Back to the default, other fields kept, as for `SA_RESETHAND` and a fault that is blocked.
    pub fn reset(&mut self, signal: Signal) {
        let action = Action { handler: libc::SIG_DFL as u64, ..self.get(signal) };
        // The host cannot refuse a disposition for a signal that had one.
        let _ = host::set_disposition(signal, host::Disposition::Default, None);
        self.enter(signal, action);
    }

    /// Writes an entry, and what is derived from it.
    fn enter(&mut self, signal: Signal, action: Action) {
        self.entries[signal.index()] = Some(action);
        note(signal, &action);
    }

    /// Lets the host's handler know of these actions, after a child that shares the memory had others.
    pub(crate) fn note_again(&self) {
        for signal in (1..=Signal::MAX).filter_map(Signal::new) {
            match &self.entries[signal.index()] {
                Some(action) => note(signal, action),
                None => same::note(signal, None),
            }
        }
    }

    /// Every handler back to the default, as `CLONE_CLEAR_SIGHAND` wants it.
    pub fn clear_handlers(&mut self) {
        for signal in (1..=Signal::MAX).filter_map(Signal::new).filter(|s| s.is_catchable()) {
            if matches!(self.get(signal).disposition(), Disposition::Handler(_)) {
                let _ = self.set(signal, Action::DEFAULT);
            }
        }
    }

    /// Whether a signal would be thrown away (`sig_handler_ignored`).
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).disposition() {
            Disposition::Ignore => true,
            Disposition::Default => signal.default_action() == DefaultAction::Ignore,
            Disposition::Handler(_) => false,
        }
    }

    /// Whether the signal that `info` describes would be thrown away.
    pub fn ignores_info(&self, info: &SigInfo) -> bool {
        info.signal().is_none_or(|signal| self.ignores(signal))
    }
}

/// Tells those of an action that cannot ask for it: the host's handler and the fast path.
fn note(signal: Signal, action: &Action) {
    host::note_disposition(signal, action.host_disposition());
    let has_handler = matches!(action.disposition(), Disposition::Handler(_));
    same::note(signal, has_handler.then_some(action));
}

impl Default for SignalActions {
    fn default() -> Self {
        Self::inherited()
    }
}

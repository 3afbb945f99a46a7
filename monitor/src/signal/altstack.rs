//! The guest's alternate signal stack (kernel/signal.c, `do_sigaltstack`). The host's is Endo's own; the kernel never
//! learns of this one.
#![deny(unsafe_code)]

use crate::errno::Errno;

/// A thread's alternate stack, as `sigaltstack` set it. Addresses are the guest's, unchecked: what is written there is
/// written as any guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlternateStack {
    start: u64,
    size: u64,
    flags: i32,
}

impl AlternateStack {
    /// `SS_AUTODISARM`: forgotten while a handler runs on it.
    const AUTODISARM: i32 = i32::MIN;
    /// Bytes of a `stack_t`.
    pub const SIZE: usize = 24;

    /// None, as a thread starts.
    pub const NONE: AlternateStack = AlternateStack { start: 0, size: 0, flags: libc::SS_DISABLE };

    /// `SS_DISABLE`, `SS_ONSTACK` or 0 for a thread with this stack pointer (`sas_ss_flags`).
    pub fn state(&self, stack_pointer: u64) -> i32 {
        match () {
            () if self.size == 0 => libc::SS_DISABLE,
            () if self.is_in_use(stack_pointer) => libc::SS_ONSTACK,
            () => 0,
        }
    }

    /// Whether the thread runs on it (`on_sig_stack`).
    pub fn is_in_use(&self, stack_pointer: u64) -> bool {
        self.flags & Self::AUTODISARM == 0 && self.holds(stack_pointer)
    }

    /// Whether a stack pointer lies in it (`__on_sig_stack`).
    pub fn holds(&self, stack_pointer: u64) -> bool {
        stack_pointer > self.start && stack_pointer - self.start <= self.size
    }

    /// Where it starts to grow down from.
    pub fn top(&self) -> u64 {
        self.start.wrapping_add(self.size)
    }

    /// What it is while a handler runs: gone, if it disarms itself.
    #[must_use]
    pub fn while_handling(self) -> Self {
        if self.flags & Self::AUTODISARM == 0 { self } else { Self::NONE }
    }

    /// The `stack_t` that `sigaltstack` gives back to a thread with this stack pointer.
    pub fn report(&self, stack_pointer: u64) -> [u8; Self::SIZE] {
        let flags = self.state(stack_pointer) | self.flags & Self::AUTODISARM;
        AlternateStack { flags, ..*self }.to_bytes()
    }

    /// The `stack_t` that a signal frame keeps (`__save_altstack`).
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// Sets the stack from a `stack_t`, for a thread whose stack pointer is this.
    pub fn replace(&mut self, stack: &[u8; Self::SIZE], stack_pointer: u64) -> Result<(), Errno> {
        let word = |at: usize| u64::from_le_bytes(stack[at..at + 8].try_into().expect("eight bytes"));
        let (start, flags, size) = (word(0), word(8) as u32 as i32, word(16));
        if self.is_in_use(stack_pointer) {
            return Err(Errno::EPERM);
        }
        let mode = flags & !Self::AUTODISARM;
        if !matches!(mode, libc::SS_DISABLE | libc::SS_ONSTACK | 0) {
            return Err(Errno::EINVAL);
        }
        let wanted = AlternateStack { start, size, flags };
        if wanted == *self {
            return Ok(());
        }
        if mode == libc::SS_DISABLE {
            *self = AlternateStack { start: 0, size: 0, flags };
            return Ok(());
        }
        if size < libc::MINSIGSTKSZ as u64 {
            return Err(Errno::ENOMEM);
        }
        *self = wanted;
        Ok(())
    }
}

impl Default for AlternateStack {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(start: u64, size: u64, flags: i32) -> [u8; AlternateStack::SIZE] {
        AlternateStack { start, size, flags }.to_bytes()
    }

    #[test]
    fn a_stack_in_use_cannot_be_changed() {
        let mut alternate = AlternateStack::NONE;
        alternate.replace(&stack(0x1000, 0x2000, 0), 0).unwrap();
        assert_eq!(alternate.replace(&stack(0, 0, libc::SS_DISABLE), 0x3000), Err(Errno::EPERM));
        assert_eq!(alternate.replace(&stack(0, 0, libc::SS_DISABLE), 0x3001), Ok(()));
        assert_eq!(alternate.state(0x2000), libc::SS_DISABLE);
    }

    #[test]
    fn a_stack_too_small_or_with_unknown_flags_is_refused() {
        let mut alternate = AlternateStack::NONE;
        assert_eq!(alternate.replace(&stack(0x1000, 2047, 0), 0), Err(Errno::ENOMEM));
        assert_eq!(alternate.replace(&stack(0x1000, 0x2000, 4), 0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_self_disarming_stack_is_never_in_use() {
        let mut alternate = AlternateStack::NONE;
        alternate.replace(&stack(0x1000, 0x2000, AlternateStack::AUTODISARM), 0).unwrap();
        assert!(!alternate.is_in_use(0x2000));
        assert_eq!(alternate.while_handling(), AlternateStack::NONE);
    }
}

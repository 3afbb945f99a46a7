//! Deciding what a guest may do.

use crate::{DomainId, Fault, Registers};

/// A system call's number on the architecture that the guest runs on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SyscallNumber(pub u32);

/// A system call as a guest thread makes it.
#[derive(Clone, Copy, Debug)]
pub struct SyscallRequest<'a> {
    /// Which call.
    pub number: SyscallNumber,
    /// Its six argument registers, used or not.
    pub arguments: [u64; 6],
    /// The domain that makes it.
    pub domain: DomainId,
    /// All registers of the caller.
    pub registers: &'a Registers,
}

/// What is to be done with a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Carry it out (after the monitor's own checks, which no verdict lifts).
    Allow,
    /// Carry it out with these arguments instead.
    Rewrite([u64; 6]),
    /// Do not carry it out; give the caller this result (-4095..=-1 is an errno, negated).
    Emulate(i64),
    /// Do not carry it out; fail with this errno.
    Deny(i32),
    /// End the guest as SIGSYS would.
    Kill,
}

/// Decides what happens: policies, tracers and counters implement it. Every method may be called from several guest
/// threads at once.
pub trait SyscallMonitor: Send + Sync + 'static {
    /// Whether [`SyscallMonitor::syscall`] wants to see calls of this number. Those it does not may be carried out on a
    /// fast path that never asks. The answer must stay the same for the life of the monitor.
    fn observes(&self, number: SyscallNumber) -> bool;

    /// A guest thread makes a call.
    fn syscall(&self, request: &SyscallRequest<'_>) -> Verdict;

    /// A call has come back with this result.
    fn syscall_returned(&self, _request: &SyscallRequest<'_>, _result: i64) {}

    /// A guest instruction faulted; its signal is delivered next.
    fn fault(&self, _registers: &Registers, _fault: &Fault) {}

    /// A guest thread is about to run its first instruction.
    fn thread_started(&self) {}

    /// A guest thread has run its last instruction.
    fn thread_exited(&self) {}

    /// The guest is about to become another program.
    fn exec(&self, _program: &std::ffi::CStr) {}
}

/// Allows everything and looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullMonitor;

impl SyscallMonitor for NullMonitor {
    fn observes(&self, _number: SyscallNumber) -> bool {
        false
    }

    fn syscall(&self, _request: &SyscallRequest<'_>) -> Verdict {
        Verdict::Allow
    }
}

/// Allows everything and counts the calls by number.
#[derive(Debug)]
pub struct CountingMonitor {
    counts: Vec<core::sync::atomic::AtomicU64>,
}

impl CountingMonitor {
    /// Numbers from here on are counted together.
    pub const NUMBERS: usize = 512;

    /// All counts zero.
    pub fn new() -> Self {
        CountingMonitor { counts: (0..=Self::NUMBERS).map(|_| Default::default()).collect() }
    }

    /// The calls seen so far, as (number, count), without those never made.
    pub fn counts(&self) -> Vec<(SyscallNumber, u64)> {
        let load = |count: &core::sync::atomic::AtomicU64| count.load(core::sync::atomic::Ordering::Relaxed);
        let numbered =
            self.counts.iter().enumerate().map(|(number, count)| (SyscallNumber(number as u32), load(count)));
        numbered.filter(|&(_, count)| count != 0).collect()
    }
}

impl Default for CountingMonitor {
    fn default() -> Self {
        Self::new()
    }
}

impl SyscallMonitor for CountingMonitor {
    fn observes(&self, _number: SyscallNumber) -> bool {
        true
    }

    fn syscall(&self, request: &SyscallRequest<'_>) -> Verdict {
        let slot = (request.number.0 as usize).min(Self::NUMBERS);
        self.counts[slot].fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        Verdict::Allow
    }
}

/// A monitor that others look at while it works.
impl<M: SyscallMonitor> SyscallMonitor for std::sync::Arc<M> {
    fn observes(&self, number: SyscallNumber) -> bool {
        (**self).observes(number)
    }

    fn syscall(&self, request: &SyscallRequest<'_>) -> Verdict {
        (**self).syscall(request)
    }

    fn syscall_returned(&self, request: &SyscallRequest<'_>, result: i64) {
        (**self).syscall_returned(request, result);
    }

    fn fault(&self, registers: &Registers, fault: &Fault) {
        (**self).fault(registers, fault);
    }

    fn thread_started(&self) {
        (**self).thread_started();
    }

    fn thread_exited(&self) {
        (**self).thread_exited();
    }

    fn exec(&self, program: &std::ffi::CStr) {
        (**self).exec(program);
    }
}

//! How much memory the guest may map: `RLIMIT_AS` and `RLIMIT_DATA` as the guest sees them.
//!
//! The host's own limits stay as they are: its window is reserved address space, and counts.
#![deny(unsafe_code)]

use endo_core::GuestRange;

use super::MemoryMap;
use crate::errno::Errno;

/// A resource limit, in bytes; [`Limit::INFINITY`] is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// What `soft` may be raised to.
    pub hard: u64,
}

impl Limit {
    /// No limit.
    pub const INFINITY: u64 = libc::RLIM_INFINITY;
}

/// The limits on a guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLimits {
    /// `RLIMIT_AS`: never more than the window.
    pub address_space: Limit,
    /// `RLIMIT_DATA`.
    pub data: Limit,
}

impl MemoryLimits {
    /// A window's limits: no more address space than it has, and unless a program asks for all of it a sixteenth
    /// less. The Java VM takes half of the limit for its heap, in one piece: half a window is never free in one piece.
    pub(super) fn new(window_bytes: u64) -> Self {
        MemoryLimits {
            address_space: Limit { soft: window_bytes - window_bytes / 16, hard: window_bytes },
            data: Limit { soft: Limit::INFINITY, hard: Limit::INFINITY },
        }
    }

    /// The lower of both.
    pub(crate) fn lowered_to(self, other: MemoryLimits) -> Self {
        let lower = |a: Limit, b: Limit| Limit { soft: a.soft.min(b.soft), hard: a.hard.min(b.hard) };
        MemoryLimits {
            address_space: lower(self.address_space, other.address_space),
            data: lower(self.data, other.data),
        }
    }
}

/// Raises this process's own limits on memory, which the window and the backend's tables would exceed, as far as it
/// may. What they were is the guest's.
#[expect(unsafe_code, reason = "calls of getrlimit and setrlimit")]
pub(crate) fn lift_host_limits() -> MemoryLimits {
    let [address_space, data] = [libc::RLIMIT_AS, libc::RLIMIT_DATA].map(|resource| {
        let mut limit = libc::rlimit { rlim_cur: Limit::INFINITY, rlim_max: Limit::INFINITY };
        // SAFETY: `limit` lives until the call returns.
        unsafe { libc::getrlimit(resource, &raw mut limit) };
        if limit.rlim_cur != Limit::INFINITY {
            for highest in [limit.rlim_max, Limit::INFINITY] {
                let raised = libc::rlimit { rlim_cur: highest, rlim_max: highest };
                // SAFETY: `raised` lives until the call returns. Who may not raise the hard limit keeps what there is.
                unsafe { libc::setrlimit(resource, &raw const raised) };
            }
        }
        Limit { soft: limit.rlim_cur, hard: limit.rlim_max }
    });
    MemoryLimits { address_space, data }
}

/// `RLIMIT_STACK` of this process, which the guest shares.
#[expect(unsafe_code, reason = "one call of getrlimit")]
pub(crate) fn stack_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives until the call returns.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) };
    if status == 0 { limit.rlim_cur } else { 8 << 20 }
}

impl MemoryMap {
    /// Whether `bytes` more may be mapped (mm/mmap.c, `may_expand_vm`).
    pub(super) fn check_limits(&self, bytes: u64, is_data: bool) -> Result<(), Errno> {
        let total: u64 = self.mappings.iter().map(|m| m.range.len()).sum();
        let data: u64 = self.mappings.iter().filter(|m| m.is_data()).map(|m| m.range.len()).sum();
        let exceeds = |used: u64, limit: Limit| used.checked_add(bytes).is_none_or(|sum| sum > limit.soft);
        if exceeds(total, self.limits.address_space) || is_data && exceeds(data, self.limits.data) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Bytes mapped in `range`, which a mapping made over it does not add.
    pub(super) fn mapped_bytes(&self, range: GuestRange) -> u64 {
        self.mappings.parts(range).iter().map(|part| part.range.len()).sum()
    }
}

//! The guest's address space: what is mapped where, with which rights, and how its bytes are reached.
//!
//! [`MemoryMap`] keeps the books and makes the host's mappings follow them; the kernel's rules (mm/mmap.c, mprotect.c,
//! mremap.c) are in [`map`], [`change`] and [`remap`], the break in [`brk`], the choice of addresses in [`place`]. The
//! books themselves are [`intervals::Intervals`], which is pure. [`user`] is how the monitor reads and writes
//! guest memory. Only `host` changes real mappings.
//!
//! Recorded rights never exceed real ones: they are lowered before the host's are, and raised after.

pub mod brk;
pub mod change;
pub(crate) mod dump;
mod host;
pub mod intervals;
pub mod limits;
pub mod map;
pub mod mapping;
pub mod place;
pub mod remap;
pub mod scatter;
pub mod shm;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod user;

use std::collections::BTreeMap;

use endo_core::{CodeSource, DomainId, GuestAddr, GuestRange, IsolationBackend, PAGE_SIZE, Rights};

use crate::errno::Errno;
pub use brk::Break;
pub use intervals::Intervals;
pub use limits::{Limit, MemoryLimits};
pub use map::{FilePart, MapRequest, Sharing};
pub use mapping::{Backing, Label, Mapping, MappingFlags};
pub use place::Placement;
pub use scatter::Scatter;

/// Every mapping of a guest, and where the next one may go.
#[derive(Debug)]
pub struct MemoryMap {
    domain: DomainId,
    window: GuestRange,
    usable: GuestRange,
    mappings: Intervals,
    heap: Break,
    limits: MemoryLimits,
    /// Lengths of attached System V segments by address.
    segments: BTreeMap<GuestAddr, u64>,
    /// `mlockall(MCL_FUTURE)`: what is mapped from now on gets these `MAP_` flags.
    future_flags: libc::c_int,
    /// From what the places of code from files follow, if they do.
    scatter: Option<Scatter>,
}

impl MemoryMap {
    /// An empty address space in the window of the main domain.
    pub fn new(window: GuestRange) -> Self {
        let usable = place::usable_part(window);
        MemoryMap {
            domain: DomainId::MAIN,
            window,
            usable,
            mappings: Intervals::default(),
            heap: Break::default(),
            limits: MemoryLimits::new(usable.len()),
            segments: BTreeMap::new(),
            future_flags: 0,
            scatter: None,
        }
    }

    /// From now on code from files goes where this says.
    pub fn place_code_by(&mut self, scatter: Scatter) {
        self.scatter = Some(scatter);
    }

    /// From what the places of code from files follow, if they do.
    pub fn scatter(&self) -> Option<&Scatter> {
        self.scatter.as_ref()
    }

    /// Where guest addresses may lie.
    pub fn window(&self) -> GuestRange {
        self.window
    }

    /// Where mappings may lie: the window without its guards.
    pub fn usable(&self) -> GuestRange {
        self.usable
    }

    /// The mapping that holds `addr`.
    pub fn find(&self, addr: GuestAddr) -> Option<&Mapping> {
        self.mappings.find(addr)
    }

    /// All mappings, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mapping> {
        self.mappings.iter()
    }

    /// The books.
    pub fn intervals(&self) -> &Intervals {
        &self.mappings
    }

    /// What `RLIMIT_AS` and `RLIMIT_DATA` are to the guest.
    pub fn limits(&self) -> &MemoryLimits {
        &self.limits
    }

    /// To change `RLIMIT_AS` and `RLIMIT_DATA`.
    pub fn limits_mut(&mut self) -> &mut MemoryLimits {
        &mut self.limits
    }

    /// Unmaps everything, for exec. Limits and locks on the future stay as exec leaves them.
    pub fn clear<B: IsolationBackend>(&mut self, backend: &B) -> Result<(), Errno> {
        self.remove(backend, self.usable)?;
        self.heap = Break::default();
        self.segments.clear();
        self.future_flags = 0;
        Ok(())
    }

    /// Drops from the books what a forked child did not get (`MADV_DONTFORK`) and takes its place in the window again.
    pub fn after_fork_in_child<B: IsolationBackend>(&mut self, backend: &B) -> Result<(), Errno> {
        let lost = self.mappings.iter().filter(|m| m.flags.contains(MappingFlags::NO_FORK));
        let lost: Vec<GuestRange> = lost.map(|m| m.range).collect();
        self.future_flags = 0;
        lost.into_iter().try_for_each(|range| self.remove(backend, range))
    }

    /// Makes a mapping that grows downwards reach `addr`, if one lies above it and there is room. The caller repeats
    /// the access that faulted.
    pub fn grow_down<B: IsolationBackend>(&mut self, backend: &B, addr: GuestAddr) -> Result<(), Errno> {
        if self.mappings.find(addr).is_some() || !self.usable.contains(addr) {
            return Err(Errno::EFAULT);
        }
        let above = *self.mappings.next_from(addr).ok_or(Errno::EFAULT)?;
        if !above.flags.contains(MappingFlags::GROWS_DOWN) {
            return Err(Errno::EFAULT);
        }
        let grown = GuestRange::from_bounds(addr.page_start(), above.start()).ok_or(Errno::EFAULT)?;
        let too_near =
            |m: &Mapping| !m.rights.is_empty() && grown.start().0 - m.end().0 < intervals::STACK_GUARD_GAP;
        let is_too_near = self.mappings.last_before(addr).is_some_and(too_near);
        if is_too_near || above.range.len() + grown.len() > limits::stack_limit() {
            return Err(Errno::ENOMEM);
        }
        self.check_limits(grown.len(), above.is_data())?;
        self.place(backend, Mapping { range: grown, ..above }, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// The range of `length` bytes, rounded up to pages, at an address that must be a page's.
    pub(super) fn pages(start: GuestAddr, length: u64) -> Option<GuestRange> {
        let length = length.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1);
        GuestRange::new(start, length)
    }

    /// Maps `mapping` over whatever is there, on the host and in the books. On failure all is as it was.
    pub(super) fn place<B: IsolationBackend>(
        &mut self,
        backend: &B,
        mapping: Mapping,
        host_flags: libc::c_int,
        fd: libc::c_int,
        offset: u64,
    ) -> Result<(), Errno> {
        let replaced = self.forget(backend, mapping.range);
        let rights = backend.page_rights(mapping.effective_rights());
        let mapped = host::map(self.host(backend, mapping.range)?, rights, host_flags, fd, offset);
        if let Err(errno) = mapped {
            // The kernel leaves what was there when it refuses (mm/vma.c, vms_abort_munmap_vmas).
            replaced.into_iter().try_for_each(|mapping| self.record(backend, mapping))?;
            return Err(errno);
        }
        self.record(backend, mapping)
    }

    /// Unmaps whatever lies in `range`.
    pub(super) fn remove<B: IsolationBackend>(
        &mut self,
        backend: &B,
        range: GuestRange,
    ) -> Result<(), Errno> {
        for part in self.forget(backend, range) {
            host::release(self.host(backend, part.range)?)?;
        }
        Ok(())
    }

    /// Takes what lies in `range` out of the books and away from the guest, before the host's mapping changes.
    pub(super) fn forget<B: IsolationBackend>(&mut self, backend: &B, range: GuestRange) -> Vec<Mapping> {
        let parts = self.mappings.remove(range);
        for part in &parts {
            if part.rights.contains(Rights::EXECUTE) {
                backend.retire_code(self.domain, part.range);
            }
            // Nothing but a range outside the window makes this fail, and mappings lie inside.
            let _ = backend.revoke(self.domain, part.range);
        }
        parts
    }

    /// Enters a mapping that the host has made.
    pub(super) fn record<B: IsolationBackend>(&mut self, backend: &B, mapping: Mapping) -> Result<(), Errno> {
        backend.assign(self.domain, mapping.range, mapping.effective_rights()).map_err(|_| Errno::ENOMEM)?;
        self.mappings.insert(mapping);
        self.admit(backend, &mapping)
    }

    fn admit<B: IsolationBackend>(&self, backend: &B, mapping: &Mapping) -> Result<(), Errno> {
        if !mapping.rights.contains(Rights::EXECUTE) {
            return Ok(());
        }
        backend.admit_code(self.domain, mapping.range, self.code_source(mapping)).map_err(|_| Errno::EACCES)
    }

    /// Where the bytes of a mapping come from; the file too if it is likely to lie there again.
    fn code_source(&self, mapping: &Mapping) -> CodeSource {
        let stays = self.scatter.is_some()
            && (matches!(mapping.label, Label::Program | Label::Interpreter)
                || scatter::is_among_libraries(mapping.range));
        match (mapping.code_source(), mapping.origin()) {
            (CodeSource::Private, Some(origin)) if stays => CodeSource::File(origin),
            (source, _) => source,
        }
    }

    /// Where the host has `range`.
    pub(super) fn host<B: IsolationBackend>(
        &self,
        backend: &B,
        range: GuestRange,
    ) -> Result<host::Window, Errno> {
        backend.host_range(self.domain, range).ok_or(Errno::ENOMEM)
    }
}

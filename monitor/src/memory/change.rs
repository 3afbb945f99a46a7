//! Changing what is mapped without moving it: `mprotect`, `madvise`, `mlock`, `msync`, `mincore`.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, IsolationBackend, PAGE_SIZE, Rights};

use super::{Mapping, MappingFlags, MemoryMap, host, place};
use crate::errno::Errno;

/// What `mprotect` is told besides the rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reach {
    /// The range, as given.
    #[default]
    Exact,
    /// From the start of the mapping, which must grow downwards (`PROT_GROWSDOWN`).
    ToLowerEnd,
}

/// Parts of mappings that are to be written to their files.
#[derive(Debug)]
pub struct Syncing {
    places: Vec<host::Window>,
    flags: libc::c_int,
    has_hole: bool,
}

impl Syncing {
    /// Writes them. What another thread unmaps meanwhile is written or not.
    pub fn carry_out(self) -> Result<(), Errno> {
        self.places.into_iter().try_for_each(|place| host::sync(place, self.flags))?;
        if self.has_hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

impl MemoryMap {
    /// Changes rights, mapping by mapping from the lowest; what was changed before an error stays changed. Errors are
    /// mprotect(2)'s (mm/mprotect.c).
    pub fn protect<B: IsolationBackend>(
        &mut self,
        backend: &B,
        start: GuestAddr,
        length: u64,
        rights: Rights,
        reach: Reach,
    ) -> Result<(), Errno> {
        if !start.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        if length == 0 {
            return Ok(());
        }
        let mut range = MemoryMap::pages(start, length).filter(|r| !r.is_empty()).ok_or(Errno::ENOMEM)?;
        if reach == Reach::ToLowerEnd {
            let mapping = self.mappings.find(start).ok_or(Errno::ENOMEM)?;
            if !mapping.flags.contains(MappingFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
            range = GuestRange::from_bounds(mapping.start(), range.end()).ok_or(Errno::ENOMEM)?;
        }
        let (parts, has_hole) = self.mappings.contiguous_parts(range);
        for part in parts {
            if !part.max_rights.contains(rights) {
                return Err(Errno::EACCES);
            }
            self.protect_part(backend, &part, rights)?;
        }
        if has_hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn protect_part<B: IsolationBackend>(
        &mut self,
        backend: &B,
        part: &Mapping,
        rights: Rights,
    ) -> Result<(), Errno> {
        if part.rights == rights {
            return Ok(());
        }
        let at = self.host(backend, part.range)?;
        let changed = Mapping { rights, ..*part };
        // Whatever the backend did to the protection of pages with code is undone before the host's call.
        self.forget(backend, part.range);
        let protected = host::protect(at, backend.page_rights(changed.effective_rights()));
        let is_protected = protected.is_ok();
        self.record(backend, if is_protected { changed } else { *part })?;
        protected
    }

    /// `madvise`: what is mapped gets the advice; a hole makes it fail with ENOMEM afterwards (mm/madvise.c).
    pub fn advise<B: IsolationBackend>(
        &mut self,
        backend: &B,
        start: GuestAddr,
        length: u64,
        advice: libc::c_int,
    ) -> Result<(), Errno> {
        if !is_known_advice(advice) || !start.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let rounded = length.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        if length != 0 && rounded == 0 {
            return Err(Errno::EINVAL);
        }
        let range = GuestRange::new(start, rounded).ok_or(Errno::EINVAL)?;
        if range.is_empty() {
            return Ok(());
        }
        let parts = self.mappings.parts(range);
        let mapped: u64 = parts.iter().map(|part| part.range.len()).sum();
        for part in &parts {
            self.advise_part(backend, part, advice)?;
        }
        if mapped < range.len() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn advise_part<B: IsolationBackend>(
        &mut self,
        backend: &B,
        part: &Mapping,
        advice: libc::c_int,
    ) -> Result<(), Errno> {
        let at = self.host(backend, part.range)?;
        let has_code = part.rights.contains(Rights::EXECUTE);
        let is_replaced = replaces_contents(advice) && has_code;
        if is_replaced {
            backend.retire_code(self.domain, part.range);
        }
        let advised = host::advise(at, advice);
        if is_replaced {
            self.admit(backend, part)?;
        }
        advised?;
        match advice {
            libc::MADV_DONTFORK => {
                self.mappings.update(part.range, |m| m.flags.insert(MappingFlags::NO_FORK))
            }
            libc::MADV_DOFORK => self.mappings.update(part.range, |m| m.flags.remove(MappingFlags::NO_FORK)),
            _ => {}
        }
        Ok(())
    }

    /// `mlock2` (`flags` as there) or, without flags, `munlock`. A hole fails with ENOMEM after what precedes it.
    pub fn set_locked<B: IsolationBackend>(
        &mut self,
        backend: &B,
        start: GuestAddr,
        length: u64,
        lock: Option<libc::c_uint>,
    ) -> Result<(), Errno> {
        let end = start.0.checked_add(length).ok_or(Errno::EINVAL)?;
        let range = GuestRange::from_bounds(start, GuestAddr(end)).ok_or(Errno::EINVAL)?;
        let range = range.page_aligned().ok_or(Errno::EINVAL)?;
        let (parts, has_hole) = self.mappings.contiguous_parts(range);
        for part in &parts {
            let at = self.host(backend, part.range)?;
            match lock {
                Some(flags) => host::lock(at, flags)?,
                None => host::unlock(at)?,
            }
        }
        if has_hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// `mlockall` for the guest's memory alone; `future` is what later mappings get.
    pub fn lock_all<B: IsolationBackend>(
        &mut self,
        backend: &B,
        current: Option<libc::c_uint>,
        future: bool,
    ) -> Result<(), Errno> {
        if let Some(flags) = current {
            for mapping in self.mappings.iter().filter(|m| !m.rights.is_empty()) {
                host::lock(self.host(backend, mapping.range)?, flags)?;
            }
        }
        self.future_flags = if future { libc::MAP_LOCKED } else { 0 };
        Ok(())
    }

    /// `munlockall` for the guest's memory alone.
    pub fn unlock_all<B: IsolationBackend>(&mut self, backend: &B) -> Result<(), Errno> {
        self.future_flags = 0;
        self.mappings.iter().try_for_each(|mapping| host::unlock(self.host(backend, mapping.range)?))
    }

    /// What `msync` is to do (mm/msync.c). Writing to a file takes its time: that is done with the map unlocked.
    pub fn to_sync<B: IsolationBackend>(
        &self,
        backend: &B,
        start: GuestAddr,
        length: u64,
        flags: libc::c_int,
    ) -> Result<Syncing, Errno> {
        let known = libc::MS_ASYNC | libc::MS_INVALIDATE | libc::MS_SYNC;
        let is_contradictory = flags & libc::MS_ASYNC != 0 && flags & libc::MS_SYNC != 0;
        if flags & !known != 0 || !start.is_page_aligned() || is_contradictory {
            return Err(Errno::EINVAL);
        }
        let range = MemoryMap::pages(start, length).ok_or(Errno::ENOMEM)?;
        let parts = self.mappings.parts(range);
        let mapped: u64 = parts.iter().map(|part| part.range.len()).sum();
        let places = parts.iter().map(|part| self.host(backend, part.range)).collect::<Result<_, _>>()?;
        Ok(Syncing { places, flags, has_hole: mapped < range.len() })
    }

    /// `mincore`: one byte a page.
    pub fn residency<B: IsolationBackend>(
        &self,
        backend: &B,
        start: GuestAddr,
        length: u64,
    ) -> Result<Vec<u8>, Errno> {
        if !start.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let range = MemoryMap::pages(start, length).ok_or(Errno::ENOMEM)?;
        if range.end().0 > place::ADDRESS_END || !self.mappings.covers(range) {
            return Err(Errno::ENOMEM);
        }
        host::residency(self.host(backend, range)?)
    }
}

fn replaces_contents(advice: libc::c_int) -> bool {
    matches!(
        advice,
        libc::MADV_DONTNEED
            | libc::MADV_FREE
            | libc::MADV_REMOVE
            | libc::MADV_DONTNEED_LOCKED
            | GUARD_INSTALL
    )
}

/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE` (include/uapi/asm-generic/mman-common.h, Linux 6.13).
const GUARD_INSTALL: libc::c_int = 102;
const GUARD_REMOVE: libc::c_int = 103;

/// Advice that concerns the guest's own pages. Poisoning pages of the machine (`MADV_HWPOISON`) is not.
fn is_known_advice(advice: libc::c_int) -> bool {
    let ordinary = libc::MADV_NORMAL..=libc::MADV_DONTNEED;
    let memory = libc::MADV_FREE..=libc::MADV_COLLAPSE;
    ordinary.contains(&advice) || memory.contains(&advice) || matches!(advice, GUARD_INSTALL | GUARD_REMOVE)
}

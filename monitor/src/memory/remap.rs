//! Resizing and moving mappings (`mremap`, mm/mremap.c).
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, HostAddr, IsolationBackend};

use super::{Mapping, MappingFlags, MemoryMap, Placement, host, place};
use crate::errno::Errno;

/// What `mremap` is asked.
#[derive(Clone, Copy, Debug)]
pub struct RemapRequest {
    /// The mapping to change starts here.
    pub old_start: GuestAddr,
    /// Bytes of it; 0 duplicates a shared mapping.
    pub old_length: u64,
    /// Bytes afterwards.
    pub new_length: u64,
    /// `MREMAP_` flags.
    pub flags: libc::c_int,
    /// Where to, with `MREMAP_FIXED`.
    pub new_start: GuestAddr,
}

impl RemapRequest {
    fn has(&self, flag: libc::c_int) -> bool {
        self.flags & flag != 0
    }
}

const KNOWN_FLAGS: libc::c_int = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;

impl MemoryMap {
    /// Resizes or moves, and says where the mapping then is. Errors are mremap(2)'s.
    pub fn remap<B: IsolationBackend>(
        &mut self,
        backend: &B,
        request: &RemapRequest,
    ) -> Result<GuestAddr, Errno> {
        let (old, new_length) = check_request(request)?;
        let moves = request.has(libc::MREMAP_FIXED) || request.has(libc::MREMAP_DONTUNMAP);
        if moves {
            check_target(request, old, new_length)?;
        }
        let mapping = *self.mappings.find(old.start()).ok_or(Errno::EFAULT)?;
        let is_shared = mapping.flags.contains(MappingFlags::SHARED);
        if old.is_empty() && !is_shared {
            return Err(Errno::EINVAL);
        }
        if !moves && !old.is_empty() && new_length <= old.len() {
            let surplus = GuestRange::new(GuestAddr(old.start().0 + new_length), old.len() - new_length)
                .ok_or(Errno::EINVAL)?;
            self.remove(backend, surplus)?;
            return Ok(old.start());
        }
        if !mapping.range.encloses(old) {
            return Err(Errno::EFAULT);
        }
        let growth = if request.has(libc::MREMAP_DONTUNMAP) {
            new_length
        } else {
            new_length.saturating_sub(old.len())
        };
        self.check_limits(growth, mapping.is_data())?;
        let part = if old.is_empty() { Mapping { range: old, ..mapping } } else { mapping.part(old) };
        if !moves && !old.is_empty() && self.grow_in_place(backend, &mapping, &part, new_length)? {
            return Ok(old.start());
        }
        if !request.has(libc::MREMAP_MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        self.relocate(backend, request, &part, new_length)
    }

    /// Extends the mapping into free space after it, if it ends where `part` does and there is room.
    fn grow_in_place<B: IsolationBackend>(
        &mut self,
        backend: &B,
        mapping: &Mapping,
        part: &Mapping,
        new_length: u64,
    ) -> Result<bool, Errno> {
        let Some(grown) = GuestRange::new(part.start(), new_length) else { return Ok(false) };
        let Some(tail) = GuestRange::from_bounds(part.end(), grown.end()) else { return Ok(false) };
        let has_room = part.end() == mapping.end()
            && self.usable.encloses(grown)
            && self.mappings.is_free_for_placement(tail);
        if !has_room {
            return Ok(false);
        }
        let private_memory = MappingFlags::SHARED | MappingFlags::ANONYMOUS;
        if part.flags & private_memory == MappingFlags::ANONYMOUS {
            let grown_part = Mapping { range: tail, ..*part };
            self.place(
                backend,
                grown_part,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | self.future_flags,
                -1,
                0,
            )?;
            return Ok(true);
        }
        // Only the kernel knows the file: it extends, once what reserves the space after the mapping is gone.
        let from = self.host(backend, part.range)?;
        let tail = self.host(backend, tail)?;
        self.forget(backend, part.range);
        host::unmap(tail)?;
        let resized = host::remap(from, new_length as usize, 0, HostAddr(0));
        if resized.is_err() {
            host::release(tail)?;
            self.record(backend, *part)?;
            return Ok(false);
        }
        self.record(backend, Mapping { range: grown, ..*part })?;
        Ok(true)
    }

    /// Moves `part` elsewhere, leaving behind what the flags say.
    fn relocate<B: IsolationBackend>(
        &mut self,
        backend: &B,
        request: &RemapRequest,
        part: &Mapping,
        new_length: u64,
    ) -> Result<GuestAddr, Errno> {
        let placement = match request {
            _ if request.has(libc::MREMAP_FIXED) => Placement::Fixed(request.new_start),
            _ if request.has(libc::MREMAP_DONTUNMAP) => Placement::Hint(request.new_start),
            _ => Placement::Anywhere,
        };
        let target = self.choose(placement, new_length)?;
        self.remove(backend, target)?;
        // A fixed shrinking move drops the surplus of the old mapping first (mremap_to).
        let moved = GuestRange::new(part.start(), part.range.len().min(new_length)).ok_or(Errno::EINVAL)?;
        if let Some(surplus) = GuestRange::from_bounds(moved.end(), part.end()).filter(|r| !r.is_empty()) {
            self.remove(backend, surplus)?;
        }
        let left_behind = self.forget(backend, moved);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | request.flags & libc::MREMAP_DONTUNMAP;
        let from = self.host(backend, moved)?;
        let result = host::remap(from, new_length as usize, flags, self.host(backend, target)?.start);
        if let Err(errno) = result {
            // The kernel may have unmapped the target already: reserve it again.
            host::release(self.host(backend, target)?)?;
            left_behind.into_iter().try_for_each(|mapping| self.record(backend, mapping))?;
            return Err(errno);
        }
        let keeps_old = request.has(libc::MREMAP_DONTUNMAP);
        if keeps_old {
            left_behind.into_iter().try_for_each(|mapping| self.record(backend, mapping))?;
        } else if !moved.is_empty() {
            host::release(from)?;
        }
        self.record(backend, Mapping { range: target, ..*part })?;
        Ok(target.start())
    }
}

/// The request's old range and new length in whole pages (mm/mremap.c, `check_mremap_params`).
fn check_request(request: &RemapRequest) -> Result<(GuestRange, u64), Errno> {
    let bounded = |length: u64| MemoryMap::pages(GuestAddr(0), length).map(GuestRange::len);
    let old_length = bounded(request.old_length).ok_or(Errno::EINVAL)?;
    let new_length =
        bounded(request.new_length).filter(|&length| length <= place::ADDRESS_END).ok_or(Errno::EINVAL)?;
    if request.flags & !KNOWN_FLAGS != 0 || !request.old_start.is_page_aligned() || new_length == 0 {
        return Err(Errno::EINVAL);
    }
    let old = GuestRange::new(request.old_start, old_length).ok_or(Errno::EINVAL)?;
    Ok((old, new_length))
}

fn check_target(request: &RemapRequest, old: GuestRange, new_length: u64) -> Result<(), Errno> {
    let target = GuestRange::new(request.new_start, new_length).filter(|t| t.end().0 <= place::ADDRESS_END);
    let target = target.filter(|t| t.start().is_page_aligned()).ok_or(Errno::EINVAL)?;
    let resizes_and_stays = request.has(libc::MREMAP_DONTUNMAP) && old.len() != new_length;
    if !request.has(libc::MREMAP_MAYMOVE) || resizes_and_stays || target.overlaps(old) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

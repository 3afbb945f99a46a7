//! System V shared memory segments (ipc/shm.c), attached where the window has room.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, IsolationBackend, PAGE_SIZE, Rights};

use super::{Label, Mapping, MappingFlags, MemoryMap, Placement, host};
use crate::errno::Errno;

impl MemoryMap {
    /// `shmat`: with `SHM_RND` an address is rounded down, with `SHM_REMAP` what is there is replaced.
    pub fn attach<B: IsolationBackend>(
        &mut self,
        backend: &B,
        id: i32,
        start: GuestAddr,
        flags: libc::c_int,
    ) -> Result<GuestRange, Errno> {
        let has = |flag| flags & flag != 0;
        let start = if has(libc::SHM_RND) { start.page_start() } else { start };
        let placement = match start {
            GuestAddr(0) if has(libc::SHM_REMAP) => return Err(Errno::EINVAL),
            GuestAddr(0) => Placement::Anywhere,
            _ if has(libc::SHM_REMAP) => Placement::Fixed(start),
            _ => Placement::FixedNoReplace(start),
        };
        let length = host::segment_length(id)?.div_ceil(PAGE_SIZE) * PAGE_SIZE;
        let range = self.choose(placement, length).map_err(|_| Errno::EINVAL)?;
        self.check_limits(length - self.mapped_bytes(range), false)?;
        let mut rights = Rights::READ;
        rights.set(Rights::WRITE, !has(libc::SHM_RDONLY));
        rights.set(Rights::EXECUTE, has(libc::SHM_EXEC));
        let replaced = self.forget(backend, range);
        let at = self.host(backend, range)?;
        let host_flags = flags & libc::SHM_RDONLY;
        if let Err(errno) = host::attach(at, id, host_flags) {
            replaced.into_iter().try_for_each(|mapping| self.record(backend, mapping))?;
            return Err(errno);
        }
        let (max_rights, label) = (Rights::all(), Label::Guest);
        let flags = MappingFlags::SHARED | MappingFlags::ANONYMOUS;
        let mapping = Mapping { range, rights, max_rights, flags, backing: None, label };
        self.record(backend, mapping)?;
        self.segments.insert(range.start(), range.len());
        Ok(range)
    }

    /// `shmdt`: what is left of the segment attached at `start` goes away.
    pub fn detach<B: IsolationBackend>(&mut self, backend: &B, start: GuestAddr) -> Result<(), Errno> {
        let length = self.segments.remove(&start).ok_or(Errno::EINVAL)?;
        let is_segment = |m: &Mapping| m.flags.contains(MappingFlags::SHARED | MappingFlags::ANONYMOUS);
        let range = GuestRange::new(start, length).ok_or(Errno::EINVAL)?;
        let parts = self.mappings.parts(range);
        parts.iter().filter(|part| is_segment(part)).try_for_each(|part| self.remove(backend, part.range))
    }
}

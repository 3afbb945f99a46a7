//! Making mappings (`mmap`, mm/mmap.c) and unmapping them.
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, IsolationBackend, PAGE_SIZE, Rights};

use super::intervals::STACK_GUARD_GAP;
use super::{Backing, Label, Mapping, MappingFlags, MemoryMap, Placement, place};
use crate::errno::Errno;
use crate::syscall::raw;

/// Whom stores reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Nobody else.
    Private,
    /// The file, and everyone who maps it.
    Shared,
}

/// A part of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilePart {
    /// The descriptor.
    pub fd: i32,
    /// Where the part starts, in bytes: whole pages.
    pub offset: u64,
}

/// Everything that `mmap` can be told.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Where.
    pub placement: Placement,
    /// How many bytes; rounded up to pages.
    pub length: u64,
    /// What the guest may do with it.
    pub rights: Rights,
    /// Whom stores reach.
    pub sharing: Sharing,
    /// What is mapped; `None` is zeroed memory.
    pub file: Option<FilePart>,
    /// The mapping grows downwards.
    pub grows_down: bool,
    /// Further `MAP_` flags for the host: `MAP_NORESERVE`, `MAP_POPULATE`, `MAP_LOCKED`, `MAP_STACK`…
    pub host_flags: libc::c_int,
    /// Whose it is.
    pub label: Label,
}

impl MapRequest {
    /// Private, zeroed memory.
    pub fn anonymous(placement: Placement, length: u64, rights: Rights, label: Label) -> Self {
        MapRequest {
            placement,
            length,
            rights,
            sharing: Sharing::Private,
            file: None,
            grows_down: false,
            host_flags: 0,
            label,
        }
    }
}

impl MemoryMap {
    /// Maps private, zeroed memory.
    pub fn map_anonymous<B: IsolationBackend>(
        &mut self,
        backend: &B,
        placement: Placement,
        length: u64,
        rights: Rights,
        label: Label,
    ) -> Result<GuestRange, Errno> {
        self.map(backend, &MapRequest::anonymous(placement, length, rights, label))
    }

    /// Maps a part of a file privately.
    pub fn map_file<B: IsolationBackend>(
        &mut self,
        backend: &B,
        file: FilePart,
        placement: Placement,
        length: u64,
        rights: Rights,
        label: Label,
    ) -> Result<GuestRange, Errno> {
        let anonymous = MapRequest::anonymous(placement, length, rights, label);
        self.map(backend, &MapRequest { file: Some(file), ..anonymous })
    }

    /// Maps the main thread's stack at the top of the low half, and keeps a guard below it free. Nothing may have been
    /// placed there before.
    pub fn map_stack<B: IsolationBackend>(&mut self, backend: &B, length: u64) -> Result<GuestRange, Errno> {
        let rights = Rights::READ | Rights::WRITE;
        let request = MapRequest::anonymous(Placement::Low, length, rights, Label::Stack);
        // It has its full size from the start, so it never grows; but the space below it stays free all the same.
        self.map(backend, &MapRequest { grows_down: true, host_flags: libc::MAP_NORESERVE, ..request })
    }

    /// Maps what is asked for, and says where. Errors are mmap(2)'s.
    pub fn map<B: IsolationBackend>(
        &mut self,
        backend: &B,
        request: &MapRequest,
    ) -> Result<GuestRange, Errno> {
        if request.length == 0 {
            return Err(Errno::EINVAL);
        }
        let length = MemoryMap::pages(GuestAddr(0), request.length).ok_or(Errno::ENOMEM)?.len();
        if let Some(file) = request.file {
            check_offset(file.offset, length)?;
        }
        let range = self.choose_for(request, length)?;
        let mut mapping = Mapping {
            range,
            rights: request.rights,
            max_rights: Rights::all(),
            flags: MappingFlags::empty(),
            backing: None,
            label: request.label,
        };
        mapping.flags.set(MappingFlags::SHARED, request.sharing == Sharing::Shared);
        mapping.flags.set(MappingFlags::ANONYMOUS, request.file.is_none());
        mapping.flags.set(MappingFlags::GROWS_DOWN, request.grows_down);
        if let Some(file) = request.file {
            describe_file(&mut mapping, file)?;
        }
        mapping.range = self.place_of_library(&mapping, request).unwrap_or(range);
        let range = mapping.range;
        self.check_limits(length - self.mapped_bytes(range), mapping.is_data())?;
        let sharing = match request.sharing {
            Sharing::Private => libc::MAP_PRIVATE,
            Sharing::Shared => libc::MAP_SHARED,
        };
        let anonymous = if request.file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
        let host_flags = sharing | anonymous | request.host_flags | self.future_flags;
        let file = request.file.unwrap_or(FilePart { fd: -1, offset: 0 });
        self.place(backend, mapping, host_flags, file.fd, file.offset)?;
        Ok(range)
    }

    /// Where a mapping goes; one that grows downwards goes where it can, if there is such a place.
    fn choose_for(&self, request: &MapRequest, length: u64) -> Result<GuestRange, Errno> {
        if request.grows_down
            && request.placement == Placement::Anywhere
            && let Some(longer) = length.checked_add(STACK_GUARD_GAP)
            && let Ok(with_room) = self.choose(Placement::Anywhere, longer)
            && let Some(range) = GuestRange::new(GuestAddr(with_room.start().0 + STACK_GUARD_GAP), length)
        {
            return Ok(range);
        }
        self.choose(request.placement, length)
    }

    /// The place that a file's code has among the libraries, if it has one and it is free.
    pub fn library_place(&self, device: u64, inode: u64, length: u64) -> Option<GuestRange> {
        self.scatter.as_ref()?.place(device, inode, length, &self.mappings)
    }

    /// Where the first mapping of a library goes: that which its loader makes to reserve the place of all of it.
    fn place_of_library(&self, mapping: &Mapping, request: &MapRequest) -> Option<GuestRange> {
        let (backing, file) = (mapping.backing.as_ref()?, request.file?);
        let may_be_library = self.scatter.is_some()
            && request.placement == Placement::Anywhere
            && file.offset == 0
            && request.sharing == Sharing::Private
            && !mapping.rights.contains(Rights::WRITE)
            && is_library(file.fd);
        may_be_library.then(|| self.library_place(backing.device, backing.inode, mapping.range.len()))?
    }

    /// Unmaps. Errors are munmap(2)'s; holes in the range are none.
    pub fn unmap<B: IsolationBackend>(
        &mut self,
        backend: &B,
        start: GuestAddr,
        length: u64,
    ) -> Result<(), Errno> {
        if !start.is_page_aligned() || length == 0 {
            return Err(Errno::EINVAL);
        }
        let range = MemoryMap::pages(start, length).filter(|range| !range.is_empty()).ok_or(Errno::EINVAL)?;
        if range.end().0 > place::ADDRESS_END {
            return Err(Errno::EINVAL);
        }
        self.remove(backend, range)
    }
}

/// What mm/mmap.c `ksys_mmap_pgoff` and `do_mmap` say about an offset.
fn check_offset(offset: u64, length: u64) -> Result<(), Errno> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if offset.checked_add(length).is_none() { Err(Errno::EOVERFLOW) } else { Ok(()) }
}

/// Whether an open file begins as an ELF file that can be placed anywhere does (`ET_DYN`).
fn is_library(fd: i32) -> bool {
    const MAGIC: &[u8] = b"\x7fELF";
    const DYNAMIC: u16 = 3;
    let mut head = [0; 18];
    raw::pread(fd, &mut head, 0).is_ok_and(|count| {
        count == head.len() && head.starts_with(MAGIC) && u16::from_le_bytes([head[16], head[17]]) == DYNAMIC
    })
}

/// Enters what file it is, and to what its rights may be raised.
///
/// The kernel checks the rights of the descriptor itself when it maps; what it cannot check is execution where guest
/// pages are never executable, so that is done here (mm/mmap.c: `path_noexec`).
fn describe_file(mapping: &mut Mapping, file: FilePart) -> Result<(), Errno> {
    let status = raw::fstat(file.fd)?;
    let is_noexec = raw::mount_flags(file.fd)? & libc::ST_NOEXEC != 0;
    if is_noexec {
        if mapping.rights.contains(Rights::EXECUTE) {
            return Err(Errno::EPERM);
        }
        mapping.max_rights.remove(Rights::EXECUTE);
    }
    let is_shared = mapping.flags.contains(MappingFlags::SHARED);
    if is_shared && raw::access_mode(file.fd)? == libc::O_RDONLY {
        mapping.max_rights.remove(Rights::WRITE);
    }
    mapping.backing = Some(Backing {
        device: status.st_dev,
        inode: status.st_ino,
        offset: file.offset,
        length: status.st_size as u64,
        modified: (status.st_mtime, status.st_mtime_nsec),
        changed: (status.st_ctime, status.st_ctime_nsec),
    });
    Ok(())
}

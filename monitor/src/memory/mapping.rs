//! One mapping: a run of pages that came from the same place with the same rights.
#![deny(unsafe_code)]

use endo_core::{CodeOrigin, CodeSource, GuestAddr, GuestRange, Rights};

bitflags::bitflags! {
    /// What a mapping is, besides its rights.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MappingFlags: u8 {
        /// Stores reach the file, or whoever else maps the same anonymous object.
        const SHARED = 1;
        /// It has no file.
        const ANONYMOUS = 2;
        /// It grows downwards when touched below its start (`MAP_GROWSDOWN`).
        const GROWS_DOWN = 4;
        /// A forked child does not get it (`MADV_DONTFORK`).
        const NO_FORK = 8;
    }
}

/// Whose a mapping is, and what `/proc/self/maps` calls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Label {
    /// The program's own doing.
    #[default]
    Guest,
    /// The program's image.
    Program,
    /// The image of its dynamic linker.
    Interpreter,
    /// What `brk` manages.
    Heap,
    /// The main thread's stack.
    Stack,
    /// The code of the vDSO.
    Vdso,
    /// The data of the vDSO.
    Vvar,
}

impl Label {
    /// The name that the kernel would print for a mapping without a file.
    pub const fn maps_name(self) -> &'static str {
        match self {
            Label::Heap => "[heap]",
            Label::Stack => "[stack]",
            Label::Vdso => "[vdso]",
            Label::Vvar => "[vvar]",
            Label::Guest | Label::Program | Label::Interpreter => "",
        }
    }
}

/// Which part of which file a mapping shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backing {
    /// The file's device.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// Offset of the mapping's first byte in the file, in bytes.
    pub offset: u64,
    /// The file's length when it was mapped, in bytes.
    pub length: u64,
    /// When its contents had changed last: seconds, nanoseconds.
    pub modified: (i64, i64),
    /// When its inode had changed last.
    pub changed: (i64, i64),
}

/// A run of pages with one origin and one set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Where it lies; whole pages, never empty.
    pub range: GuestRange,
    /// The rights that the guest asked for. See [`Mapping::effective_rights`].
    pub rights: Rights,
    /// What `mprotect` may raise the rights to.
    pub max_rights: Rights,
    /// What it is besides.
    pub flags: MappingFlags,
    /// The file behind it, and where in the file it starts.
    pub backing: Option<Backing>,
    /// Whose it is.
    pub label: Label,
}

impl Mapping {
    /// The rights that the hardware gives when these are asked for: x86 pages that may be written or run may be read.
    pub fn effective(rights: Rights) -> Rights {
        if rights.intersects(Rights::WRITE | Rights::EXECUTE) { rights | Rights::READ } else { rights }
    }

    /// The rights that the guest really has.
    pub fn effective_rights(&self) -> Rights {
        Self::effective(self.rights)
    }

    /// First address.
    pub fn start(&self) -> GuestAddr {
        self.range.start()
    }

    /// First address past it.
    pub fn end(&self) -> GuestAddr {
        self.range.end()
    }

    /// Who else could change its bytes.
    pub fn code_source(&self) -> CodeSource {
        if self.flags.contains(MappingFlags::SHARED) { CodeSource::Shared } else { CodeSource::Private }
    }

    /// The file that it shows, and where that would begin.
    pub fn origin(&self) -> Option<CodeOrigin> {
        self.backing.map(|backing| CodeOrigin {
            device: backing.device,
            inode: backing.inode,
            length: backing.length,
            modified: backing.modified,
            changed: backing.changed,
            base: self.start().0.wrapping_sub(backing.offset),
        })
    }

    /// Whether it counts against `RLIMIT_DATA`: private, writable, not a stack (mm/mmap.c, `is_data_mapping`).
    pub fn is_data(&self) -> bool {
        self.rights.contains(Rights::WRITE)
            && !self.flags.intersects(MappingFlags::SHARED | MappingFlags::GROWS_DOWN)
            && self.label != Label::Stack
    }

    /// The part of it that lies in `range`, which must share a byte with it.
    pub fn part(&self, range: GuestRange) -> Mapping {
        let range = self.range.intersect(range).expect("the caller asks for a part that exists");
        Mapping { range, backing: self.backing_at(range.start()), ..*self }
    }

    /// Whether `next`, which starts where this one ends, continues it.
    pub fn continues_into(&self, next: &Mapping) -> bool {
        let is_shared_object = self.flags.contains(MappingFlags::SHARED | MappingFlags::ANONYMOUS);
        self.end() == next.start()
            && self.rights == next.rights
            && self.max_rights == next.max_rights
            && self.flags == next.flags
            && self.label == next.label
            && self.backing_at(self.end()) == next.backing
            && !is_shared_object
    }

    fn backing_at(&self, addr: GuestAddr) -> Option<Backing> {
        self.backing.map(|backing| Backing { offset: backing.offset + (addr.0 - self.start().0), ..backing })
    }
}

//! Program files: what the loader takes from an ELF file's headers, read from bytes that nobody vouches for.
//!
//! The rules are those of fs/binfmt_elf.c. Pure: the bytes come through [`Bytes`].

use std::io;

use endo_core::{PAGE_SIZE, Rights};
use goblin::elf64::{header, program_header};

use super::arch;

/// A file, or what stands for one in a test.
pub trait Bytes {
    /// Fills `buffer` from `offset` and says how many bytes there were: fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Bytes in the file.
    fn length(&self) -> u64;
}

impl Bytes for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

/// Where a program wants to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// At the addresses in its headers (`ET_EXEC`).
    Fixed,
    /// Anywhere (`ET_DYN`).
    Anywhere,
}

/// A `PT_LOAD` entry. `file_bytes <= memory_bytes`, `address + memory_bytes` and `offset + file_bytes` do not wrap, the
/// file holds all of `file_bytes`, and `address` and `offset` agree modulo the page size unless `file_bytes` is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it begins, before the program is moved.
    pub address: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of the file; the rest is zero.
    pub file_bytes: u64,
    /// What the program may do there.
    pub rights: Rights,
    /// Wanted alignment: a power of two, at least 1.
    pub alignment: u64,
}

impl Segment {
    /// First address past the segment.
    pub const fn end(&self) -> u64 {
        self.address + self.memory_bytes
    }
}

/// What the loader needs to know of a program file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Whether it can be moved.
    pub placement: Placement,
    /// Where it begins to run, before it is moved.
    pub entry: u64,
    /// Where its program headers lie in memory, before it is moved, if a segment holds them.
    pub headers_address: Option<u64>,
    /// How many program headers it has.
    pub header_count: u16,
    /// What is to be mapped, in the order of the headers; at least one.
    pub segments: Vec<Segment>,
    /// The program that has to be started in its place (`PT_INTERP`), without the NUL.
    pub interpreter: Option<Vec<u8>>,
    /// Whether it asks for an executable stack (`PT_GNU_STACK`), if it says. Recorded, not granted.
    pub executable_stack: Option<bool>,
}

/// Why a file is no program that can run here.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each of them is")]
pub enum ElfError {
    #[error("not an ELF file")]
    NotElf,
    #[error("a 32-bit ELF file for {}; only 64-bit {} programs run here", machine_name(*.machine), machine_name(arch::MACHINE))]
    Class32 { machine: u16 },
    #[error("an ELF file for {}; this is {}", machine_name(*.found), machine_name(arch::MACHINE))]
    WrongMachine { found: u16 },
    #[error("a big-endian ELF file; this machine is little-endian")]
    BigEndian,
    #[error("an ELF file of unknown class {class}")]
    UnknownClass { class: u8 },
    #[error("{}, not a program", file_type_name(*.file_type))]
    NotAProgram { file_type: u16 },
    #[error("truncated ELF file: {what} ends at byte {end}, the file has {length}")]
    Truncated { what: &'static str, end: u128, length: u64 },
    #[error("corrupt ELF file: program headers of {size} bytes instead of {}", program_header::SIZEOF_PHDR)]
    HeaderSize { size: u16 },
    #[error("corrupt ELF file: {count} program headers")]
    HeaderCount { count: u16 },
    #[error(
        "corrupt ELF file: a segment takes {file_bytes:#x} bytes from the file and {memory_bytes:#x} of memory"
    )]
    FileExceedsMemory { file_bytes: u64, memory_bytes: u64 },
    #[error(
        "corrupt ELF file: a segment at address {address:#x} lies at file offset {offset:#x}, not the same page offset"
    )]
    Misaligned { address: u64, offset: u64 },
    #[error(
        "corrupt ELF file: a segment of {memory_bytes:#x} bytes at {address:#x} ends past the address space"
    )]
    Wraps { address: u64, memory_bytes: u64 },
    #[error("corrupt ELF file: nothing to load")]
    NothingToLoad,
    #[error("corrupt ELF file: the name of its interpreter is not a path")]
    BadInterpreterName,
    #[error("read error: {0}")]
    Read(#[from] io::Error),
}

impl ElfError {
    /// The errno that execve(2) fails with, as the kernel chooses it.
    pub fn errno(&self) -> crate::errno::Errno {
        use crate::errno::Errno;
        match self {
            ElfError::FileExceedsMemory { .. }
            | ElfError::Misaligned { .. }
            | ElfError::Wraps { .. }
            | ElfError::NothingToLoad => Errno::EINVAL,
            ElfError::Read(error) => error.raw_os_error().map_or(Errno::EIO, Errno),
            _ => Errno::ENOEXEC,
        }
    }
}

const HEADER_LENGTH: usize = header::SIZEOF_EHDR;
const PROGRAM_HEADER_LENGTH: usize = program_header::SIZEOF_PHDR;
/// Program headers take at most this many bytes (load_elf_phdrs).
const MAX_PROGRAM_HEADERS: usize = 65536;
const MAX_INTERPRETER_NAME: u64 = libc::PATH_MAX as u64;

impl Image {
    /// Reads the headers.
    pub fn parse(file: &(impl Bytes + ?Sized)) -> Result<Image, ElfError> {
        let mut buffer = [0; HEADER_LENGTH];
        let length = file.read_at(0, &mut buffer)?;
        let elf = Fields(&buffer);
        let placement = check_kind(elf, length)?;
        let (headers_offset, header_count) = (elf.u64(0x20), elf.u16(0x38));
        let table = read_headers(file, headers_offset, elf.u16(0x36), header_count)?;

        let mut image = Image {
            placement,
            entry: elf.u64(0x18),
            headers_address: None,
            header_count,
            segments: Vec::with_capacity(8),
            interpreter: None,
            executable_stack: None,
        };
        for entry in table.chunks_exact(PROGRAM_HEADER_LENGTH).map(Fields) {
            match entry.u32(0) {
                program_header::PT_LOAD => {
                    let segment = read_segment(entry, file.length())?;
                    if headers_offset.wrapping_sub(segment.offset) < segment.file_bytes {
                        image.headers_address =
                            Some((headers_offset - segment.offset).wrapping_add(segment.address));
                    }
                    image.segments.push(segment);
                }
                program_header::PT_INTERP if image.interpreter.is_none() => {
                    image.interpreter = Some(read_interpreter_name(file, entry.u64(0x08), entry.u64(0x20))?);
                }
                program_header::PT_GNU_STACK => {
                    image.executable_stack = Some(entry.u32(4) & program_header::PF_X != 0);
                }
                _ => {}
            }
        }
        if image.segments.iter().all(|segment| segment.memory_bytes == 0) {
            return Err(ElfError::NothingToLoad);
        }
        Ok(image)
    }

    /// Lowest page and first address past the highest byte that the segments take, before the program is moved.
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(|s| s.address & !(PAGE_SIZE - 1)).min().unwrap_or(0);
        let end = self.segments.iter().map(Segment::end).max().unwrap_or(0);
        (start, end)
    }

    /// The largest alignment that a segment asks for, at least a page.
    pub fn alignment(&self) -> u64 {
        self.segments.iter().map(|s| s.alignment).max().unwrap_or(1).max(PAGE_SIZE)
    }
}

/// Little-endian fields of a header.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

fn check_kind(elf: Fields<'_>, length: usize) -> Result<Placement, ElfError> {
    if elf.bytes::<4>(0) != *header::ELFMAG {
        return Err(ElfError::NotElf);
    }
    if length < HEADER_LENGTH {
        return Err(ElfError::Truncated {
            what: "its header",
            end: HEADER_LENGTH as u128,
            length: length as u64,
        });
    }
    let machine = elf.u16(0x12);
    if elf.0[header::EI_DATA] == header::ELFDATA2MSB {
        return Err(ElfError::BigEndian);
    }
    match elf.0[header::EI_CLASS] {
        header::ELFCLASS64 => {}
        header::ELFCLASS32 => return Err(ElfError::Class32 { machine }),
        class => return Err(ElfError::UnknownClass { class }),
    }
    if machine != arch::MACHINE {
        return Err(ElfError::WrongMachine { found: machine });
    }
    match elf.u16(0x10) {
        header::ET_EXEC => Ok(Placement::Fixed),
        header::ET_DYN => Ok(Placement::Anywhere),
        file_type => Err(ElfError::NotAProgram { file_type }),
    }
}

fn read_headers(
    file: &(impl Bytes + ?Sized),
    offset: u64,
    size: u16,
    count: u16,
) -> Result<Vec<u8>, ElfError> {
    if usize::from(size) != PROGRAM_HEADER_LENGTH {
        return Err(ElfError::HeaderSize { size });
    }
    let length = PROGRAM_HEADER_LENGTH * usize::from(count);
    if length == 0 || length > MAX_PROGRAM_HEADERS {
        return Err(ElfError::HeaderCount { count });
    }
    let end = u128::from(offset) + length as u128;
    let truncated = ElfError::Truncated { what: "its program header table", end, length: file.length() };
    // Offsets are signed in system calls.
    if end > i64::MAX as u128 {
        return Err(truncated);
    }
    let mut table = vec![0; length];
    if file.read_at(offset, &mut table)? < length {
        return Err(truncated);
    }
    Ok(table)
}

fn read_segment(entry: Fields<'_>, file_length: u64) -> Result<Segment, ElfError> {
    let (offset, address) = (entry.u64(0x08), entry.u64(0x10));
    let (file_bytes, memory_bytes) = (entry.u64(0x20), entry.u64(0x28));
    let alignment = entry.u64(0x30);
    if file_bytes > memory_bytes {
        return Err(ElfError::FileExceedsMemory { file_bytes, memory_bytes });
    }
    let end = address.checked_add(memory_bytes).and_then(|end| end.checked_add(PAGE_SIZE - 1));
    if end.is_none_or(|end| end > i64::MAX as u64) {
        return Err(ElfError::Wraps { address, memory_bytes });
    }
    let end = u128::from(offset) + u128::from(file_bytes);
    if file_bytes > 0 && end > u128::from(file_length) {
        return Err(ElfError::Truncated { what: "a segment", end, length: file_length });
    }
    if file_bytes > 0 && address.wrapping_sub(offset) % PAGE_SIZE != 0 {
        return Err(ElfError::Misaligned { address, offset });
    }
    Ok(Segment {
        address,
        memory_bytes,
        offset,
        file_bytes,
        rights: segment_rights(entry.u32(4)),
        // Anything but a power of two is ignored (maximum_alignment).
        alignment: if alignment.is_power_of_two() { alignment } else { 1 },
    })
}

fn segment_rights(flags: u32) -> Rights {
    let mut rights = Rights::empty();
    rights.set(Rights::READ, flags & program_header::PF_R != 0);
    rights.set(Rights::WRITE, flags & program_header::PF_W != 0);
    rights.set(Rights::EXECUTE, flags & program_header::PF_X != 0);
    rights
}

fn read_interpreter_name(
    file: &(impl Bytes + ?Sized),
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, ElfError> {
    if !(2..=MAX_INTERPRETER_NAME).contains(&length) {
        return Err(ElfError::BadInterpreterName);
    }
    let end = u128::from(offset) + u128::from(length);
    let truncated = ElfError::Truncated { what: "the name of its interpreter", end, length: file.length() };
    if end > i64::MAX as u128 {
        return Err(truncated);
    }
    let mut name = vec![0; length as usize];
    if file.read_at(offset, &mut name)? < name.len() {
        return Err(truncated);
    }
    if name.pop() != Some(0) {
        return Err(ElfError::BadInterpreterName);
    }
    // The kernel reads it as a C string.
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    name.truncate(end);
    if name.is_empty() { Err(ElfError::BadInterpreterName) } else { Ok(name) }
}

fn machine_name(machine: u16) -> String {
    let name = match machine {
        header::EM_386 => "x86 (i386)",
        header::EM_X86_64 => "x86-64",
        header::EM_ARM => "arm",
        header::EM_AARCH64 => "aarch64",
        header::EM_RISCV => "risc-v",
        header::EM_PPC64 => "powerpc64",
        header::EM_S390 => "s390",
        header::EM_MIPS => "mips",
        header::EM_SPARCV9 => "sparc64",
        258 => "loongarch",
        _ => return format!("machine type {machine}"),
    };
    name.to_owned()
}

fn file_type_name(file_type: u16) -> String {
    match file_type {
        header::ET_REL => "an ELF object file".to_owned(),
        header::ET_CORE => "an ELF core dump".to_owned(),
        _ => format!("an ELF file of type {file_type}"),
    }
}

#[cfg(test)]
mod tests;

//! The synthetic vDSO: a shared object in the guest's memory whose functions are system calls.
//!
//! C libraries find it through `AT_SYSINFO_EHDR` and call it for the time. The kernel's own cannot be used: its data
//! pages lie where no guest can read them. Each function here makes the system call instead; the backend's fast path
//! answers that by a call into the host's own vDSO, so the price is a gate and not a kernel entry.
//!
//! One page holds everything, laid out at compile time: the headers, a dynamic section with both kinds of hash table
//! (Go and musl read either), symbols of one version, unwind information, and the stubs.

use goblin::elf64::{dynamic, header, program_header, section_header, sym};

use super::arch::{self, VDSO_FUNCTIONS, VDSO_STUB_LENGTH, VDSO_VERSION};

/// Bytes of the image: a page.
pub const LENGTH: usize = endo_core::PAGE_SIZE as usize;

/// The image. It is position-independent and never written to.
pub static IMAGE: [u8; LENGTH] = build();

const SONAME: &str = "linux-vdso.so.1";

const COUNT: usize = VDSO_FUNCTIONS.len();
/// The null symbol and the functions.
const SYMBOLS: usize = COUNT + 1;
const PROGRAM_HEADERS: usize = 3;
const DYNAMIC_ENTRIES: usize = 11;

const PROGRAM_HEADERS_AT: usize = header::SIZEOF_EHDR;
const DYNAMIC_AT: usize = PROGRAM_HEADERS_AT + PROGRAM_HEADERS * program_header::SIZEOF_PHDR;
const SYMBOLS_AT: usize = DYNAMIC_AT + DYNAMIC_ENTRIES * 16;
const HASH_AT: usize = SYMBOLS_AT + SYMBOLS * sym::SIZEOF_SYM;
/// `nbucket`, `nchain`, one bucket, one chain link a symbol.
const GNU_HASH_AT: usize = align(HASH_AT + (2 + 1 + SYMBOLS) * 4, 8);
/// Four words, a Bloom filter of 64 bits, one bucket, one hash a function.
const VERSIONS_AT: usize = GNU_HASH_AT + 16 + 8 + 4 + COUNT * 4;
const VERSION_DEFINITIONS_AT: usize = align(VERSIONS_AT + SYMBOLS * 2, 4);
/// Two definitions, each with one name.
const UNWIND_HEADER_AT: usize = align(VERSION_DEFINITIONS_AT + 2 * (20 + 8), 4);
const UNWIND_AT: usize = align(UNWIND_HEADER_AT + 20, 8);
const STRINGS_AT: usize = UNWIND_AT + 24 + 24 + 4;
const CODE_AT: usize = 0x800;

const fn align(value: usize, to: usize) -> usize {
    value.next_multiple_of(to)
}

/// The image while it is laid out.
struct Image {
    bytes: [u8; LENGTH],
    /// Where the next string goes.
    strings_end: usize,
}

impl Image {
    const fn put(&mut self, at: usize, bytes: &[u8]) {
        let mut i = 0;
        while i < bytes.len() {
            self.bytes[at + i] = bytes[i];
            i += 1;
        }
    }

    const fn put_u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    const fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    const fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Adds a string and gives its offset in the string table.
    const fn add_string(&mut self, string: &str) -> u32 {
        let at = self.strings_end;
        self.put(at, string.as_bytes());
        self.strings_end = at + string.len() + 1;
        assert!(self.strings_end <= CODE_AT, "the tables run into the code");
        (at - STRINGS_AT) as u32
    }
}

const fn build() -> [u8; LENGTH] {
    let mut image = Image { bytes: [0; LENGTH], strings_end: STRINGS_AT + 1 };
    put_header(&mut image);
    let soname = image.add_string(SONAME);
    let version = image.add_string(VDSO_VERSION);
    put_functions(&mut image);
    put_hash(&mut image);
    put_gnu_hash(&mut image);
    put_versions(&mut image, soname, version);
    put_unwind(&mut image);
    put_dynamic(&mut image, soname);
    image.bytes
}

const fn put_header(image: &mut Image) {
    image.put(0, header::ELFMAG);
    let identity =
        [header::ELFCLASS64, header::ELFDATA2LSB, header::EV_CURRENT, goblin::elf::header::ELFOSABI_NONE];
    image.put(header::EI_CLASS, &identity);
    image.put_u16(0x10, header::ET_DYN);
    image.put_u16(0x12, arch::MACHINE);
    image.put_u32(0x14, header::EV_CURRENT as u32);
    image.put_u64(0x18, CODE_AT as u64);
    image.put_u64(0x20, PROGRAM_HEADERS_AT as u64);
    image.put_u16(0x34, header::SIZEOF_EHDR as u16);
    image.put_u16(0x36, program_header::SIZEOF_PHDR as u16);
    image.put_u16(0x38, PROGRAM_HEADERS as u16);

    let code_end = CODE_AT + COUNT * VDSO_STUB_LENGTH;
    let readable = program_header::PF_R;
    let executable = readable | program_header::PF_X;
    put_program_header(image, 0, program_header::PT_LOAD, executable, 0, code_end);
    put_program_header(image, 1, program_header::PT_DYNAMIC, readable, DYNAMIC_AT, DYNAMIC_ENTRIES * 16);
    put_program_header(image, 2, program_header::PT_GNU_EH_FRAME, readable, UNWIND_HEADER_AT, 20);
}

const fn put_program_header(
    image: &mut Image,
    index: usize,
    kind: u32,
    flags: u32,
    start: usize,
    length: usize,
) {
    let at = PROGRAM_HEADERS_AT + index * program_header::SIZEOF_PHDR;
    image.put_u32(at, kind);
    image.put_u32(at + 4, flags);
    image.put_u64(at + 8, start as u64);
    image.put_u64(at + 16, start as u64);
    image.put_u64(at + 24, start as u64);
    image.put_u64(at + 32, length as u64);
    image.put_u64(at + 40, length as u64);
    image.put_u64(at + 48, if kind == program_header::PT_LOAD { LENGTH as u64 } else { 8 });
}

/// Symbols 1 and up, and the code that they name.
const fn put_functions(image: &mut Image) {
    let mut i = 0;
    while i < COUNT {
        let function = &VDSO_FUNCTIONS[i];
        let code = CODE_AT + i * VDSO_STUB_LENGTH;
        image.put(code, &arch::vdso_stub(function.number));
        let name = image.add_string(function.name);
        let at = SYMBOLS_AT + (i + 1) * sym::SIZEOF_SYM;
        image.put_u32(at, name);
        image.bytes[at + 4] = sym::STB_GLOBAL << 4 | sym::STT_FUNC;
        // No section header says which section it is; anything but "undefined" will do.
        image.put_u16(at + 6, section_header::SHN_ABS as u16 - 1);
        image.put_u64(at + 8, code as u64);
        image.put_u64(at + 16, VDSO_STUB_LENGTH as u64);
        i += 1;
    }
}

/// The System V hash table, with a single bucket: all symbols in one chain.
const fn put_hash(image: &mut Image) {
    image.put_u32(HASH_AT, 1);
    image.put_u32(HASH_AT + 4, SYMBOLS as u32);
    image.put_u32(HASH_AT + 8, 1);
    let mut symbol = 1;
    while symbol < SYMBOLS {
        let next = if symbol + 1 < SYMBOLS { symbol + 1 } else { 0 };
        image.put_u32(HASH_AT + 12 + symbol * 4, next as u32);
        symbol += 1;
    }
}

/// The GNU hash table, with a single bucket and a Bloom filter that passes everything.
const fn put_gnu_hash(image: &mut Image) {
    image.put_u32(GNU_HASH_AT, 1);
    image.put_u32(GNU_HASH_AT + 4, 1);
    image.put_u32(GNU_HASH_AT + 8, 1);
    image.put_u32(GNU_HASH_AT + 12, 0);
    image.put_u64(GNU_HASH_AT + 16, u64::MAX);
    image.put_u32(GNU_HASH_AT + 24, 1);
    let mut i = 0;
    while i < COUNT {
        let last = (i + 1 == COUNT) as u32;
        let hash = gnu_hash(VDSO_FUNCTIONS[i].name);
        image.put_u32(GNU_HASH_AT + 28 + i * 4, hash & !1 | last);
        i += 1;
    }
}

/// Definition 1 is the object's own name, definition 2 the version of all functions.
const fn put_versions(image: &mut Image, soname: u32, version: u32) {
    let mut symbol = 1;
    while symbol < SYMBOLS {
        image.put_u16(VERSIONS_AT + symbol * 2, 2);
        symbol += 1;
    }
    const BASE: u16 = 1;
    put_version_definition(image, VERSION_DEFINITIONS_AT, BASE, 1, (SONAME, soname), 28);
    put_version_definition(image, VERSION_DEFINITIONS_AT + 28, 0, 2, (VDSO_VERSION, version), 0);
}

const fn put_version_definition(
    image: &mut Image,
    at: usize,
    flags: u16,
    index: u16,
    name: (&str, u32),
    next: u32,
) {
    image.put_u16(at, 1);
    image.put_u16(at + 2, flags);
    image.put_u16(at + 4, index);
    image.put_u16(at + 6, 1);
    image.put_u32(at + 8, elf_hash(name.0));
    image.put_u32(at + 12, 20);
    image.put_u32(at + 16, next);
    image.put_u32(at + 20, name.1);
}

/// `.eh_frame_hdr` and `.eh_frame` for all stubs at once: each is a leaf that pushes nothing (LSB core, 10.6).
const fn put_unwind(image: &mut Image) {
    const PCREL_SDATA4: u8 = 0x1b;
    const UDATA4: u8 = 0x03;
    const DATAREL_SDATA4: u8 = 0x3b;
    let frame = UNWIND_AT + 24;
    image.put(UNWIND_HEADER_AT, &[1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4]);
    image.put_u32(UNWIND_HEADER_AT + 4, (UNWIND_AT - (UNWIND_HEADER_AT + 4)) as u32);
    image.put_u32(UNWIND_HEADER_AT + 8, 1);
    image.put_u32(UNWIND_HEADER_AT + 12, (CODE_AT - UNWIND_HEADER_AT) as u32);
    image.put_u32(UNWIND_HEADER_AT + 16, (frame - UNWIND_HEADER_AT) as u32);

    // The common entry: version 1, augmentation "zR", code and data alignment, return address, pointer encoding.
    image.put_u32(UNWIND_AT, 20);
    image.put(UNWIND_AT + 8, &[1, b'z', b'R', 0, 1, 0x78, arch::RETURN_ADDRESS, 1, PCREL_SDATA4]);
    image.put(UNWIND_AT + 17, arch::UNWIND_RULES);

    // The one description: how far back the common entry is, start and length of the code, no augmentation data.
    image.put_u32(frame, 20);
    image.put_u32(frame + 4, (frame + 4 - UNWIND_AT) as u32);
    image.put_u32(frame + 8, (CODE_AT - (frame + 8)) as u32);
    image.put_u32(frame + 12, (COUNT * VDSO_STUB_LENGTH) as u32);
    // The four zero bytes after it end the table.
}

const fn put_dynamic(image: &mut Image, soname: u32) {
    let entries = [
        (dynamic::DT_SONAME, soname as usize),
        (dynamic::DT_HASH, HASH_AT),
        (dynamic::DT_GNU_HASH, GNU_HASH_AT),
        (dynamic::DT_STRTAB, STRINGS_AT),
        (dynamic::DT_SYMTAB, SYMBOLS_AT),
        (dynamic::DT_STRSZ, image.strings_end - STRINGS_AT),
        (dynamic::DT_SYMENT, sym::SIZEOF_SYM),
        (dynamic::DT_VERSYM, VERSIONS_AT),
        (dynamic::DT_VERDEF, VERSION_DEFINITIONS_AT),
        (dynamic::DT_VERDEFNUM, 2),
        (dynamic::DT_NULL, 0),
    ];
    assert!(entries.len() == DYNAMIC_ENTRIES, "count the entries");
    let mut i = 0;
    while i < entries.len() {
        image.put_u64(DYNAMIC_AT + i * 16, entries[i].0);
        image.put_u64(DYNAMIC_AT + i * 16 + 8, entries[i].1 as u64);
        i += 1;
    }
}

/// The System V ABI's hash of a name (gABI, "Hash Table").
const fn elf_hash(name: &str) -> u32 {
    let name = name.as_bytes();
    let mut hash = 0_u32;
    let mut i = 0;
    while i < name.len() {
        hash = (hash << 4).wrapping_add(name[i] as u32);
        hash ^= (hash >> 24) & 0xf0;
        hash &= 0x0fff_ffff;
        i += 1;
    }
    hash
}

/// The hash of `DT_GNU_HASH` tables: Bernstein's, from 5381.
const fn gnu_hash(name: &str) -> u32 {
    let name = name.as_bytes();
    let mut hash = 5381_u32;
    let mut i = 0;
    while i < name.len() {
        hash = hash.wrapping_mul(33).wrapping_add(name[i] as u32);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests;

//! The host's vDSO: code of the kernel in this process that tells the time without a system call (vdso(7)).
//!
//! The kernel compiles it without vector instructions, as all its C code (arch/x86/Makefile, `-mno-sse`), so a fast path
//! may call it; a test here looks.

use goblin::elf64::{dynamic, header, program_header, sym};

/// How many functions are wanted.
pub(super) const FUNCTIONS: usize = 5;

/// Their names, in the order of `ANSWERED` in `build/plan.rs`.
#[cfg(target_arch = "x86_64")]
const NAMES: [&str; FUNCTIONS] =
    ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu", "__vdso_clock_getres"];
#[cfg(target_arch = "aarch64")]
const NAMES: [&str; FUNCTIONS] = [
    "__kernel_clock_gettime",
    "__kernel_gettimeofday",
    "__kernel_time",
    "__kernel_getcpu",
    "__kernel_clock_getres",
];

/// The addresses of the functions: 0 for one that is not there.
pub(super) fn functions() -> [usize; FUNCTIONS] {
    let Some(image) = image() else { return [0; FUNCTIONS] };
    let base = image.as_ptr() as usize;
    NAMES.map(|name| {
        Symbols::of(image).and_then(|symbols| symbols.find(name)).map_or(0, |at| base + at as usize)
    })
}

/// The whole image, as far as it is loaded.
pub(super) fn image() -> Option<&'static [u8]> {
    // SAFETY: no precondition.
    let address = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize as *const u8;
    if address.is_null() {
        return None;
    }
    // SAFETY: the kernel has mapped the image there for the life of the process; it begins with a page.
    let first_page = unsafe { core::slice::from_raw_parts(address, endo_core::PAGE_SIZE as usize) };
    let length = loaded_length(first_page)?;
    // SAFETY: the kernel maps the segment that the header describes, and nobody writes it.
    Some(unsafe { core::slice::from_raw_parts(address, length) })
}

/// The length of the segment that is loaded: there is one, and it begins with the header.
fn loaded_length(file: &[u8]) -> Option<usize> {
    let (_, segment) = segments(file).find(|&(kind, _)| kind == program_header::PT_LOAD)?;
    (segment.offset == 0).then_some(segment.length as usize)
}

struct Segment {
    offset: u64,
    address: u64,
    length: u64,
}

/// The segments that the program headers name, with their types.
fn segments(file: &[u8]) -> impl Iterator<Item = (u32, Segment)> {
    let at = u64_at(file, 0x20).unwrap_or(0);
    let count = u16_at(file, 0x38).unwrap_or(0);
    let is_elf = file.starts_with(header::ELFMAG);
    (0..u64::from(if is_elf { count } else { 0 })).map_while(move |index| {
        let at = at.checked_add(index * program_header::SIZEOF_PHDR as u64)?;
        let field = |offset| u64_at(file, at.checked_add(offset)?);
        Some((u32_at(file, at)?, Segment { offset: field(8)?, address: field(0x10)?, length: field(0x20)? }))
    })
}

/// The dynamic symbols of an image. Offsets are from its start.
struct Symbols<'a> {
    image: &'a [u8],
    symbols: u64,
    strings: u64,
    count: u64,
}

impl<'a> Symbols<'a> {
    fn of(image: &'a [u8]) -> Option<Symbols<'a>> {
        let (_, loaded) = segments(image).find(|&(kind, _)| kind == program_header::PT_LOAD)?;
        let (_, table) = segments(image).find(|&(kind, _)| kind == program_header::PT_DYNAMIC)?;
        let entry = |tag: u64| {
            let entries = (table.offset..)
                .step_by(16)
                .map_while(|at| Some((u64_at(image, at)?, u64_at(image, at + 8)?)));
            let mut entries = entries.take_while(|&(tag, _)| tag != dynamic::DT_NULL);
            let (_, value) = entries.find(|&(other, _)| other == tag)?;
            value.checked_sub(loaded.address)
        };
        let count = match (entry(dynamic::DT_HASH), entry(dynamic::DT_GNU_HASH)) {
            (Some(table), _) => u64::from(u32_at(image, table + 4)?),
            (None, Some(table)) => count_by_gnu_hash(image, table)?,
            (None, None) => return None,
        };
        Some(Symbols {
            image,
            symbols: entry(dynamic::DT_SYMTAB)?,
            strings: entry(dynamic::DT_STRTAB)?,
            count,
        })
    }

    /// The value of a defined symbol.
    fn find(&self, name: &str) -> Option<u64> {
        (0..self.count).find_map(|index| {
            let at = self.symbols + index * sym::SIZEOF_SYM as u64;
            let name_at = (self.strings + u64::from(u32_at(self.image, at)?)) as usize;
            let rest = self.image.get(name_at..)?.strip_prefix(name.as_bytes())?;
            let is_defined = u16_at(self.image, at + 6)? != 0;
            let value = u64_at(self.image, at + 8)?;
            (rest.first() == Some(&0) && is_defined && (value as usize) < self.image.len()).then_some(value)
        })
    }
}

/// The number of symbols, from the table that `DT_GNU_HASH` names: the last chain ends with the last symbol.
fn count_by_gnu_hash(image: &[u8], table: u64) -> Option<u64> {
    let word = |index: u64| u32_at(image, table + 4 * index);
    let (buckets, first, bloom_words) = (u64::from(word(0)?), u64::from(word(1)?), u64::from(word(2)?));
    let buckets_at = 4 + 2 * bloom_words;
    let last_chain = (0..buckets).map_while(|bucket| word(buckets_at + bucket)).max()?;
    if u64::from(last_chain) < first {
        return Some(first);
    }
    let chains_at = buckets_at + buckets;
    (u64::from(last_chain)..)
        .find(|symbol| word(chains_at + symbol - first).is_none_or(|hash| hash & 1 != 0))
        .map(|last| last + 1)
}

fn array_at<const N: usize>(bytes: &[u8], at: u64) -> Option<[u8; N]> {
    bytes.get(usize::try_from(at).ok()?..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: u64) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: u64) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;

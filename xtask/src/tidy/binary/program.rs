//! An executable as the check sees it: its functions and what it imports.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use goblin::elf::section_header::SHF_EXECINSTR;
use goblin::elf::{Elf, reloc, sym};

/// A function, a part of assembly from one label to the next, or an entry of the procedure linkage table.
#[derive(Debug)]
pub(super) struct Function<'a> {
    /// The symbol.
    pub(super) name: &'a str,
    /// Its bytes.
    pub(super) code: &'a [u8],
}

/// What a pointer in the executable leads to once it is loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    /// A function of another library, by name.
    Import(&'a str),
    /// An address of the executable's own.
    Own(u64),
}

/// An x86-64 executable.
#[derive(Debug, Default)]
pub(super) struct Program<'a> {
    /// By address.
    pub(super) functions: BTreeMap<u64, Function<'a>>,
    /// By the address of the pointer.
    pub(super) slots: BTreeMap<u64, Slot<'a>>,
}

impl<'a> Program<'a> {
    /// Reads an ELF file that still has its symbols.
    pub(super) fn parse(bytes: &'a [u8]) -> anyhow::Result<Program<'a>> {
        let elf = Elf::parse(bytes).context("not an ELF file")?;
        let symbols: BTreeMap<u64, sym::Sym> = elf
            .syms
            .iter()
            .filter(|symbol| matches!(symbol.st_type(), sym::STT_FUNC | sym::STT_NOTYPE))
            .filter(|symbol| {
                elf.section_headers.get(symbol.st_shndx).is_some_and(|section| is_code(section.sh_flags))
            })
            .map(|symbol| (symbol.st_value, symbol))
            .collect();
        let mut functions = BTreeMap::new();
        for (&address, symbol) in &symbols {
            let section = &elf.section_headers[symbol.st_shndx];
            let section_end = section.sh_addr + section.sh_size;
            let next =
                symbols.range(address + 1..).next().map_or(section_end, |(&next, _)| next.min(section_end));
            let size = if symbol.st_size > 0 { symbol.st_size } else { next.saturating_sub(address) };
            let offset = (address - section.sh_addr + section.sh_offset) as usize;
            let code = bytes.get(offset..offset + size as usize).context("a symbol leads out of the file")?;
            if let Some(name) = elf.strtab.get_at(symbol.st_name) {
                functions.insert(address, Function { name, code });
            }
        }
        ensure!(!functions.is_empty(), "no symbols");
        for section in elf.section_headers.iter().filter(|section| is_code(section.sh_flags)) {
            let name = elf.shdr_strtab.get_at(section.sh_name).unwrap_or_default();
            if name.starts_with(".plt") {
                let table = section
                    .file_range()
                    .and_then(|range| bytes.get(range))
                    .context("a section lies outside")?;
                // Some linkers leave the size of an entry out.
                let entry_bytes = if section.sh_entsize > 0 { section.sh_entsize as usize } else { 16 };
                let entries = (section.sh_addr..).step_by(entry_bytes).zip(table.chunks(entry_bytes));
                functions.extend(entries.map(|(address, code)| (address, Function { name, code })));
            }
        }
        Ok(Program { functions, slots: slots(&elf) })
    }

    /// The function that an address lies in, with its start.
    pub(super) fn function_at(&self, address: u64) -> Option<(u64, &Function<'a>)> {
        let (&start, function) = self.functions.range(..=address).next_back()?;
        (address < start + function.code.len() as u64).then_some((start, function))
    }
}

fn is_code(flags: u64) -> bool {
    flags & u64::from(SHF_EXECINSTR) != 0
}

fn slots<'a>(elf: &Elf<'a>) -> BTreeMap<u64, Slot<'a>> {
    let relocations = elf.dynrelas.iter().chain(elf.pltrelocs.iter());
    let slot = |relocation: reloc::Reloc| match relocation.r_type {
        reloc::R_X86_64_GLOB_DAT | reloc::R_X86_64_JUMP_SLOT | reloc::R_X86_64_64 => {
            let symbol = elf.dynsyms.get(relocation.r_sym)?;
            let import = Slot::Import(elf.dynstrtab.get_at(symbol.st_name)?);
            Some((relocation.r_offset, if symbol.is_import() { import } else { Slot::Own(symbol.st_value) }))
        }
        reloc::R_X86_64_RELATIVE => Some((relocation.r_offset, Slot::Own(relocation.r_addend? as u64))),
        _ => None,
    };
    relocations.filter_map(slot).collect()
}

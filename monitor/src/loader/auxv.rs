//! The auxiliary vector: what the kernel tells a new program about itself and the machine (getauxval(3)).

use super::{arch, host};

/// One entry: an `AT_` type and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuxEntry {
    /// `AT_…`.
    pub kind: u64,
    /// A number, or a guest address.
    pub value: u64,
}

/// Alternate stacks need this many bytes at least (include/uapi/linux/auxvec.h).
const AT_MINSIGSTKSZ: u64 = 51;

/// What depends on the program and on where it was put. Addresses are guest addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProgramFacts {
    /// Address of the synthetic vDSO.
    pub vdso: u64,
    /// Address of the program headers, 0 if they are not in memory.
    pub headers: u64,
    /// How many program headers there are.
    pub header_count: u64,
    /// Address of the dynamic linker, 0 without one.
    pub interpreter: u64,
    /// Address of the program's own first instruction.
    pub entry: u64,
}

/// What lies on the stack, as guest addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackFacts {
    /// Sixteen random bytes.
    pub random: u64,
    /// The program's path as execve(2) was given it.
    pub exec_name: u64,
    /// The platform's name.
    pub platform: u64,
}

/// What depends on the machine and on who runs the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostFacts {
    minimum_signal_stack: u64,
    hwcap: u64,
    hwcap2: u64,
    clock_ticks: u64,
    ids: [u64; 4],
}

impl HostFacts {
    /// As the kernel told this process when it was started.
    pub fn of_this_process() -> Self {
        let vector = host::auxiliary_vector();
        let get = |kind| vector.iter().find(|[k, _]| *k == kind).map_or(0, |[_, value]| *value);
        HostFacts {
            minimum_signal_stack: get(AT_MINSIGSTKSZ),
            hwcap: get(libc::AT_HWCAP),
            hwcap2: arch::offered_hwcap2(get(libc::AT_HWCAP2)),
            clock_ticks: get(libc::AT_CLKTCK),
            ids: [libc::AT_UID, libc::AT_EUID, libc::AT_GID, libc::AT_EGID].map(get),
        }
    }
}

/// How many entries [`vector`] gives, the final `AT_NULL` included.
pub const ENTRIES: usize = 21;

/// The vector, in the kernel's order (create_elf_tables in fs/binfmt_elf.c). Entries about rseq are left out: the
/// monitor offers none.
pub fn vector(host: &HostFacts, program: &ProgramFacts, stack: &StackFacts) -> [AuxEntry; ENTRIES] {
    let [uid, euid, gid, egid] = host.ids;
    [
        (libc::AT_SYSINFO_EHDR, program.vdso),
        (AT_MINSIGSTKSZ, host.minimum_signal_stack),
        (libc::AT_HWCAP, host.hwcap),
        (libc::AT_PAGESZ, endo_core::PAGE_SIZE),
        (libc::AT_CLKTCK, host.clock_ticks),
        (libc::AT_PHDR, program.headers),
        (libc::AT_PHENT, goblin::elf64::program_header::SIZEOF_PHDR as u64),
        (libc::AT_PHNUM, program.header_count),
        (libc::AT_BASE, program.interpreter),
        (libc::AT_FLAGS, 0),
        (libc::AT_ENTRY, program.entry),
        (libc::AT_UID, uid),
        (libc::AT_EUID, euid),
        (libc::AT_GID, gid),
        (libc::AT_EGID, egid),
        // Set-user-ID programs lose their privilege, so there is none to be careful with.
        (libc::AT_SECURE, 0),
        (libc::AT_RANDOM, stack.random),
        (libc::AT_HWCAP2, host.hwcap2),
        (libc::AT_EXECFN, stack.exec_name),
        (libc::AT_PLATFORM, stack.platform),
        (libc::AT_NULL, 0),
    ]
    .map(|(kind, value)| AuxEntry { kind, value })
}

impl AuxEntry {
    /// The entry as it lies in memory.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }
}

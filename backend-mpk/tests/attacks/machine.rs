//! The process as its kernel and processor see it.

use std::fs;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;

/// How the gate's page begins: it saves the callee-saved registers and the gs base.
pub(crate) const GATE_MARK: [u8; 10] = [0x55, 0x53, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57];

/// A mapping and its key.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) is_executable: bool,
    pub(crate) is_inaccessible: bool,
    pub(crate) key: u32,
}

/// All mappings, from /proc/self/smaps.
pub(crate) fn mappings() -> Vec<Mapping> {
    let text = fs::read_to_string("/proc/self/smaps").expect("the kernel shows it");
    let mut all: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let address = |text| u64::from_str_radix(text, 16).expect("an address");
            let rights = words.next().unwrap_or_default();
            all.push(Mapping {
                start: address(start),
                end: address(end),
                is_executable: rights.contains('x'),
                is_inaccessible: rights.starts_with("---"),
                key: 0,
            });
        } else if first == "ProtectionKey:" {
            let key = words.next().and_then(|key| key.parse().ok());
            all.last_mut().expect("a mapping comes first").key = key.expect("a number");
        }
    }
    all
}

/// The gate's page.
pub(crate) fn gate() -> Option<Mapping> {
    let is_gate = |mapping: &Mapping| {
        mapping.is_executable && mapping.start < 1 << 47 && bytes(mapping).starts_with(&GATE_MARK)
    };
    mappings().into_iter().find(is_gate)
}

/// Where handlers begin.
pub(crate) fn signal_entry() -> u64 {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: only asks.
    unsafe { libc::sigaction(libc::SIGSYS, std::ptr::null(), &raw mut action) };
    action.sa_sigaction as u64
}

/// What lies in a mapping that is executable.
pub(crate) fn bytes(mapping: &Mapping) -> &'static [u8] {
    let start = std::ptr::with_exposed_provenance::<u8>(mapping.start as usize);
    // SAFETY: executable mappings are readable for the host, and none goes away while a test looks at it.
    unsafe { core::slice::from_raw_parts(start, (mapping.end - mapping.start) as usize) }
}

/// Calls code as a function of the host.
pub(crate) fn call_natively(code: &[u8]) {
    let (rights, flags) =
        (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping wherever the kernel likes touches nothing that exists.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page was just mapped, and the code is shorter.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), code.len()) };
    // SAFETY: the code returns, and changes registers that a function may change.
    let function = unsafe { core::mem::transmute::<*mut libc::c_void, extern "C" fn()>(page) };
    function();
    // SAFETY: the page is ours.
    unsafe { libc::munmap(page, 4096) };
}

/// The rights of the calling thread.
pub(crate) fn read_pkru() -> u32 {
    let value;
    // SAFETY: the machine has keys, or no test comes here. Reads a register; edx becomes 0.
    unsafe {
        core::arch::asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _, options(nostack, preserves_flags));
    }
    value
}

/// A file whose contents change under its mapping.
pub(crate) struct File(fs::File);

impl File {
    /// A page that begins with these bytes.
    pub(crate) fn with(bytes: &[u8]) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("endo-mpk-{}", std::process::id()));
        let file = fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        let file = File(file);
        file.write(bytes)?;
        Ok(file)
    }

    /// Cuts it to nothing, and makes it a page that begins with these bytes.
    pub(crate) fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_len(0)?;
        self.write(bytes)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).rewind()?;
        (&self.0).write_all(bytes)?;
        self.0.set_len(4096)
    }

    /// Maps it privately over guest pages.
    pub(crate) fn map_at(&self, address: u64, length: u64) -> io::Result<()> {
        let wanted = std::ptr::with_exposed_provenance_mut::<libc::c_void>(address as usize);
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        // SAFETY: what is replaced is a guest's page.
        let mapped =
            unsafe { libc::mmap(wanted, length as usize, libc::PROT_READ, flags, self.0.as_raw_fd(), 0) };
        if mapped == wanted { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

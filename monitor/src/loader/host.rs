//! What the loader asks the kernel for, as safe functions.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::Layout;
use crate::errno::Errno;

/// This process's own auxiliary vector, as the kernel made it: types and values. The C library's `getauxval` is no
/// substitute: glibc has its own idea of `AT_HWCAP` on x86-64.
pub(super) fn auxiliary_vector() -> Vec<[u64; 2]> {
    /// `prctl` to read the vector, since Linux 6.4.
    const PR_GET_AUXV: libc::c_int = 0x4155_5856;
    let mut bytes = [0_u8; 1024];
    // SAFETY: the buffer is valid for its length.
    let length = unsafe { libc::prctl(PR_GET_AUXV, bytes.as_mut_ptr(), bytes.len(), 0, 0) };
    match usize::try_from(length) {
        Ok(length) => pairs(&bytes[..length.min(bytes.len())]),
        Err(_) => pairs(&std::fs::read("/proc/self/auxv").unwrap_or_default()),
    }
}

fn pairs(bytes: &[u8]) -> Vec<[u64; 2]> {
    let (words, _) = bytes.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().map(|pair| pair.map(u64::from_le_bytes)).collect()
}

/// Random bytes. So few come at once; if the kernel had none, addresses would merely be predictable.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "more than getrandom gives at once") };
    let mut bytes = [0; N];
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    bytes
}

/// Whether this process's personality asks for addresses that do not change (`setarch -R`).
pub(super) fn wants_fixed_addresses() -> bool {
    // SAFETY: no precondition; this argument only asks.
    let personality = unsafe { libc::personality(0xffff_ffff) };
    personality & libc::ADDR_NO_RANDOMIZE != 0
}

/// Whether an open file may be executed: its mode, its file system, and who asks. `mode` answers before Linux 5.8.
pub(super) fn may_execute(fd: RawFd, mode: u32) -> bool {
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // SAFETY: the path ends with a NUL; the call writes nothing.
    let denied = unsafe { libc::syscall(libc::SYS_faccessat2, fd, c"".as_ptr(), libc::X_OK, flags) } != 0;
    match denied.then(Errno::last) {
        None => true,
        Some(errno) => errno == Errno::ENOSYS && mode & 0o111 != 0,
    }
}

/// Names the thread after the program, as the kernel does (`begin_new_exec`).
pub(super) fn set_thread_name(exec_name: &CStr) {
    let name = exec_name.to_bytes_with_nul();
    let base = name.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    // SAFETY: what is left of the name still ends with its NUL; the kernel reads no more than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name[base..].as_ptr()) };
}

/// `struct prctl_mm_map` (include/uapi/linux/prctl.h).
#[repr(C)]
struct MemoryDescription {
    code: [u64; 2],
    data: [u64; 2],
    brk: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxiliary_vector: *const u8,
    auxiliary_vector_bytes: u32,
    executable: u32,
}

/// Tells the kernel where the guest's parts lie, so that others find the guest's command line, environment and
/// auxiliary vector in this process's /proc, and what the guest writes over them. A kernel that cannot be told (without
/// `CONFIG_CHECKPOINT_RESTORE`) goes on showing endo's. The break and the stack stay the host's.
pub(super) fn describe_process(layout: &Layout, auxiliary_vector: &[u8]) {
    const PR_SET_MM: libc::c_int = 35;
    const PR_SET_MM_MAP: libc::c_int = 14;
    // SAFETY: moving the break by nothing only asks.
    let host_break = unsafe { libc::sbrk(0) } as u64;
    let on_the_host_stack = 0_u8;
    let description = MemoryDescription {
        code: layout.code.into(),
        data: layout.data.into(),
        brk: [host_break; 2],
        stack: &raw const on_the_host_stack as u64,
        arguments: layout.arguments.into(),
        environment: layout.environment.into(),
        auxiliary_vector: auxiliary_vector.as_ptr(),
        auxiliary_vector_bytes: auxiliary_vector.len() as u32,
        executable: u32::MAX,
    };
    let size = size_of::<MemoryDescription>();
    // SAFETY: the kernel reads the structure and the vector, which live until the call returns. It uses the addresses to
    // answer reads of /proc, and the break's to bound `brk`, whose current value they are.
    unsafe { libc::prctl(PR_SET_MM, PR_SET_MM_MAP, &raw const description, size, 0) };
}

//! Restartable sequences of the host thread: the kernel writes to the C library's area of them with the guest's rights, and
//! kills the process when it cannot.

/// What glibc registers (sysdeps/unix/sysv/linux/rseq-internal.h).
const FLAG_UNREGISTER: usize = 1;
const SIGNATURE: usize = 0x5305_3053;
/// The smallest area, which is what glibc before 2.40 registers whatever `__rseq_size` says.
const SMALLEST: usize = 32;

/// Ends the calling thread's registration, if it has one. The C library then asks the kernel where it runs.
pub(super) fn unregister() {
    let Some(area) = area() else { return };
    let sizes = [SMALLEST, symbol(c"__rseq_size").unwrap_or(SMALLEST as u64) as usize & u32::MAX as usize];
    for size in sizes {
        // SAFETY: the kernel only compares; it writes to the area that it knows.
        unsafe { libc::syscall(libc::SYS_rseq, area, size, FLAG_UNREGISTER, SIGNATURE) };
    }
}

/// Where the C library has it, if it has one (glibc 2.35).
fn area() -> Option<u64> {
    Some(endo_core::arch::host_thread_pointer().wrapping_add(symbol(c"__rseq_offset")?))
}

/// The word that a symbol of the C library names.
fn symbol(name: &std::ffi::CStr) -> Option<u64> {
    // SAFETY: the name is a string.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: both symbols name at least four readable bytes; the offset is a `ptrdiff_t`, and what follows the size lies in
    // the same read-only data.
    (!at.is_null()).then(|| unsafe { at.cast::<u64>().read_unaligned() })
}

//! What this processor itself does, where processors differ: emulated ones leave things out.

use std::arch::asm;

/// Whether arithmetic on vector registers raises the exceptions that MXCSR unmasks. QEMU's translator has none of them.
pub(super) fn raises_vector_arithmetic_faults() -> bool {
    /// Division by zero unmasked.
    static UNMASKED: u32 = 0x1d80;
    // SAFETY: the child makes one system call and one division, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(libc::SIGFPE, libc::SIG_DFL) };
        // SAFETY: changes the exception masks and two registers of this thread, which ends below.
        unsafe {
            asm!(
                "ldmxcsr [{mask}]", "xorps xmm1, xmm1", "mov eax, 1", "cvtsi2ss xmm0, eax", "divss xmm0, xmm1",
                mask = in(reg) &raw const UNMASKED, out("eax") _, out("xmm0") _, out("xmm1") _, options(nostack),
            );
        }
        // SAFETY: runs no destructor or handler of the parent's.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "the child that divides by zero");
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGFPE
}

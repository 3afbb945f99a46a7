//! The few instructions that nobody else can write: into the guest and back.

use core::arch::naked_asm;

use super::frame::SignalFrame;
use crate::native::dispatch::BLOCK;
use crate::native::frame::resume_at;

/// What `enter` needs besides the frame; its address travels in rdi.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Entry {
    /// The frame that `rt_sigreturn` loads.
    pub(super) frame: *const SignalFrame,
    /// The thread's selector byte.
    pub(super) selector: *mut u8,
    /// Segment bases for the guest.
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
    /// Where the host's stack pointer is kept meanwhile.
    pub(super) host_stack_pointer: u64,
}

/// Loads a guest's registers and returns when a signal handler has arranged for it to leave.
///
/// The state comes from a forged signal frame, because `rt_sigreturn` is the one instruction that loads all general
/// registers, flags, vector state and signal mask at once, for any program counter and without touching guest memory.
/// It costs some 0.3 us; a captured system call costs 1.7 us and more, so that nothing cheaper would show.
///
/// ```text
/// host stack while the guest runs          frame
/// |  caller's frame      |                 | return address |  <- rsp - 8 at the system call
/// |  return address      |                 | uc_flags       |  <- rsp
/// |  rbp rbx r12 … r15   |                 | ...            |
/// |  host gs base        |  <- entry.host_stack_pointer
/// ```
///
/// # Safety
///
/// All signals are blocked, the frame's mask lets the synchronous ones through, dispatch is armed with
/// [`system_call_range`], and the handler behind [`entry`](crate::native::entry) leads back by [`resume_host`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter(entry: *mut Entry) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "rdgsbase rax",
        "push rax",
        "mov [rdi + {HOST_STACK_POINTER}], rsp",
        "mov rsp, [rdi + {FRAME}]",
        "add rsp, 8",
        "mov rax, [rdi + {GS_BASE}]",
        "wrgsbase rax",
        "mov rdx, [rdi + {SELECTOR}]",
        "mov rax, [rdi + {FS_BASE}]",
        // From here on thread-local storage is the guest's, and only the system call below is allowed.
        "wrfsbase rax",
        "mov byte ptr [rdx], {BLOCK}",
        "mov eax, {RT_SIGRETURN}",
        ".globl endo_null_system_call",
        "endo_null_system_call:",
        "syscall",
        "ud2",
        ".globl endo_null_resume_host",
        "endo_null_resume_host:",
        "pop rax",
        "wrgsbase rax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        HOST_STACK_POINTER = const core::mem::offset_of!(Entry, host_stack_pointer),
        FRAME = const core::mem::offset_of!(Entry, frame),
        GS_BASE = const core::mem::offset_of!(Entry, gs_base),
        FS_BASE = const core::mem::offset_of!(Entry, fs_base),
        SELECTOR = const core::mem::offset_of!(Entry, selector),
        BLOCK = const BLOCK,
        RT_SIGRETURN = const libc::SYS_rt_sigreturn,
    )
}

unsafe extern "C" {
    static endo_null_system_call: u8;
    static endo_null_resume_host: u8;
}

/// The code whose system calls pass whatever the selector says: start and bytes. The kernel looks at the address after
/// the two-byte instruction.
pub(super) fn system_call_range() -> (usize, usize) {
    ((&raw const endo_null_system_call) as usize, 4)
}

/// Makes the handler's return continue after [`enter`], on the stack that it left. Async-signal-safe.
pub(super) fn resume_host(context: &mut libc::ucontext_t, entry: &Entry) {
    resume_at(context, (&raw const endo_null_resume_host) as usize, entry.host_stack_pointer);
}

//! The few instructions that nobody else can write: into the guest, back, and the host's signal entry.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::frame::SignalFrame;
use crate::SignalStack;
use crate::native::dispatch::BLOCK;
use crate::signal_stack::SignalHandler;

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

/// Alignment-check flag: the kernel leaves it set when it calls a handler.
const ALIGNMENT_FLAG: u64 = crate::arch::Flags::ALIGNMENT;

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
/// [`system_call_range`], and the handler behind [`signal_entry`] leads back by [`resume_host`].
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
    let registers = &mut context.uc_mcontext.gregs;
    registers[libc::REG_RIP as usize] = (&raw const endo_null_resume_host) as i64;
    registers[libc::REG_RSP as usize] = entry.host_stack_pointer as i64;
    registers[libc::REG_EFL as usize] = crate::arch::Flags::FIXED as i64;
}

/// The guest's GS base, which stays live in a handler.
pub(super) fn read_gs_base() -> u64 {
    let base: u64;
    // SAFETY: the probe saw FSGSBASE. Output one register; no memory, stack or flags.
    unsafe { core::arch::asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// The handler that the monitor wants called, as an address.
static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// Keeps the monitor's handler and returns what is to be installed in its place.
pub(super) fn signal_entry(handler: SignalHandler) -> SignalHandler {
    HANDLER.store(handler as usize, Ordering::Release);
    endo_null_signal_entry
}

/// Where host signals arrive: brings the host's thread pointer back, before any code that may use it, and clears the
/// alignment-check flag, under which compiled code may fault.
///
/// ```text
/// rdi signal, rsi siginfo, rdx ucontext, [rsp] return address to the restorer; rcx becomes the interrupted FS base
/// ```
///
/// # Safety
///
/// Called by the kernel only, on a [`SignalStack`].
#[unsafe(naked)]
unsafe extern "C" fn endo_null_signal_entry(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    naked_asm!(
        "mov rax, rsp",
        "and rax, {STACK_MASK}",
        "rdfsbase rcx",
        "mov rax, [rax + {THREAD_POINTER}]",
        "wrfsbase rax",
        "pushfq",
        "and qword ptr [rsp], {FLAGS_MASK}",
        "popfq",
        "jmp {arrive}",
        STACK_MASK = const -(SignalStack::SIZE as i64),
        THREAD_POINTER = const SignalStack::THREAD_POINTER_OFFSET,
        FLAGS_MASK = const !(ALIGNMENT_FLAG as i64),
        arrive = sym arrive,
    )
}

/// Opens system calls for the monitor's handler and calls it.
unsafe extern "C" fn arrive(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    interrupted_thread_pointer: u64,
) {
    super::note_arrival(interrupted_thread_pointer);
    let handler = HANDLER.load(Ordering::Acquire);
    // SAFETY: the entry is installed only by whoever got it from `signal_entry`, which stored a handler before.
    let handler = unsafe { core::mem::transmute::<usize, SignalHandler>(handler) };
    // SAFETY: the arguments are the kernel's.
    unsafe { handler(signal, info, context) };
}

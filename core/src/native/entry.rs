//! Where host signals arrive while a guest runs natively: with the guest's thread pointer.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::SignalStack;
use crate::arch::Flags;
use crate::signal_stack::SignalHandler;

/// What a backend does first of all in a handler, with the host's thread pointer in place: it lets the handler's system calls
/// through, and keeps the thread pointer of the code that was interrupted. Async-signal-safe.
pub type Arrival = fn(interrupted_thread_pointer: u64);

/// The monitor's handler and the backend's part, as addresses.
static HANDLER: AtomicUsize = AtomicUsize::new(0);
static ARRIVAL: AtomicUsize = AtomicUsize::new(0);

/// Keeps both and returns what is to be installed with `sigaction`.
pub fn install(handler: SignalHandler, arrival: Arrival) -> SignalHandler {
    ARRIVAL.store(arrival as usize, Ordering::Release);
    HANDLER.store(handler as usize, Ordering::Release);
    endo_native_signal_entry
}

/// Brings the host's thread pointer back, before any code that may use it, and clears the alignment-check flag, which the
/// kernel leaves set and under which compiled code may fault.
///
/// ```text
/// rdi signal, rsi siginfo, rdx ucontext, [rsp] return address to the restorer; rcx becomes the interrupted FS base
/// ```
///
/// # Safety
///
/// Called by the kernel only, on a [`SignalStack`].
#[unsafe(naked)]
unsafe extern "C" fn endo_native_signal_entry(
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
        FLAGS_MASK = const !(Flags::ALIGNMENT as i64),
        arrive = sym arrive,
    )
}

/// The rest, in Rust.
unsafe extern "C" fn arrive(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    interrupted_thread_pointer: u64,
) {
    let arrival = ARRIVAL.load(Ordering::Acquire);
    // SAFETY: the entry is installed only by whoever got it from `install`, which stored a function of this type before.
    let arrival = unsafe { core::mem::transmute::<usize, Arrival>(arrival) };
    arrival(interrupted_thread_pointer);
    let handler = HANDLER.load(Ordering::Acquire);
    // SAFETY: as above.
    let handler = unsafe { core::mem::transmute::<usize, SignalHandler>(handler) };
    // SAFETY: the arguments are the kernel's.
    unsafe { handler(signal, info, context) };
}

/// The guest's GS base, which stays live in a handler.
pub fn read_gs_base() -> u64 {
    let base: u64;
    // SAFETY: the requirements include FSGSBASE. Output one register; no memory, stack or flags.
    unsafe { core::arch::asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

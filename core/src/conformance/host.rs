//! The suite's signal handlers: what a monitor does, reduced to the backend's part.

use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::child;
use crate::{IsolationBackend, SignalRoute, copy, fault};

/// The child's backend, for the handler.
static BACKEND: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Faults, captured system calls, and the asynchronous signals that properties use.
const SIGNALS: [i32; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGALRM,
    libc::SIGUSR1,
];

/// Sends the process's signals to this backend from now on.
pub(super) fn install<B: IsolationBackend>(backend: &'static B) -> io::Result<()> {
    BACKEND.store(std::ptr::from_ref(backend).cast_mut().cast(), Ordering::Release);
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = B::signal_entry(handler::<B>) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the mask is writable.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    for signal in SIGNALS {
        // SAFETY: the handler is async-signal-safe, and the calling thread has a signal stack.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

unsafe extern "C" fn handler<B: IsolationBackend>(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel's argument, valid until the handler returns.
    let info = unsafe { &mut *info };
    // SAFETY: as above; with SA_SIGINFO the third argument is a ucontext.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    // SAFETY: `install` stored a `B` that lives as long as the process.
    let backend = unsafe { &*BACKEND.load(Ordering::Acquire).cast::<B>() };
    let synchronous = fault::is_synchronous(info);
    // Only of a fault: a copy that another signal interrupts goes on.
    if synchronous && copy::recover(context) {
        return;
    }
    // SAFETY: the kernel's arguments, on an alternate stack; the handler returns right after.
    let route = unsafe { backend.on_signal(synchronous, info, context) };
    if route == SignalRoute::Outside && synchronous {
        // SAFETY: a fault's siginfo holds an address.
        child::report_crash(signal, unsafe { info.si_addr() } as u64);
    }
}

//! Taking the guest out: what a signal handler finds in the kernel's frame, and what it leaves there.
//!
//! The kernel starts a handler with the rights of key 0, the monitor's, whatever the interrupted code had, and loads those of the
//! frame when the handler returns. The frame lies on a stack of the monitor's. Rights in it are written here, never read.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use core::cell::Cell;
use endo_core::arch::xsave::{self, Software};
use endo_core::fault::{SYS_SECCOMP, SYS_USER_DISPATCH, fault_from_signal};
use endo_core::native::dispatch::{ALLOW, is_native_call};
use endo_core::native::entry;
use endo_core::native::frame::{leave_fresh_vector_state, resume_at, take_state};
use endo_core::{Exit, Fault, FaultKind, GuestAddr, SignalRoute, ThreadState};

use super::block::Block;
use super::{MpkThread, gate, keys, window};

/// `si_code` of a SIGSEGV for a key (asm-generic/siginfo.h).
const SEGV_PKUERR: i32 = 4;

thread_local! {
    // Constant, without a destructor: a signal handler may use it.
    /// The FS base of the guest that the signal being handled has interrupted.
    static INTERRUPTED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Called first in every host signal handler. Async-signal-safe.
pub(super) fn note_arrival(interrupted_thread_pointer: u64) {
    // The kernel reads the selector at the handler's system calls, which takes rights to its key.
    gate::set_pkru(keys::MONITOR);
    let was_inside = Block::with(|block| {
        let was_inside = block.inside.swap(0, Ordering::Relaxed) != 0;
        if was_inside {
            // SAFETY: a thread that is inside has a port.
            unsafe { (*block.port.get()).selector.store(ALLOW, Ordering::Relaxed) };
        }
        was_inside
    });
    INTERRUPTED.set(was_inside.then_some(interrupted_thread_pointer));
}

/// What `on_signal` does.
///
/// # Safety
///
/// `running` is the guest thread that was inside, if one was, and nobody else's now; the rest is as `on_signal` demands.
pub(super) unsafe fn take_out(
    running: *mut MpkThread,
    synchronous: bool,
    info: &libc::siginfo_t,
    context: &mut libc::ucontext_t,
) -> SignalRoute {
    let Some(fs_base) = INTERRUPTED.take() else {
        if !synchronous {
            Block::with(|block| block.pending.store(1, Ordering::Relaxed));
        }
        return SignalRoute::Outside;
    };
    // SAFETY: the caller's promise.
    let thread = unsafe { &mut *running };
    let pc = context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    let is_in_gate = gate::range().contains(&(pc as usize));
    if is_in_gate {
        // The guest has not run, and its state is the one that it was to start with; or it has jumped here, and what it had in
        // registers is lost. What the gate has in them is not for it to see.
        // SAFETY: the kernel's frame.
        unsafe { leave_fresh_vector_state(context) };
    } else {
        let ThreadState { registers, vector } = &mut thread.state;
        // SAFETY: the context is the kernel's, and it holds the guest's state.
        unsafe { take_state(context, registers, vector, &mut thread.vector) };
        registers.fs_base = fs_base;
        registers.gs_base = entry::read_gs_base();
    }
    thread.exit = match synchronous {
        false => Exit::Interrupted,
        true if is_in_gate && pc as usize != gate::last_instruction() => {
            thread.state.registers.pc = pc;
            Exit::Fault(Fault { kind: FaultKind::IllegalInstruction, address: GuestAddr(pc) })
        }
        true => exit_of(thread, info, context),
    };
    resume_host(context);
    SignalRoute::Leaving
}

/// What a signal that the guest's instruction raised means.
fn exit_of(thread: &mut MpkThread, info: &libc::siginfo_t, context: &libc::ucontext_t) -> Exit {
    let registers = &mut thread.state.registers;
    let is_in_window = window::range().contains(GuestAddr(registers.pc.wrapping_sub(2)));
    match (info.si_signo, info.si_code) {
        (libc::SIGSYS, SYS_USER_DISPATCH) if is_native_call(info) && is_in_window => Exit::Syscall,
        (libc::SIGSYS, SYS_USER_DISPATCH) => {
            // `int 0x80` or `sysenter`, or a system call of Endo's that the guest has jumped to: two bytes back.
            registers.pc = registers.pc.wrapping_sub(2);
            Exit::Fault(Fault { kind: FaultKind::Protection, address: GuestAddr(0) })
        }
        (libc::SIGSYS, SYS_SECCOMP) => {
            // The vsyscall page, which is not there for guests.
            let kind = FaultKind::Execute { mapped: false };
            Exit::Fault(Fault { kind, address: GuestAddr(registers.pc) })
        }
        _ => {
            let mut fault = fault_from_signal(info, context);
            if info.si_code == SEGV_PKUERR && !window::range().contains(fault.address) {
                // What is the monitor's is not there.
                fault.kind = match fault.kind {
                    FaultKind::Read { .. } => FaultKind::Read { mapped: false },
                    FaultKind::Write { .. } => FaultKind::Write { mapped: false },
                    other => other,
                };
            }
            Exit::Fault(fault)
        }
    }
}

/// Makes the handler's return continue behind the gate, on the stack that the gate left and with the monitor's rights.
fn resume_host(context: &mut libc::ucontext_t) {
    let stack_pointer = Block::with(|block| block.host_stack_pointer.get());
    resume_at(context, gate::resume_address(), stack_pointer);
    let machine = &mut context.uc_mcontext;
    // SAFETY: a frame's area holds at least the FXSAVE region, the kernel's words included.
    let fxsave = unsafe { core::slice::from_raw_parts(machine.fpregs.cast::<u8>(), xsave::SOFTWARE.end) };
    let length = Software::read(fxsave).map_or(0, |software| software.size as usize);
    // SAFETY: the kernel's words say that the area is that long, and it is this handler's to change.
    let area = unsafe { core::slice::from_raw_parts_mut(machine.fpregs.cast::<u8>(), length) };
    put_pkru(area);
}

/// Writes the monitor's rights into a frame's area.
fn put_pkru(area: &mut [u8]) {
    let at = pkru_offset();
    // A frame without room for the rights would leave the handler's, which are the monitor's without the guest's memory: the
    // kernel makes none where it has keys.
    assert!(at + 4 <= area.len(), "a signal frame has no room for PKRU");
    area[at..at + 4].copy_from_slice(&keys::MONITOR.bits().to_le_bytes());
    let header = xsave::HEADER..xsave::HEADER + 8;
    let mut present = [0; 8];
    present.copy_from_slice(&area[header.clone()]);
    let present = u64::from_le_bytes(present) | xsave::PKRU;
    area[header].copy_from_slice(&present.to_le_bytes());
}

/// Where the standard format has PKRU (CPUID leaf 0xD, subleaf 9).
pub(super) fn pkru_offset() -> usize {
    static OFFSET: OnceLock<usize> = OnceLock::new();
    *OFFSET.get_or_init(|| core::arch::x86_64::__cpuid_count(0xd, 9).ebx as usize)
}

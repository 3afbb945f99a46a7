//! Delivery: from a fault or a pending signal to a handler's frame or the default action (kernel/signal.c,
//! arch/x86/kernel/signal.c).
#![deny(unsafe_code)]

use endo_core::{Fault, FaultKind, GuestAddr, IsolationBackend, SyscallMonitor};

use super::actions::{Action, Disposition};
use super::blocking::{RESTART, RESUME};
use super::frame::{self, Delivery, Trap};
use super::host;
use super::info::SigInfo;
use super::set::{DefaultAction, SigSet, Signal};
use crate::errno::{Errno, SyscallResult, to_raw_result};
use crate::process::Ending;
use crate::syscall::trace;
use crate::thread::Thread;

/// Turns a fault into the signal that the kernel would raise for it.
pub fn raise_fault<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>, fault: Fault) {
    let Some(fault) = as_the_guest_sees_it(thread, fault) else { return };
    thread.process.monitor.fault(thread.registers(), &fault);
    let pc = GuestAddr(thread.registers().pc);
    thread.signals.trap = Trap::of_fault(&fault, thread.signals.trap);
    force(thread, SigInfo::of_fault(&fault, pc));
}

/// Where the window has pages that no mapping of the guest claims, the host's kernel says "no access" and the guest must
/// hear "not mapped". `None`: a stack has grown, and the instruction is to be tried again.
fn as_the_guest_sees_it<B: IsolationBackend, M>(
    thread: &mut Thread<'_, B, M>,
    fault: Fault,
) -> Option<Fault> {
    let mut memory = thread.process.memory();
    let mapped = memory.find(fault.address).is_some();
    let kind = match fault.kind {
        FaultKind::Read { .. } => FaultKind::Read { mapped },
        FaultKind::Write { .. } => FaultKind::Write { mapped },
        FaultKind::Execute { .. } => return Some(Fault { kind: FaultKind::Execute { mapped }, ..fault }),
        _ => return Some(fault),
    };
    let has_grown = !mapped && memory.grow_down(&thread.process.backend, fault.address).is_ok();
    if has_grown { None } else { Some(Fault { kind, ..fault }) }
}

/// Delivers a signal that cannot wait. If the thread blocks or ignores it, it is the end (`force_sig_info_to_task`).
pub(crate) fn force<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>, info: SigInfo) {
    let Some(signal) = info.signal() else { return };
    trace::signal(&info);
    let action = thread.actions().get(signal);
    let is_blocked = thread.signals.mask().contains(signal);
    match action.disposition() {
        Disposition::Handler(handler) if !is_blocked => handle(thread, signal, &info, handler, action),
        _ => thread.ending = Some(Ending::Killed(signal.number())),
    }
}

/// Delivers what is pending and not blocked: a handler's frame, or the default action. When it returns, the host's mask
/// fits the guest's.
#[inline]
pub fn deliver_pending<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>) {
    if host::has_waiting() || !thread.signals.is_quiet() {
        deliver_what_waits(thread);
    }
}

#[cold]
fn deliver_what_waits<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>) {
    loop {
        thread.signals.collect();
        while thread.ending.is_none()
            && let Some(info) = thread.signals.take_deliverable()
        {
            deliver(thread, info);
        }
        if thread.ending.is_some() {
            return;
        }
        thread.signals.settle();
        // The mask may have let a signal through that waited in the kernel.
        if !host::has_waiting() {
            return;
        }
    }
}

fn deliver<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>, info: SigInfo) {
    let Some(signal) = info.signal() else { return };
    trace::signal(&info);
    let action = thread.actions().get(signal);
    match (action.disposition(), signal.default_action()) {
        (Disposition::Handler(handler), _) => handle(thread, signal, &info, handler, action),
        (Disposition::Ignore, _) | (Disposition::Default, DefaultAction::Ignore) => {}
        (Disposition::Default, DefaultAction::Terminate) => {
            thread.ending = Some(Ending::Killed(signal.number()));
        }
        // It was taken for a handler that is gone since. The kernel has the default in place and stops the process as
        // soon as the mask lets it.
        (Disposition::Default, DefaultAction::Stop) => {
            let _ = host::give_back(&info);
        }
    }
}

/// Stores the frame and makes the thread run the handler (`handle_signal`).
fn handle<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    signal: Signal,
    info: &SigInfo,
    handler: GuestAddr,
    action: Action,
) {
    if action.has(libc::SA_RESETHAND) {
        thread.actions().reset(signal);
    }
    let blocked = thread.signals.mask();
    let saved_mask = thread.signals.take_mask_to_save();
    let delivery = Delivery {
        signal,
        info,
        action: &action,
        handler,
        saved_mask,
        alternate: thread.signals.alternate,
        trap: thread.signals.trap,
    };
    if push_frame(thread, &delivery).is_err() {
        // `force_sigsegv`: a handler for SIGSEGV that cannot be entered is not tried again.
        if signal == Signal::SEGV {
            thread.ending = Some(Ending::Killed(signal.number()));
        } else {
            force(thread, SigInfo::forced(Signal::SEGV));
        }
        return;
    }
    thread.signals.alternate = thread.signals.alternate.while_handling();
    let itself = if action.has(libc::SA_NODEFER) { SigSet::EMPTY } else { SigSet::EMPTY.with(signal) };
    thread.signals.set_guest_mask(blocked.union(action.mask).union(itself));
}

fn push_frame<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    delivery: &Delivery<'_>,
) -> Result<(), Errno> {
    let process = thread.process;
    let user = thread.user();
    let state = process.backend.state_mut(&mut thread.guest);
    let frame = frame::build(state, delivery)?;
    if frame.store(user, state).is_err() {
        // The kernel's own store would have made the stack grow.
        process.memory().grow_down(&process.backend, frame.at)?;
        frame.store(user, state)?;
    }
    frame::enter(state, &frame, delivery);
    Ok(())
}

/// `rt_sigreturn`: the thread goes on as the frame on its stack says. The result is what the frame has in the register of
/// results, so that storing it there changes nothing.
pub(crate) fn sigreturn<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
) -> SyscallResult {
    let process = thread.process;
    let user = thread.user();
    let signals = &mut thread.signals;
    let state = process.backend.state_mut(&mut thread.guest);
    let restored = frame::restore(user, state, |mask| signals.change_mask(mask));
    let stack_pointer = state.registers.stack_pointer();
    match restored {
        Err(RESTART) => return Err(RESTART),
        // The kernel ignores an alternate stack that it would refuse (`restore_altstack`).
        Ok(restored) => drop(signals.alternate.replace(&restored.alternate, stack_pointer)),
        Err(_) => force(thread, SigInfo::forced(Signal::SEGV)),
    }
    Ok(frame::result_register(thread.registers()))
}

/// Ends a system call: stores its result, or puts the thread back onto the call if it is to be made again. A mask that
/// the call had of its own lasts only if a signal ended it; what came later waits for the thread's own mask.
pub fn finish_syscall<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    result: SyscallResult,
) {
    if result != Err(Errno::EINTR) {
        thread.signals.cancel_temporary_mask();
    }
    match result {
        Err(RESTART) => frame::rewind_syscall(thread.registers_mut()),
        Err(RESUME) => frame::rewind_to_restart(thread.registers_mut()),
        result => thread.registers_mut().set_syscall_result(to_raw_result(result)),
    }
}

//! The guest's system calls.
//!
//! [`handle`] asks the [`SyscallMonitor`], looks the call up in the [`table`] and does what its class says: [`forward`]
//! hands it to the kernel with every argument checked by its kind; [`handlers`] names the function for calls that need more than
//! that, one file a noun.

mod arch;
mod descriptors;
mod enter;
pub mod fcntl;
pub mod files;
pub mod forward;
mod futex;
mod handlers;
pub mod hidden;
mod ioctl;
mod ipc;
mod limits;
mod memory;
mod messages;
mod open;
#[cfg(test)]
mod pointer_tests;
mod poll;
mod prctl;
pub(crate) mod proc_files;
mod proc_maps;
mod proc_status;
mod proc_views;
pub mod raw;
mod remote;
mod sockets;
mod sockopt;
pub mod table;
pub mod trace;
mod trace_names;
mod trace_signals;
mod trace_values;

use endo_core::{DomainId, IsolationBackend, SyscallMonitor, SyscallNumber, SyscallRequest, Verdict};

use self::table::{Call, Class};
use crate::errno::{Errno, SyscallResult, to_raw_result};
use crate::process::Ending;
use crate::thread::Thread;

/// Carries out the call that the thread stands after, and puts the result into its registers.
pub fn handle<B: IsolationBackend, M: SyscallMonitor>(thread: &mut Thread<'_, B, M>) {
    let number = thread.registers().syscall_number();
    let arguments = thread.registers().syscall_arguments();
    let line = trace::is_on().then(|| trace::begin(&thread.user(), number, arguments));
    let result = answer(thread, number, arguments);
    match line {
        Some(line) if thread.ending.is_some() => trace::abandon(line),
        Some(line) => trace::end(&thread.user(), line, result),
        None => {}
    }
    crate::signal::finish_syscall(thread, result);
}

/// Asks the monitor, if it wants to be asked, and carries out its verdict.
fn answer<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    number: u32,
    arguments: [u64; 6],
) -> SyscallResult {
    let process = thread.process;
    if !process.monitor.observes(SyscallNumber(number)) {
        return carry_out(thread, number, arguments);
    }
    let registers = *thread.registers();
    let number = SyscallNumber(number);
    let request = SyscallRequest { number, arguments, domain: DomainId::MAIN, registers: &registers };
    let result = match process.monitor.syscall(&request) {
        Verdict::Allow => carry_out(thread, number.0, arguments),
        Verdict::Rewrite(arguments) => carry_out(thread, number.0, arguments),
        Verdict::Emulate(result) => Errno::from_raw_result(result),
        Verdict::Deny(errno) => Err(Errno(errno)),
        Verdict::Kill => {
            thread.ending = Some(Ending::Killed(libc::SIGSYS));
            Err(Errno::ENOSYS)
        }
    };
    process.monitor.syscall_returned(&request, to_raw_result(result));
    result
}

/// Does what the table says. A number that it does not know does not exist.
fn carry_out<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    number: u32,
    arguments: [u64; 6],
) -> SyscallResult {
    let call = Call::from_number(number).ok_or(Errno::ENOSYS)?;
    match call.row().class {
        Class::Pass => forward::forward(thread, call, arguments),
        Class::Deny(errno) => Err(Errno(errno)),
        Class::Check | Class::Emulate => handlers::call(thread, call, arguments),
    }
}

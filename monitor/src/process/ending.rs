//! The end of a thread, and that of the process with its last one or for all at once.

use std::sync::atomic::Ordering;

use endo_core::{DomainId, GuestAddr, IsolationBackend, SyscallMonitor};

use super::Process;
use super::robust::wake_one;
use crate::memory::user::UserMemory;
use crate::signal::{SigSet, Signal, host};
use crate::thread::Thread;

/// How a guest thread or its process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// `exit` with this status: the thread alone.
    ThreadExited(i32),
    /// `exit_group` with this status.
    Exited(i32),
    /// A signal's default action.
    Killed(i32),
}

impl Ending {
    /// Ends this process so that its parent learns of the guest's end: the same status, or the same signal. Nothing that
    /// Rust or the C library would do at exit is done, as with `_exit`: what the caller has buffered it has flushed.
    pub fn finish(self) -> ! {
        match self {
            // The status of the last thread to exit is the process's (kernel/exit.c, `synchronize_group_exit`); host threads
            // of others may still be on their way out.
            Ending::ThreadExited(status) | Ending::Exited(status) => exit_now(status),
            Ending::Killed(number) => die_of(number),
        }
    }
}

/// Ends a thread that [`super::run`] has left: its locks are abandoned, its process learns of it. If others go on, the thread
/// is gone when this returns `None`, and so should the host's; `Some`: the process ends, which is left to the caller.
pub fn leave<B: IsolationBackend, M: SyscallMonitor>(
    thread: Thread<'_, B, M>,
    ending: Ending,
) -> Option<Ending> {
    let process = thread.process;
    let own = host::thread_id();
    host::block_all();
    thread.shared.robust_list().abandon(thread.user(), own);
    process.monitor.thread_exited();
    if let Ending::ThreadExited(status) = ending
        && !process.threads.remove(own)
    {
        let word = thread.clear_child_tid;
        drop(thread);
        // Whoever waits for this may unmap what the thread ran on: nothing of the guest's is used any more.
        clear_child_tid(&process.backend, word);
        // The process keeps the id of its first thread, whose host thread is not the C library's to end.
        if own == host::process_id() {
            exit_thread(status);
        }
        return None;
    }
    process.conclude(own);
    Some(ending)
}

/// Another program is about to take this one's place: the locks of its threads are abandoned, as the kernel does it when it
/// has stopped the others. A child of `vfork` has one thread.
pub(super) fn abandon_locks<B: IsolationBackend, M: SyscallMonitor>(thread: &Thread<'_, B, M>) {
    let own = host::thread_id();
    thread.shared.robust_list().abandon(thread.user(), own);
    if thread.borrowed.is_none() {
        thread.process.abandon_locks_of_others(own);
    }
}

impl<B: IsolationBackend, M: SyscallMonitor> Process<B, M> {
    fn abandon_locks_of_others(&self, own: i32) {
        let user = UserMemory::new(&self.backend, DomainId::MAIN);
        for (id, shared) in self.threads.others(own) {
            shared.robust_list().abandon(user, id);
        }
    }

    /// What is done once when a process ends, whoever ends it: the locks of the threads that end with it are abandoned,
    /// what the backend has to keep is kept, and figures reported. A thread that comes second waits for the end.
    fn conclude(&self, own: i32) {
        if self.is_ending.swap(true, Ordering::Relaxed) {
            wait_for_the_end();
        }
        self.abandon_locks_of_others(own);
        self.backend.keep_work();
        if let Some(report) = &self.report {
            (report.0)(self.backend.statistics());
        }
    }

    /// In a forked child: an end that had begun in the parent is not its own.
    pub(super) fn live_on(&self) {
        self.is_ending.store(false, Ordering::Relaxed);
    }
}

/// Ends the calling host thread without the C library's knowledge. All signals wait, so that none is taken by it.
fn exit_thread(status: i32) -> ! {
    host::set_exact_mask(SigSet::FULL);
    loop {
        // SAFETY: the thread does not come back, and nothing of it is used by others: its stack stays mapped.
        unsafe { libc::syscall(libc::SYS_exit, status) };
    }
}

fn wait_for_the_end() -> ! {
    loop {
        // SAFETY: no precondition.
        unsafe { libc::pause() };
    }
}

fn exit_now(status: i32) -> ! {
    // SAFETY: no precondition.
    unsafe { libc::_exit(status) }
}

/// Lets the default action of a signal end this process.
fn die_of(number: i32) -> ! {
    if let Some(signal) = Signal::new(number) {
        host::relinquish(signal);
        host::send_to_self(signal);
        host::set_exact_mask(SigSet::EMPTY);
    }
    // Only a signal whose default is not to end a process brings us here, and no such signal is an ending.
    exit_now(128 + number)
}

/// What the kernel does for a thread that asked for it with `CLONE_CHILD_CLEARTID` or `set_tid_address`, when it ends and
/// others share its memory: the word becomes zero, and one waiter is woken (kernel/fork.c, `mm_release`).
pub(crate) fn clear_child_tid<B: IsolationBackend>(backend: &B, word: GuestAddr) {
    if word.0 == 0 {
        return;
    }
    let user = UserMemory::new(backend, DomainId::MAIN);
    // Where the word is gone, so are the waiters.
    if user.write(word, &0_u32).is_ok() {
        let _ = wake_one(user, word);
    }
}

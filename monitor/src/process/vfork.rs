//! A child that borrows its parent's memory and thread until it execs or exits: `vfork`, and what `posix_spawn` does.
//!
//! The kernel suspends the parent's host thread; the child is a process of its own that runs, in the same memory and with
//! the same thread-local storage, on a host stack made for it:
//!
//! ```text
//! parent's host stack                      child's host stack
//! | run | syscall | start | clone(2) |     | child | run | syscall | execve(2)
//!                           suspended                                 parent resumes
//! ```
//!
//! To the monitor and to the backend the child is the parent's thread, continued. What the child changes of the thread the
//! parent puts back; what it changes in guest memory stays, as `vfork` promises. What it does about signals is its own
//! ([`Borrowed`]) from the start: other threads of the parent go on meanwhile, and with their own process's.

use core::ffi::c_void;
use std::io;
use std::mem;
use std::ptr;
use std::sync::{Arc, Mutex};

use endo_core::{GuestAddr, IsolationBackend, SyscallMonitor, ThreadState};

use super::clone::{CloneRequest, flags, prepare_child, report_to_parent};
use super::ending::clear_child_tid;
use super::{Ending, SharedState, run};
use crate::errno::{Errno, SyscallResult};
use crate::signal::{ThreadSignals, finish_syscall, host, line::Line, same};
use crate::thread::{Borrowed, Thread};

/// What the child finds on its stack.
struct Child<'a, 'p, B: IsolationBackend, M: 'static> {
    thread: &'a mut Thread<'p, B, M>,
    request: &'a CloneRequest,
}

/// Starts a child that shares memory, and waits for its exec or its end.
pub(super) fn start<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    request: &CloneRequest,
) -> SyscallResult {
    // The old system call knows neither chosen ids nor the flags of clone3.
    if !request.set_tid.is_empty() || (request.flags & !flags::OWN) >> 32 != 0 {
        return Err(Errno::EINVAL);
    }
    let stack = ChildStack::new().map_err(|_| Errno::ENOMEM)?;
    let mut pidfd = -1_i32;
    host::block_all();
    thread.signals.collect();
    let saved = Saved::lend(thread, request);
    let mut child = Child { thread: &mut *thread, request };
    let call = arch::CloneCall {
        flags: request.flags & !flags::OWN | request.exit_signal,
        stack_top: stack.top(),
        entry: run_child::<B, M>,
        argument: (&raw mut child).cast(),
        pidfd: &raw mut pidfd,
    };
    // SAFETY: the child runs `run_child` on a stack of its own with a valid argument, and never returns; this thread is
    // suspended meanwhile, so that `child` and all it borrows have one user at a time.
    let cloned = Errno::from_raw_result(unsafe { arch::clone_with_shared_memory(&call) });
    thread.process.backend.after_vfork_in_parent();
    saved.restore(thread);
    let pid = cloned?;
    report_to_parent(thread, request, pid as i32, pidfd);
    Ok(pid)
}

/// The child's first function on its own stack. All signals are blocked.
///
/// # Safety
///
/// `argument` points to a `Child<B, M>` that nobody else uses while this process shares its memory.
unsafe extern "C" fn run_child<B: IsolationBackend, M: SyscallMonitor>(argument: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let Child { thread, request } = unsafe { &mut *argument.cast::<Child<'_, '_, B, M>>() };
    let backend = &thread.process.backend;
    if backend.after_vfork_in_child().is_err() {
        let mut line = Line::new();
        line.text("endo: internal error: a child of vfork cannot go on\n").write_to_stderr();
        Ending::Killed(libc::SIGKILL).finish();
    }
    prepare_child(thread, request);
    finish_syscall(thread, Ok(0));
    let ending = run(thread);
    thread.shared.robust_list().abandon(thread.user(), host::thread_id());
    clear_child_tid(backend, thread.clear_child_tid);
    ending.finish()
}

/// What the child changes of the thread, and the parent puts back.
struct Saved {
    state: ThreadState,
    signals: ThreadSignals,
    shared: Arc<SharedState>,
    clear_child_tid: GuestAddr,
    borrowed: Option<Borrowed>,
}

impl Saved {
    /// Makes the thread one that a child may run.
    fn lend<B: IsolationBackend, M: SyscallMonitor>(
        thread: &mut Thread<'_, B, M>,
        request: &CloneRequest,
    ) -> Self {
        same::child_starts();
        let is_shared = request.flags & flags::SIGHAND != 0;
        let actions = (!is_shared).then(|| Mutex::new(thread.actions().clone()));
        let stand_in = SharedState::on(thread.shared.signal_stack);
        Saved {
            state: thread.process.backend.state(&thread.guest).clone(),
            signals: thread.signals.clone(),
            shared: mem::replace(&mut thread.shared, Arc::new(stand_in)),
            clear_child_tid: thread.clear_child_tid,
            borrowed: thread.borrowed.replace(Borrowed { actions }),
        }
    }

    fn restore<B: IsolationBackend, M: SyscallMonitor>(self, thread: &mut Thread<'_, B, M>) {
        *thread.process.backend.state_mut(&mut thread.guest) = self.state;
        thread.signals = self.signals;
        thread.shared = self.shared;
        thread.clear_child_tid = self.clear_child_tid;
        thread.borrowed = self.borrowed;
        thread.actions().note_again();
        same::child_has_gone();
        thread.ending = None;
        // What the child was about to exec: it has no use for it any more.
        thread.exec_in_flight = None;
        host::forget_waiting();
        host::apply_mask(thread.signals.mask());
    }
}

/// A host stack with a guard page below, unmapped when dropped.
struct ChildStack {
    start: *mut c_void,
}

impl ChildStack {
    /// The monitor's deepest path from `run` to `execve`, many times over; lazily backed.
    const SIZE: usize = 1 << 20;
    const GUARD: usize = endo_core::PAGE_SIZE as usize;

    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping wherever the kernel likes touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE, rights, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = ChildStack { start };
        // SAFETY: the page was mapped above and nothing uses it.
        match unsafe { libc::mprotect(start, Self::GUARD, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn top(&self) -> usize {
        self.start as usize + Self::SIZE
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and the child that ran on it is in another address space or gone.
        unsafe { libc::munmap(self.start, Self::SIZE) };
    }
}

mod arch {
    use super::c_void;

    /// What `endo_clone_with_shared_memory` is told.
    #[repr(C)]
    pub(super) struct CloneCall {
        pub(super) flags: u64,
        /// 16-byte aligned.
        pub(super) stack_top: usize,
        pub(super) entry: unsafe extern "C" fn(*mut c_void) -> !,
        pub(super) argument: *mut c_void,
        pub(super) pidfd: *mut i32,
    }

    #[cfg(target_arch = "x86_64")]
    core::arch::global_asm!(
        // extern "C" fn endo_clone_with_shared_memory(rdi: *const CloneCall) -> i64
        // The parent comes back with the kernel's result. The child starts at the top of an empty stack:
        //
        //   stack_top - 16   the argument; `call` pushes below it, so that `entry` finds its stack aligned
        //
        // The kernel clobbers rcx and r11; nothing else but rax, rdi, rsi, rdx, r8, r9, r10 changes.
        ".globl endo_clone_with_shared_memory",
        ".type endo_clone_with_shared_memory, @function",
        "endo_clone_with_shared_memory:",
        ".cfi_startproc",
        "mov r9, [rdi + {entry}]",
        "mov rsi, [rdi + {stack_top}]",
        "mov rdx, [rdi + {pidfd}]",
        "mov rax, [rdi + {argument}]",
        "mov [rsi - 16], rax",
        "lea rsi, [rsi - 16]",
        "mov rdi, [rdi + {flags}]",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, {clone}",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "mov rdi, [rsp]",
        "call r9",
        "ud2",
        ".cfi_endproc",
        ".size endo_clone_with_shared_memory, . - endo_clone_with_shared_memory",
        entry = const core::mem::offset_of!(CloneCall, entry),
        stack_top = const core::mem::offset_of!(CloneCall, stack_top),
        pidfd = const core::mem::offset_of!(CloneCall, pidfd),
        argument = const core::mem::offset_of!(CloneCall, argument),
        flags = const core::mem::offset_of!(CloneCall, flags),
        clone = const libc::SYS_clone,
    );

    #[cfg(target_arch = "aarch64")]
    core::arch::global_asm!(
        // extern "C" fn endo_clone_with_shared_memory(x0: *const CloneCall) -> i64
        // The parent comes back with the kernel's result. The child starts at the top of an empty stack. The kernel keeps
        // all registers but x0.
        ".globl endo_clone_with_shared_memory",
        ".type endo_clone_with_shared_memory, %function",
        "endo_clone_with_shared_memory:",
        ".cfi_startproc",
        "ldr x9, [x0, #{entry}]",
        "ldr x10, [x0, #{argument}]",
        "ldr x1, [x0, #{stack_top}]",
        "ldr x2, [x0, #{pidfd}]",
        "ldr x0, [x0, #{flags}]",
        "mov x3, #0",
        "mov x4, #0",
        "mov x8, #{clone}",
        "svc #0",
        "cbz x0, 2f",
        "ret",
        "2:",
        ".cfi_undefined x30",
        "mov x29, #0",
        "mov x30, #0",
        "mov x0, x10",
        "blr x9",
        "brk #1",
        ".cfi_endproc",
        ".size endo_clone_with_shared_memory, . - endo_clone_with_shared_memory",
        entry = const core::mem::offset_of!(CloneCall, entry),
        stack_top = const core::mem::offset_of!(CloneCall, stack_top),
        pidfd = const core::mem::offset_of!(CloneCall, pidfd),
        argument = const core::mem::offset_of!(CloneCall, argument),
        flags = const core::mem::offset_of!(CloneCall, flags),
        clone = const libc::SYS_clone,
    );

    unsafe extern "C" {
        #[link_name = "endo_clone_with_shared_memory"]
        pub(super) fn clone_with_shared_memory(call: *const CloneCall) -> i64;
    }
}

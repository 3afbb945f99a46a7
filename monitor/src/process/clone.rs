//! What `fork`, `vfork`, `clone` and `clone3` ask for (kernel/fork.c), and new processes with memory of their own.

use std::sync::Arc;

use endo_core::{GuestAddr, IsolationBackend, SignalStack, SyscallMonitor};

use super::locks::AllLocks;
use super::{RobustList, birth, vfork};
use crate::errno::{Errno, SyscallResult};
use crate::memory::place::ADDRESS_END;
use crate::memory::user::UserMemory;
use crate::signal::{Signal, host, line::Line};
use crate::syscall::raw::syscall6;
use crate::thread::{Borrowed, Thread};

/// `CLONE_` flags, as `clone3` has them: 64 bits, no exit signal among them.
pub(super) mod flags {
    pub(crate) const VM: u64 = libc::CLONE_VM as u64;
    pub(crate) const PIDFD: u64 = libc::CLONE_PIDFD as u64;
    pub(crate) const FS: u64 = libc::CLONE_FS as u64;
    pub(crate) const FILES: u64 = libc::CLONE_FILES as u64;
    pub(crate) const SIGHAND: u64 = libc::CLONE_SIGHAND as u64;
    pub(crate) const SYSVSEM: u64 = libc::CLONE_SYSVSEM as u64;
    pub(crate) const DETACHED: u64 = libc::CLONE_DETACHED as u64;
    pub(crate) const VFORK: u64 = libc::CLONE_VFORK as u64;
    pub(crate) const THREAD: u64 = libc::CLONE_THREAD as u64;
    pub(crate) const SETTLS: u64 = libc::CLONE_SETTLS as u64;
    pub(crate) const PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;
    pub(crate) const CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;
    pub(crate) const CHILD_SETTID: u64 = libc::CLONE_CHILD_SETTID as u64;
    pub(crate) const CLEAR_SIGHAND: u64 = 1 << 32;
    pub(crate) const INTO_CGROUP: u64 = 1 << 33;
    /// What a thread may have besides, and what does nothing for it.
    pub(crate) const OF_THREADS: u64 = VM
        | THREAD
        | FS
        | FILES
        | SIGHAND
        | SYSVSEM
        | PIDFD
        | OWN
        | libc::CLONE_IO as u64
        | libc::CLONE_PARENT as u64
        | libc::CLONE_PTRACE as u64
        | libc::CLONE_UNTRACED as u64;
    /// Each makes a namespace.
    pub(crate) const NAMESPACES: u64 = libc::CLONE_NEWNS as u64
        | libc::CLONE_NEWCGROUP as u64
        | libc::CLONE_NEWUTS as u64
        | libc::CLONE_NEWIPC as u64
        | libc::CLONE_NEWUSER as u64
        | libc::CLONE_NEWPID as u64
        | libc::CLONE_NEWNET as u64
        | libc::CLONE_NEWTIME as u64;
    /// What the monitor does itself, in guest memory and for guest registers.
    pub(crate) const OWN: u64 =
        SETTLS | PARENT_SETTID | CHILD_CLEARTID | CHILD_SETTID | CLEAR_SIGHAND | DETACHED;
}

/// What a guest wants of a new process.
#[derive(Clone, Debug, Default)]
pub(super) struct CloneRequest {
    pub(super) flags: u64,
    pub(super) exit_signal: u64,
    /// The child's stack pointer, unless zero.
    pub(super) stack_pointer: u64,
    pub(super) parent_tid: GuestAddr,
    pub(super) child_tid: GuestAddr,
    pub(super) pidfd: GuestAddr,
    pub(super) tls: u64,
    pub(super) set_tid: Vec<i32>,
    pub(super) cgroup: u64,
}

/// The kernel's `struct clone_args`, version 2.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct KernelCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `fork()`.
pub fn fork<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    _: [u64; 6],
) -> SyscallResult {
    start(thread, CloneRequest { exit_signal: libc::SIGCHLD as u64, ..Default::default() })
}

/// `vfork()`.
pub fn vfork<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    _: [u64; 6],
) -> SyscallResult {
    let flags = flags::VM | flags::VFORK;
    start(thread, CloneRequest { flags, exit_signal: libc::SIGCHLD as u64, ..Default::default() })
}

/// `clone(flags, stack, parent_tid, child_tid, tls)`; the last two change places on aarch64.
pub fn clone<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [flags, stack, parent_tid, fourth, fifth, _]: [u64; 6],
) -> SyscallResult {
    const EXIT_SIGNAL: u64 = 0xff;
    let (child_tid, tls) = if cfg!(target_arch = "aarch64") { (fifth, fourth) } else { (fourth, fifth) };
    // The kernel looks at the low 32 bits, and takes one address for two purposes.
    let request = CloneRequest {
        flags: u64::from(flags as u32) & !EXIT_SIGNAL,
        exit_signal: flags & EXIT_SIGNAL,
        stack_pointer: stack,
        parent_tid: GuestAddr(parent_tid),
        pidfd: GuestAddr(parent_tid),
        child_tid: GuestAddr(child_tid),
        tls,
        ..Default::default()
    };
    if request.flags & (flags::PIDFD | flags::PARENT_SETTID) == flags::PIDFD | flags::PARENT_SETTID {
        return Err(Errno::EINVAL);
    }
    start(thread, request)
}

/// `clone3(arguments, size)`.
pub fn clone3<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    [arguments, size, ..]: [u64; 6],
) -> SyscallResult {
    let request = read_clone3(thread.user(), GuestAddr(arguments), size)?;
    start(thread, request)
}

/// `copy_clone_args_from_user`.
fn read_clone3<B: IsolationBackend>(
    user: UserMemory<'_, B>,
    at: GuestAddr,
    size: u64,
) -> Result<CloneRequest, Errno> {
    const FIRST_VERSION: u64 = 64;
    const MAX_PID_NAMESPACES: u64 = 32;
    if size > endo_core::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_VERSION {
        return Err(Errno::EINVAL);
    }
    let bytes = user.read_bytes(at, size as usize)?;
    let known = size_of::<KernelCloneArgs>().min(bytes.len());
    if bytes[known..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let word = |index: usize| {
        let bytes = bytes[..known].get(index * 8..index * 8 + 8);
        bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    };
    let (flags, exit_signal) = (word(0), word(4));
    // `clone3_args_valid`: what the old call has in the low byte, but for one bit that is a namespace's now.
    const OLD: u64 = flags::DETACHED | 0xff & !(libc::CLONE_NEWTIME as u64);
    const NEW: u64 = flags::CLEAR_SIGHAND | flags::INTO_CGROUP | u32::MAX as u64;
    let tells_nobody = flags & (flags::THREAD | libc::CLONE_PARENT as u64) != 0;
    if flags & (OLD | !NEW) != 0 || tells_nobody && exit_signal != 0 {
        return Err(Errno::EINVAL);
    }
    let (stack, stack_size, set_tid, set_tid_size) = (word(5), word(6), word(8), word(9));
    let has_half_a_stack = (stack == 0) != (stack_size == 0);
    let has_half_a_tid_list = (set_tid == 0) != (set_tid_size == 0);
    if has_half_a_stack || has_half_a_tid_list || set_tid_size > MAX_PID_NAMESPACES {
        return Err(Errno::EINVAL);
    }
    Ok(CloneRequest {
        flags,
        pidfd: GuestAddr(word(1)),
        child_tid: GuestAddr(word(2)),
        parent_tid: GuestAddr(word(3)),
        exit_signal,
        stack_pointer: stack.wrapping_add(stack_size),
        tls: word(7),
        set_tid: user.read_array(GuestAddr(set_tid), set_tid_size as usize)?,
        cgroup: word(10),
    })
}

fn start<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    request: CloneRequest,
) -> SyscallResult {
    check(&request)?;
    let shares_memory = request.flags & flags::VM != 0;
    match () {
        () if request.flags & flags::THREAD != 0 => birth::start(thread, request),
        () if shares_memory && request.flags & flags::VFORK != 0 => vfork::start(thread, &request),
        () if shares_memory => {
            report_once("the program wants a process that shares its memory, which endo cannot run");
            Err(Errno::ENOSYS)
        }
        () => fork_process(thread, &request),
    }
}

/// What `copy_process` refuses, as far as the kernel will not see it itself.
fn check(request: &CloneRequest) -> Result<(), Errno> {
    let has = |flag| request.flags & flag == flag;
    let has_lonely_part =
        has(flags::THREAD) && !has(flags::SIGHAND) || has(flags::SIGHAND) && !has(flags::VM);
    let contradicts_itself =
        has(flags::SIGHAND | flags::CLEAR_SIGHAND) || has(flags::PIDFD | flags::DETACHED);
    let is_told = has(flags::THREAD) || valid_exit_signal(request);
    if has_lonely_part || contradicts_itself || !is_told {
        return Err(Errno::EINVAL);
    }
    // As with `unshare`: ids and /proc are to mean to the monitor what they mean to the guest.
    let wants_namespaces = !has(flags::THREAD) && request.flags & flags::NAMESPACES != 0;
    if wants_namespaces || has(flags::SETTLS) && request.tls >= ADDRESS_END {
        return Err(Errno::EPERM);
    }
    Ok(())
}

fn fork_process<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    request: &CloneRequest,
) -> SyscallResult {
    let process = thread.process;
    let mut pidfd = -1_i32;
    // A signal that is sent to the child before it has forgotten the parent's must wait.
    host::block_all();
    // Of all threads the child gets this one: what another was about to change must not stay half done.
    let locks = process.lock_all();
    if let Err(error) = process.backend.before_fork() {
        drop(locks);
        host::apply_mask(thread.signals.mask());
        report_once(&format!("a fork failed: {error}"));
        return Err(Errno::ENOMEM);
    }
    let forked = host_fork(request, &mut pidfd);
    if forked == Ok(0) {
        become_child(thread, locks);
        prepare_child(thread, request);
        return forked;
    }
    process.backend.after_fork_in_parent();
    drop(locks);
    host::apply_mask(thread.signals.mask());
    if let Ok(pid) = forked {
        report_to_parent(thread, request, pid as i32, pidfd);
    }
    forked
}

/// Forks the host process. Whatever the monitor does itself is left out.
fn host_fork(request: &CloneRequest, pidfd: &mut i32) -> SyscallResult {
    let host_flags = request.flags & !flags::OWN;
    let is_plain =
        host_flags == 0 && request.exit_signal == libc::SIGCHLD as u64 && request.set_tid.is_empty();
    if is_plain {
        // SAFETY: the child goes on as a copy of this thread, with all locks of the monitor's held by it. The C library's
        // own fork keeps its locks, its list of threads and its idea of the thread's id right.
        let pid = unsafe { libc::fork() };
        return if pid < 0 { Err(Errno::last()) } else { Ok(pid as u64) };
    }
    let arguments = KernelCloneArgs {
        flags: host_flags,
        pidfd: core::ptr::from_mut(pidfd) as u64,
        exit_signal: request.exit_signal,
        set_tid: if request.set_tid.is_empty() { 0 } else { request.set_tid.as_ptr() as u64 },
        set_tid_size: request.set_tid.len() as u64,
        cgroup: request.cgroup,
        ..Default::default()
    };
    let size = size_of::<KernelCloneArgs>() as u64;
    // SAFETY: without CLONE_VM the child is a copy that goes on from here, on its copy of the stack. The kernel reads
    // the arguments and the ids, and writes the descriptor.
    let clone =
        || unsafe { syscall6(libc::SYS_clone3 as u32, [&raw const arguments as u64, size, 0, 0, 0, 0]) };
    crate::backends::with_heap_held(clone)
}

/// Makes the monitor's state that of a forked child.
fn become_child<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    mut locks: AllLocks<'_>,
) {
    let process = thread.process;
    let backend = &process.backend;
    let is_ready = backend.after_fork_in_child().is_ok() && locks.memory.after_fork_in_child(backend).is_ok();
    if !is_ready {
        let mut line = Line::new();
        line.text("endo: internal error: a forked child cannot go on\n").write_to_stderr();
        super::Ending::Killed(libc::SIGKILL).finish();
    }
    process.live_on();
    if let Some(Borrowed { actions: Some(own) }) = thread.borrowed.take() {
        *locks.signals = own.into_inner().expect("no thread panics with the signal actions locked");
    }
    let gone = locks.threads.keep_only(host::thread_id(), Arc::clone(&thread.shared));
    for stack in gone.into_values().filter_map(|shared| shared.signal_stack) {
        // A thread that was borrowed runs on its lender's stack.
        if thread.shared.signal_stack != Some(stack) {
            // SAFETY: the process has just been forked, by a thread with another stack.
            unsafe { SignalStack::reclaim(stack) };
        }
    }
}

/// What a new process finds: its signals, its stack, its thread pointer, its thread id where it asked for it.
pub(super) fn prepare_child<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    request: &CloneRequest,
) {
    let has = |flag| request.flags & flag != 0;
    thread.signals.after_fork_in_child();
    if has(flags::CLEAR_SIGHAND) {
        thread.actions().clear_handlers();
    }
    if request.stack_pointer != 0 {
        thread.registers_mut().set_stack_pointer(request.stack_pointer);
    }
    if has(flags::SETTLS) {
        thread.registers_mut().set_thread_pointer(request.tls);
    }
    thread.shared.set_robust_list(RobustList::NONE);
    thread.clear_child_tid = if has(flags::CHILD_CLEARTID) { request.child_tid } else { GuestAddr(0) };
    if has(flags::CHILD_SETTID) {
        // SAFETY: no precondition.
        let tid = unsafe { libc::gettid() };
        // The kernel does not tell anybody when this fails (`schedule_tail`).
        let _ = thread.user().write(request.child_tid, &tid);
    }
}

/// Stores what the parent asked to be told. The kernel ignores failures of the first (`kernel_clone`).
pub(super) fn report_to_parent<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    request: &CloneRequest,
    pid: i32,
    pidfd: i32,
) {
    if request.flags & flags::PARENT_SETTID != 0 {
        let _ = thread.user().write(request.parent_tid, &pid);
    }
    if request.flags & flags::PIDFD != 0 {
        let _ = thread.user().write(request.pidfd, &pidfd);
    }
}

/// One line a process about what endo cannot do.
fn report_once(what: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static IS_REPORTED: AtomicBool = AtomicBool::new(false);
    if !IS_REPORTED.swap(true, Ordering::Relaxed) {
        let mut line = Line::new();
        line.text("endo: ").text(what).text("\n").write_to_stderr();
    }
}

/// Whether a child's end may be told by this signal. One that instructions raise would have the looks of a fault.
fn valid_exit_signal(request: &CloneRequest) -> bool {
    let is_plausible = |number| Signal::new(number).is_some_and(|signal| !signal.is_synchronous());
    request.exit_signal == 0 || i32::try_from(request.exit_signal).is_ok_and(is_plausible)
}

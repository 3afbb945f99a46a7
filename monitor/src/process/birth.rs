//! New threads: `clone` and `clone3` with `CLONE_THREAD`, as the C libraries and Go use them.
//!
//! Each guest thread is a host thread of its own, with the C library's thread-local storage and a small stack. The parent
//! does all that can fail and all that must be done before the first guest instruction, and opens the new thread's gate: most
//! often before that one has come so far, so that neither waits for the other.
//!
//! ```text
//! parent:  clone | stacks | pthread_create | list, ids | open the gate | result: the child's id
//! child:                                   | signal stack, backend | gate | run ... | leave
//! ```

use core::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use endo_core::{
    DomainId, GuestAddr, IsolationBackend, SignalStack, SpareSignalStack, SyscallMonitor, ThreadState,
};

use super::clone::{CloneRequest, flags};
use super::{Ending, Process, SharedState, leave, run};
use crate::errno::{Errno, SyscallResult};
use crate::memory::dump;
use crate::signal::{SigSet, keep_actions, line::Line};
use crate::thread::Thread;

/// What a new thread is made from. The host thread that becomes it owns it.
struct Birth<B: IsolationBackend, M: 'static> {
    process: &'static Process<B, M>,
    state: ThreadState,
    mask: SigSet,
    shared: Arc<SharedState>,
    stack: SpareSignalStack,
    clear_child_tid: GuestAddr,
    /// What it is not to share, and who waits to hear that it does not.
    own: Option<(i32, *const Answer)>,
    gate: Gate,
}

/// Starts a thread, and gives its id.
pub(super) fn start<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
    request: CloneRequest,
) -> SyscallResult {
    check(&request)?;
    // A child of `vfork` has its parent's memory, C library included, and that one's idea of who runs it.
    if thread.borrowed.is_some() {
        return Err(Errno::EAGAIN);
    }
    let process = thread.process.lasting().ok_or(Errno::EAGAIN)?;
    crate::signal::prepare_for_threads();
    crate::syscall::hidden::prepare_slots()?;
    let stack = SpareSignalStack::new().map_err(|_| Errno::EAGAIN)?;
    let shared = Arc::new(SharedState::on(Some(stack.id())));
    let has = |flag| request.flags & flag != 0;
    let own = (flags::FS | flags::FILES | flags::SYSVSEM) & !request.flags;
    let answer = Answer::default();
    let birth = Box::new(Birth {
        process,
        state: first_state(process.backend.state(&thread.guest), &request),
        mask: thread.signals.mask(),
        shared: Arc::clone(&shared),
        stack,
        clear_child_tid: if has(flags::CHILD_CLEARTID) { request.child_tid } else { GuestAddr(0) },
        own: (own != 0).then_some((own as i32, &raw const answer)),
        gate: Gate::default(),
    });
    let gate = &raw const birth.gate;
    let tid = start_host_thread(birth)?;
    let prepared = if own != 0 { answer.wait() } else { Ok(()) };
    let prepared = prepared.and_then(|()| if has(flags::PIDFD) { open_pidfd(tid) } else { Ok(-1) });
    if let Ok(pidfd) = prepared {
        process.threads.add(tid, shared);
        tell_ids(thread, &request, tid, pidfd);
    }
    // SAFETY: the thread waits for its gate, which lives until it has been opened.
    unsafe { Gate::open(gate, if prepared.is_ok() { Gate::OPEN } else { Gate::NOWHERE }) };
    prepared.map(|_| tid as u64)
}

/// The registers that a new thread starts with: its parent's, but for what it is to have of its own.
fn first_state(parent: &ThreadState, request: &CloneRequest) -> ThreadState {
    let mut state = parent.clone();
    state.registers.set_syscall_result(0);
    if request.stack_pointer != 0 {
        state.registers.set_stack_pointer(request.stack_pointer);
    }
    if request.flags & flags::SETTLS != 0 {
        state.registers.set_thread_pointer(request.tls);
    }
    state
}

/// A thread cannot have namespaces of its own, an id or a group of the guest's choice, or hold up its parent.
fn check(request: &CloneRequest) -> Result<(), Errno> {
    let is_known = request.flags & !flags::OF_THREADS == 0;
    if is_known && request.set_tid.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Starts a host thread that runs [`live`], with all signals blocked, and gives its id.
fn start_host_thread<B: IsolationBackend, M: SyscallMonitor>(birth: Box<Birth<B, M>>) -> Result<i32, Errno> {
    let attributes = Attributes::of_guest_threads()?;
    let birth = Box::into_raw(birth);
    let mut thread = MaybeUninit::uninit();
    let create = || {
        // SAFETY: the attributes are initialised and never changed; `live` takes the box over.
        unsafe {
            libc::pthread_create(
                thread.as_mut_ptr(),
                attributes.as_ptr(),
                live::<B, M>,
                birth.cast::<c_void>(),
            )
        }
    };
    let status = keep_actions(create);
    if status != 0 {
        // SAFETY: no thread was made, so the box is still this function's.
        drop(unsafe { Box::from_raw(birth) });
        return Err(Errno::EAGAIN);
    }
    // SAFETY: the call above has filled it.
    let thread = unsafe { thread.assume_init() };
    let mut clock = 0;
    // SAFETY: the thread does not end before its gate is open.
    unsafe { libc::pthread_getcpuclockid(thread, &raw mut clock) };
    // A thread's clock is named by the complement of its id (include/linux/posix-timers_types.h, `CPUCLOCK_PID`).
    Ok(!(clock >> 3))
}

/// The life of a host thread that runs a guest's.
extern "C" fn live<B: IsolationBackend, M: SyscallMonitor>(birth: *mut c_void) -> *mut c_void {
    // SAFETY: `start_host_thread` made the box and has left it to this thread.
    let birth = unsafe { Box::from_raw(birth.cast::<Birth<B, M>>()) };
    birth.part_with_what_is_not_shared();
    if let Ok(window) = birth.process.backend.window(DomainId::MAIN) {
        dump::leave_own_stack_out(window, Attributes::STACK as u64);
    }
    if birth.gate.pass() == Gate::NOWHERE {
        return ptr::null_mut();
    }
    let Some((mut thread, stack)) = birth.become_thread() else {
        let mut line = Line::new();
        line.text("endo: internal error: a new thread cannot start\n").write_to_stderr();
        Ending::Killed(libc::SIGKILL).finish();
    };
    let ending = run(&mut thread);
    if let Some(ending) = leave(thread, ending) {
        ending.finish();
    }
    // Signals wait: no handler runs on the stack, so that it may serve another thread.
    drop(stack);
    ptr::null_mut()
}

impl<B: IsolationBackend, M: SyscallMonitor> Birth<B, M> {
    /// Everything up to the first guest instruction.
    fn become_thread(self) -> Option<(Thread<'static, B, M>, SignalStack)> {
        let stack = self.stack.install().ok()?;
        let guest = self.process.backend.create_thread(DomainId::MAIN, self.state).ok()?;
        let mut thread = Thread::new(self.process, guest, self.mask, self.shared);
        thread.clear_child_tid = self.clear_child_tid;
        self.process.monitor.thread_started();
        Some((thread, stack))
    }

    /// The host thread shares everything; what the guest's is to have of its own becomes so.
    fn part_with_what_is_not_shared(&self) {
        let Some((own, answer)) = self.own else { return };
        // SAFETY: the call takes no pointer; the monitor's descriptors are in the copy of the table too.
        let status = unsafe { libc::unshare(own) };
        let answered = if status == 0 { Answer::DONE } else { -Errno::last().0 };
        // SAFETY: the parent keeps its answer until it has it.
        unsafe { Answer::give(answer, answered) };
    }
}

/// Stores the ids where the guest wants them. The kernel ignores what cannot be stored.
fn tell_ids<B: IsolationBackend, M: SyscallMonitor>(
    thread: &Thread<'_, B, M>,
    request: &CloneRequest,
    tid: i32,
    pidfd: i32,
) {
    let has = |flag| request.flags & flag != 0;
    let user = thread.user();
    if has(flags::PARENT_SETTID) {
        let _ = user.write(request.parent_tid, &tid);
    }
    if has(flags::CHILD_SETTID) {
        let _ = user.write(request.child_tid, &tid);
    }
    if has(flags::PIDFD) {
        let _ = user.write(request.pidfd, &pidfd);
    }
}

/// A descriptor for a thread. Kernels before 6.9 have none, and refuse the flag.
fn open_pidfd(tid: i32) -> Result<i32, Errno> {
    const PIDFD_THREAD: i32 = libc::O_EXCL;
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) };
    if fd < 0 { Err(Errno::last()) } else { Ok(fd as i32) }
}

/// What a new thread waits at until its parent is done with it.
#[derive(Debug, Default)]
struct Gate(AtomicU32);

impl Gate {
    const CLOSED: u32 = 0;
    /// Closed, and the thread sleeps.
    const AWAITED: u32 = 1;
    /// To the first guest instruction.
    const OPEN: u32 = 2;
    /// The thread is not to be after all.
    const NOWHERE: u32 = 3;

    /// Lets the thread through, to where `way` says.
    ///
    /// # Safety
    ///
    /// `gate` lives until this has been called, once.
    unsafe fn open(gate: *const Gate, way: u32) {
        // SAFETY: the caller's promise. The gate may be gone as soon as this is stored.
        let before = unsafe { &*gate }.0.swap(way, Ordering::AcqRel);
        if before == Gate::AWAITED {
            wake(gate.cast());
        }
    }

    /// Waits for the gate to open, and says where it leads.
    fn pass(&self) -> u32 {
        let _ = self.0.compare_exchange(Gate::CLOSED, Gate::AWAITED, Ordering::AcqRel, Ordering::Acquire);
        loop {
            match self.0.load(Ordering::Acquire) {
                Gate::AWAITED => sleep_while(self.0.as_ptr(), Gate::AWAITED),
                way => return way,
            }
        }
    }
}

/// What a new thread tells its parent, if that one waits for it: that it is done, or an errno, negated.
#[derive(Debug, Default)]
struct Answer(AtomicI32);

impl Answer {
    const DONE: i32 = 1;

    /// Gives an answer, once.
    ///
    /// # Safety
    ///
    /// `to` lives until it has an answer.
    unsafe fn give(to: *const Answer, value: i32) {
        // SAFETY: the caller's promise. The parent may be gone as soon as this is stored.
        unsafe { &*to }.0.store(value, Ordering::Release);
        wake(to.cast());
    }

    fn wait(&self) -> Result<(), Errno> {
        loop {
            match self.0.load(Ordering::Acquire) {
                0 => sleep_while(self.0.as_ptr().cast(), 0),
                Self::DONE => return Ok(()),
                errno => return Err(Errno(-errno)),
            }
        }
    }
}

/// Wakes who sleeps at a word, which may be gone: the kernel takes the address as a key and reads nothing, and where it is
/// another's by now, a waiter wakes for nothing, as any may.
fn wake(word: *const u32) {
    // SAFETY: nothing is read or written at the address.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

/// Sleeps while a word has this value; may come back early.
fn sleep_while(word: *mut u32, value: u32) {
    // SAFETY: the kernel reads the word, if it is there; without a timeout there is no other pointer.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, 0, 0) };
}

/// How the host's threads are made. Never changed once it is there.
struct Attributes(libc::pthread_attr_t);

// SAFETY: the C library reads attributes when it makes a thread, and nobody writes them.
unsafe impl Sync for Attributes {}
// SAFETY: they belong to no thread.
unsafe impl Send for Attributes {}

unsafe extern "C" {
    /// pthread_attr_setsigmask_np(3), glibc 2.32.
    fn pthread_attr_setsigmask_np(
        attributes: *mut libc::pthread_attr_t,
        mask: *const libc::sigset_t,
    ) -> libc::c_int;
}

impl Attributes {
    /// Bytes of a stack: the monitor's deepest path, many times over; lazily backed.
    const STACK: usize = 512 << 10;

    /// Detached, as nobody joins them; with all signals blocked, as they have no stack for handlers yet.
    fn of_guest_threads() -> Result<&'static Self, Errno> {
        static MADE: OnceLock<Option<Attributes>> = OnceLock::new();
        MADE.get_or_init(Self::new).as_ref().ok_or(Errno::EAGAIN)
    }

    fn new() -> Option<Self> {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let place = attributes.as_mut_ptr();
        // SAFETY: `place` has room for the attributes.
        let is_made = unsafe { libc::pthread_attr_init(place) } == 0;
        // SAFETY: the attributes are initialised.
        let is_sized = is_made && unsafe { libc::pthread_attr_setstacksize(place, Self::STACK) } == 0;
        let detached = libc::PTHREAD_CREATE_DETACHED;
        // SAFETY: as above.
        let is_detached = is_sized && unsafe { libc::pthread_attr_setdetachstate(place, detached) } == 0;
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set has room.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: the attributes are initialised, and so is the set.
        let is_masked = is_detached && unsafe { pthread_attr_setsigmask_np(place, all.as_ptr()) } == 0;
        // SAFETY: `pthread_attr_init` has succeeded.
        is_masked.then(|| Attributes(unsafe { attributes.assume_init() }))
    }

    fn as_ptr(&self) -> *const libc::pthread_attr_t {
        &raw const self.0
    }
}

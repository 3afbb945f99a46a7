//! New threads: `clone` and `clone3` with `CLONE_THREAD`, as the C libraries and Go use them.
//!
//! Each guest thread is a host thread of its own, with the C library's thread-local storage and a small stack. The new
//! thread does all that is to be done before its first guest instruction itself, and tells the one that asked for
//! it how that went:
//!
//! ```text
//! parent:  clone | pthread_create | wait ......................... | result: the child's id
//! child:                          | signal stack, backend, list, ids | answer | run ... | leave
//! ```

use core::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use endo_core::{DomainId, GuestAddr, IsolationBackend, SignalStack, SyscallMonitor, ThreadState};

use super::clone::{CloneRequest, flags};
use super::{Process, SharedState, leave, run};
use crate::errno::{Errno, SyscallResult};
use crate::signal::{SigSet, host};
use crate::thread::Thread;

/// What a new thread is made from. The host thread that becomes it owns it.
struct Birth<B: IsolationBackend, M: 'static> {
    process: &'static Process<B, M>,
    state: ThreadState,
    mask: SigSet,
    request: CloneRequest,
    /// On the stack of the parent, which waits for it.
    answer: *const Answer,
}

/// Starts a thread, and gives its id once it is there.
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
    let mut state = process.backend.state(&thread.guest).clone();
    state.registers.set_syscall_result(0);
    if request.stack_pointer != 0 {
        state.registers.set_stack_pointer(request.stack_pointer);
    }
    if request.flags & flags::SETTLS != 0 {
        state.registers.set_thread_pointer(request.tls);
    }
    crate::signal::prepare_for_threads();
    let answer = Answer::default();
    let birth = Birth { process, state, mask: thread.signals.mask(), request, answer: &raw const answer };
    start_host_thread(Box::new(birth))?;
    answer.wait()
}

/// A thread cannot have namespaces of its own, an id or a group of the guest's choice, or hold up its parent.
fn check(request: &CloneRequest) -> Result<(), Errno> {
    let is_known = request.flags & !flags::OF_THREADS == 0;
    if is_known && request.set_tid.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Starts a host thread that runs [`live`], with all signals blocked.
fn start_host_thread<B: IsolationBackend, M: SyscallMonitor>(birth: Box<Birth<B, M>>) -> Result<(), Errno> {
    let attributes = Attributes::of_guest_threads()?;
    let birth = Box::into_raw(birth);
    let mut id = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised and never changed; `live` takes the box over.
    let status = unsafe {
        libc::pthread_create(id.as_mut_ptr(), attributes.as_ptr(), live::<B, M>, birth.cast::<c_void>())
    };
    if status != 0 {
        // SAFETY: no thread was made, so the box is still this function's.
        drop(unsafe { Box::from_raw(birth) });
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// The life of a host thread that runs a guest's.
extern "C" fn live<B: IsolationBackend, M: SyscallMonitor>(birth: *mut c_void) -> *mut c_void {
    // SAFETY: `start_host_thread` made the box and has left it to this thread.
    let birth = unsafe { Box::from_raw(birth.cast::<Birth<B, M>>()) };
    let answer = birth.answer;
    match birth.become_thread() {
        Ok((mut thread, stack)) => {
            // SAFETY: the parent keeps its answer until it has it.
            unsafe { Answer::give(answer, host::thread_id()) };
            let ending = run(&mut thread);
            if let Some(ending) = leave(thread, ending) {
                ending.finish();
            }
            // From here on no handler runs, so that the stack may serve another thread.
            host::set_exact_mask(SigSet::FULL);
            drop(stack);
        }
        // SAFETY: as above.
        Err(errno) => unsafe { Answer::give(answer, -errno.0) },
    }
    ptr::null_mut()
}

impl<B: IsolationBackend, M: SyscallMonitor> Birth<B, M> {
    /// Everything up to the first guest instruction.
    fn become_thread(self) -> Result<(Thread<'static, B, M>, SignalStack), Errno> {
        let Birth { process, state, mask, request, .. } = self;
        part_with_what_is_not_shared(&request)?;
        let stack = SignalStack::install().map_err(|_| Errno::EAGAIN)?;
        let guest = process.backend.create_thread(DomainId::MAIN, state).map_err(|_| Errno::EAGAIN)?;
        let shared = Arc::new(SharedState::on(Some(stack.id())));
        let tid = host::thread_id();
        let pidfd = if request.flags & flags::PIDFD != 0 { open_pidfd(tid)? } else { -1 };
        process.threads.add(tid, Arc::clone(&shared));
        let mut thread = Thread::new(process, guest, mask, shared);
        tell_ids(&mut thread, &request, tid, pidfd);
        process.monitor.thread_started();
        Ok((thread, stack))
    }
}

/// The host thread shares everything; what the guest's is to have of its own becomes so.
fn part_with_what_is_not_shared(request: &CloneRequest) -> Result<(), Errno> {
    let own = (flags::FS | flags::FILES | flags::SYSVSEM) & !request.flags;
    if own == 0 {
        return Ok(());
    }
    // SAFETY: the call takes no pointer; the monitor's descriptors are in the copy of the table too.
    if unsafe { libc::unshare(own as i32) } == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// Stores the ids where the guest wants them, both before the thread runs. The kernel ignores what cannot be stored.
fn tell_ids<B: IsolationBackend, M: SyscallMonitor>(
    thread: &mut Thread<'_, B, M>,
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
    thread.clear_child_tid = if has(flags::CHILD_CLEARTID) { request.child_tid } else { GuestAddr(0) };
}

/// A descriptor for a thread. Kernels before 6.9 have none, and refuse the flag.
fn open_pidfd(tid: i32) -> Result<i32, Errno> {
    const PIDFD_THREAD: i32 = libc::O_EXCL;
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) };
    if fd < 0 { Err(Errno::last()) } else { Ok(fd as i32) }
}

/// What a new thread tells its parent: its id, or why it is none.
#[derive(Debug, Default)]
struct Answer(AtomicI32);

impl Answer {
    /// Gives an answer, once.
    ///
    /// # Safety
    ///
    /// `to` lives until it has an answer.
    unsafe fn give(to: *const Answer, value: i32) {
        // SAFETY: the caller's promise. The parent may be gone as soon as this is stored.
        unsafe { &*to }.0.store(value, Ordering::Release);
        // SAFETY: the kernel takes the address as a key and reads nothing; if it is another's by now, a waiter there
        // wakes for nothing, as any may.
        unsafe { libc::syscall(libc::SYS_futex, to, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
    }

    fn wait(&self) -> SyscallResult {
        loop {
            match self.0.load(Ordering::Acquire) {
                0 => {}
                tid if tid > 0 => return Ok(tid as u64),
                errno => return Err(Errno(-errno)),
            }
            let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: the word lives as long as `self`; without a timeout there is no other pointer.
            unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, 0, 0) };
        }
    }
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

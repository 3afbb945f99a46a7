//! The guest's threads, and how all of them are brought out of emitted code.
//!
//! Translating, linking and retiring code need no more than the engine's lock: what other threads run meanwhile stays where
//! it is, a link is one atomic store, and a retired fragment is left at its next branch. Only when the cache has to be
//! cleared must nobody be inside it. A thread is *inside* from the moment that it knows an address to go on at until it
//! has left, and has read off the index where the guest stood; both ends of that are under the engine's lock or announce
//! themselves. Who clears the cache says so ([`Stop`]), interrupts those inside, and waits; nobody gets
//! in before it is over.
//!
//! A thread that sleeps in a system call, made by the gate between two guest instructions, is not interrupted: the call
//! would fail with EINTR. It is told that what it knows of the cache is stale, and finds out when the call is over:
//!
//! ```text
//!   the thread                           who clears the cache
//!   in_call = 1                          is_stale = 1
//!   syscall                              membarrier: a full barrier on both sides
//!   in_call = 0                          in_call?  1: it will see is_stale
//!   is_stale?  1: leave                            0: interrupt it
//! ```

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

use crate::SfiBackend;
use crate::context::{self, Context};
use crate::engine::Engine;

/// `si_code` of the signal that interrupts a thread: none of the kernel's, and negative, as it wants of user code.
const INTERRUPT_CODE: i32 = -7001;
/// A signal that the monitor takes from the kernel whatever the guest does about it.
const INTERRUPT_SIGNAL: i32 = libc::SIGSYS;
/// After this long, threads that are still inside are interrupted once more.
const PATIENCE: Duration = Duration::from_millis(20);

/// The host threads that run guest threads of one backend.
#[derive(Debug, Default)]
pub struct Threads {
    members: Vec<Member>,
}

/// One of them.
#[derive(Debug)]
struct Member {
    tid: i32,
    /// The child of `vfork` that runs in its place: another process, in the same memory.
    borrower: Option<i32>,
    context: *const Context,
}

// SAFETY: of a context that is another thread's only `inside`, `in_call` and `is_stale` are looked at, which are atomic; and a
// member leaves the list, under its lock, before its thread and with it the context goes away.
unsafe impl Send for Threads {}

impl Threads {
    /// Takes in the calling thread.
    pub fn enrol(&mut self) {
        self.dismiss();
        // SAFETY: no precondition.
        let tid = unsafe { libc::gettid() };
        self.members.push(Member { tid, borrower: None, context: context::current() });
    }

    /// Forgets the calling thread.
    pub fn dismiss(&mut self) {
        let own = context::current().cast_const();
        self.members.retain(|member| member.context != own);
    }

    /// Forgets all others: in a forked child, which has the calling thread alone.
    pub fn keep_own(&mut self) {
        self.members.clear();
        self.enrol();
    }

    /// Whether there are others than the calling thread.
    pub fn are_others(&self) -> bool {
        let own = context::current().cast_const();
        self.members.iter().any(|member| member.context != own)
    }

    /// Says which task runs the calling thread's guest, if it is not the thread itself: a child of `vfork`.
    pub fn lend(&mut self, to: Option<i32>) {
        let own = context::current().cast_const();
        for member in self.members.iter_mut().filter(|member| member.context == own) {
            member.borrower = to;
        }
    }

    /// Interrupts the other threads that are inside and not in a call. False if there are none.
    fn interrupt_those_inside(&self) -> bool {
        let own = context::current().cast_const();
        let others = self.members.iter().filter(|member| member.context != own);
        let inside: Vec<&Member> = others.filter(|member| member.is(Flag::Inside)).collect();
        inside.iter().for_each(|member| member.set_stale());
        let is_seen = !inside.is_empty() && order_all_threads();
        let mut found = false;
        for member in inside {
            if is_seen && member.is(Flag::InCall) {
                continue;
            }
            found = true;
            // SAFETY: no precondition.
            let own_process = unsafe { libc::getpid() };
            interrupt(member.borrower.unwrap_or(own_process), member.borrower.unwrap_or(member.tid));
        }
        found
    }
}

/// What others may ask about a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flag {
    Inside,
    InCall,
}

impl Member {
    fn is(&self, flag: Flag) -> bool {
        // SAFETY: the member is listed, so its context is there; the field is atomic.
        let inside = unsafe { &(*self.context).inside };
        // SAFETY: likewise.
        let in_call = unsafe { &(*self.context).in_call };
        let asked = if flag == Flag::Inside { inside } else { in_call };
        asked.load(Ordering::SeqCst)
    }

    fn set_stale(&self) {
        // SAFETY: likewise.
        unsafe { &(*self.context).is_stale }.store(true, Ordering::SeqCst);
    }
}

/// Has every thread that shares this memory pass a full barrier. False if the kernel cannot.
fn order_all_threads() -> bool {
    const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    const PRIVATE_EXPEDITED: i32 = 1 << 3;
    let ask = |command: i32| {
        // SAFETY: the call takes no pointer.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    };
    ask(PRIVATE_EXPEDITED) || ask(REGISTER_PRIVATE_EXPEDITED) && ask(PRIVATE_EXPEDITED)
}

/// Makes a thread leave emitted code.
fn interrupt(process: i32, tid: i32) {
    // SAFETY: an all-zero siginfo is valid.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    info.si_signo = INTERRUPT_SIGNAL;
    info.si_code = INTERRUPT_CODE;
    // SAFETY: the kernel reads the siginfo. A thread that has just ended is not found, which is as good.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, tid, INTERRUPT_SIGNAL, &raw const info) };
}

/// Whether a signal is an interruption of [`interrupt`]. A guest that sends one itself interrupts itself.
pub(crate) fn is_interruption(info: &libc::siginfo_t) -> bool {
    info.si_signo == INTERRUPT_SIGNAL && info.si_code == INTERRUPT_CODE
}

/// Who waits for whom when the cache is cleared.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_wanted: AtomicBool,
    changed: Condvar,
}

impl SfiBackend {
    /// Waits until nobody clears the cache. The calling thread is outside.
    fn wait_for_entry<'a>(&self, mut engine: MutexGuard<'a, Engine>) -> MutexGuard<'a, Engine> {
        while self.stop.is_wanted.load(Ordering::SeqCst) {
            engine = self.stop.changed.wait(engine).unwrap_or_else(PoisonError::into_inner);
        }
        engine
    }

    /// The engine, for a thread that is about to look up where the guest goes on: with room for what it may have to
    /// translate. From here on the thread counts as inside, whatever comes of it.
    pub(crate) fn engine_to_enter(&self, context: &Context) -> MutexGuard<'_, Engine> {
        let engine = self.engine();
        self.stay(context, engine)
    }

    /// Likewise with the engine already locked, for a thread that may be inside. What it knew of addresses in the cache is
    /// void afterwards.
    pub(crate) fn stay<'a>(
        &'a self,
        context: &Context,
        mut engine: MutexGuard<'a, Engine>,
    ) -> MutexGuard<'a, Engine> {
        if self.stop.is_wanted.load(Ordering::SeqCst) || !engine.has_room() {
            context.inside.store(false, Ordering::SeqCst);
            self.stop.changed.notify_all();
            engine = self.wait_for_entry(engine);
            if !engine.has_room() {
                engine = self.clear(engine);
            }
        }
        // A child of `vfork` that was killed in a call may have left this.
        context.in_call.store(false, Ordering::SeqCst);
        context.inside.store(true, Ordering::SeqCst);
        // Nobody clears the cache now, and whatever the thread knows from here on is fresh.
        context.is_stale.store(false, Ordering::Relaxed);
        engine
    }

    /// The thread has left emitted code, and what is known of the guest needs no index any more.
    pub(crate) fn leave(&self, context: &Context, _locked: &MutexGuard<'_, Engine>) {
        context.inside.store(false, Ordering::SeqCst);
        // Whoever waits wanted it before, with the lock held; to notify nobody costs a system call.
        if self.stop.is_wanted.load(Ordering::SeqCst) {
            self.stop.changed.notify_all();
        }
    }

    /// Likewise, without the lock.
    pub(crate) fn leave_unlocked(&self, context: &Context) {
        context.inside.store(false, Ordering::SeqCst);
        if self.stop.is_wanted.load(Ordering::SeqCst) {
            // Who looks and then waits must not miss it.
            self.leave(context, &self.engine());
        }
    }

    /// Ends a change of guest code or memory: if it ran out of room on its way, everything that was translated goes. The
    /// calling thread is outside, or void of addresses in the cache.
    pub(crate) fn settle<'a>(&'a self, engine: MutexGuard<'a, Engine>) -> MutexGuard<'a, Engine> {
        if engine.is_overfull() { self.clear(engine) } else { engine }
    }

    /// Clears the cache once nobody else is inside.
    fn clear<'a>(&'a self, engine: MutexGuard<'a, Engine>) -> MutexGuard<'a, Engine> {
        let mut engine = self.wait_for_entry(engine);
        if engine.has_room() && !engine.is_overfull() {
            return engine;
        }
        self.stop.is_wanted.store(true, Ordering::SeqCst);
        while self.threads().interrupt_those_inside() {
            let waited = self.stop.changed.wait_timeout(engine, PATIENCE);
            engine = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        engine.flush();
        self.stop.is_wanted.store(false, Ordering::SeqCst);
        self.stop.changed.notify_all();
        engine
    }
}

/// The locks that a forking thread holds, so that the child finds what they protect in order.
#[derive(Default)]
pub(crate) struct HeldOverFork(UnsafeCell<Option<Locks<'static>>>);

type Locks<'a> = (MutexGuard<'a, Engine>, MutexGuard<'a, Threads>);

// SAFETY: the cell is used by the thread that holds the engine's lock alone: `hold` is given the guard, and `release` is for
// the thread that has called `hold`.
unsafe impl Send for HeldOverFork {}
// SAFETY: as above.
unsafe impl Sync for HeldOverFork {}

impl HeldOverFork {
    /// Keeps the locks until [`HeldOverFork::release`], which the same thread calls, in the parent and in the child.
    pub(crate) fn hold(&self, engine: MutexGuard<'_, Engine>, threads: MutexGuard<'_, Threads>) {
        // SAFETY: the guards belong to the backend that this is a part of, and are gone before it is: a fork ends.
        let locks = unsafe { core::mem::transmute::<Locks<'_>, Locks<'static>>((engine, threads)) };
        // SAFETY: see the implementation of `Sync`.
        unsafe { *self.0.get() = Some(locks) };
    }

    /// The locks, if they are held.
    pub(crate) fn release(&self) -> Option<Locks<'_>> {
        // SAFETY: see the implementation of `Sync`.
        unsafe { (*self.0.get()).take() }
    }
}

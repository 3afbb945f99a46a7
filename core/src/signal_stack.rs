//! Alternate signal stacks that tell a signal handler whose thread it runs on.
//!
//! Where guest code runs natively, a host signal handler starts with the *guest's* thread pointer, so that nothing that
//! uses thread-local storage may run before the host's own is back. The one register that the kernel itself has set by
//! then is the stack pointer. So a [`SignalStack`] is as large as it is aligned, and the lowest word of that block holds
//! the host's thread pointer:
//!
//! ```text
//! base                 base + 1 page        base + 2 pages                         base + SIZE
//! | thread pointer ... | not accessible ... | stack, growing down <--- frame | .... |
//! ```
//!
//! An entry stub masks the stack pointer by [`SignalStack::SIZE`] and loads the word, without any other register; see
//! [`IsolationBackend::signal_entry`](crate::IsolationBackend::signal_entry). Backends whose guests run on the host's
//! thread pointer need no stub; their handlers run on the same stacks all the same.
//!
//! A stack that is dropped waits in a small pool for the next thread.

use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{HostAddr, PAGE_SIZE, arch};

/// A handler as `sigaction` takes it with `SA_SIGINFO`.
pub type SignalHandler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The alternate signal stack of the host thread that installed it; dropping it takes it away again.
#[derive(Debug)]
pub struct SignalStack {
    base: HostAddr,
    // The kernel knows a signal stack by thread.
    not_send: PhantomData<*mut ()>,
}

/// A signal stack for a thread that is about to be.
#[derive(Debug)]
pub struct SpareSignalStack {
    base: HostAddr,
}

impl SpareSignalStack {
    /// Makes one, or takes one that waits.
    pub fn new() -> io::Result<Self> {
        let base = pool::take().map_or_else(SignalStack::reserve, Ok)?;
        Ok(SpareSignalStack { base })
    }

    /// Makes it the calling thread's.
    pub fn install(self) -> io::Result<SignalStack> {
        let stack = SignalStack { base: self.base, not_send: PhantomData };
        core::mem::forget(self);
        let header = Header { thread_pointer: arch::host_thread_pointer(), magic: SignalStack::MAGIC };
        // SAFETY: the header's page is mapped and writable, aligned, and not yet anybody else's.
        unsafe { stack.base.as_ptr::<Header>().write(header) };
        set_alternate_stack(&libc::stack_t {
            ss_sp: HostAddr(stack.base.0 + SignalStack::STACK_OFFSET).as_ptr(),
            ss_flags: 0,
            ss_size: SignalStack::SIZE - SignalStack::STACK_OFFSET,
        })?;
        Ok(stack)
    }

    /// What [`SignalStack::reclaim`] wants.
    pub fn id(&self) -> SignalStackId {
        SignalStackId(self.base)
    }
}

impl Drop for SpareSignalStack {
    fn drop(&mut self) {
        give_up(self.base);
    }
}

/// Which [`SignalStack`] it was, without owning it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalStackId(HostAddr);

/// What lies at a signal stack's base.
#[repr(C)]
struct Header {
    thread_pointer: u64,
    magic: u64,
}

impl SignalStack {
    /// Size and alignment in bytes; lazily backed. AVX-512 and AMX state makes a frame of 14 KiB.
    pub const SIZE: usize = 256 << 10;

    /// Where the host's thread pointer lies, counted from the base.
    pub const THREAD_POINTER_OFFSET: usize = core::mem::offset_of!(Header, thread_pointer);

    const MAGIC: u64 = u64::from_le_bytes(*b"endosigs");
    const PAGE: usize = PAGE_SIZE as usize;
    const STACK_OFFSET: usize = 2 * Self::PAGE;

    /// Gives the calling thread an alternate signal stack.
    pub fn install() -> io::Result<Self> {
        SpareSignalStack::new()?.install()
    }

    /// Whether the calling thread's alternate stack is one of these.
    pub fn is_installed() -> bool {
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut current: libc::stack_t = unsafe { core::mem::zeroed() };
        // SAFETY: a null new stack changes nothing; `current` is writable.
        let status = unsafe { libc::sigaltstack(ptr::null(), &raw mut current) };
        let base = (current.ss_sp as usize).wrapping_sub(Self::STACK_OFFSET);
        let shape_fits = status == 0
            && current.ss_flags & libc::SS_DISABLE == 0
            && current.ss_size == Self::SIZE - Self::STACK_OFFSET
            && base.is_multiple_of(Self::SIZE);
        // SAFETY: another owner's stack of exactly this size and alignment could lack a header page below it, but no
        // other code in this process makes such a stack; one of ours has its header mapped while it is installed.
        shape_fits && unsafe { HostAddr(base).as_ptr::<Header>().read() }.magic == Self::MAGIC
    }

    /// Takes over the stack of a thread that a fork has not brought along.
    ///
    /// # Safety
    ///
    /// The process has been forked since the stack was installed, and the thread that forked was another one. Nobody
    /// reclaims the stack twice.
    pub unsafe fn reclaim(id: SignalStackId) {
        give_up(id.0);
    }

    /// Maps an aligned block with its guard page.
    fn reserve() -> io::Result<HostAddr> {
        let (rights, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a mapping wherever the kernel likes touches nothing that exists.
        let address = unsafe { libc::mmap(ptr::null_mut(), 2 * Self::SIZE, rights, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = address as usize;
        let base = start.next_multiple_of(Self::SIZE);
        unmap(start, base - start);
        unmap(base + Self::SIZE, start + Self::SIZE - base);
        // SAFETY: the page was mapped above and nothing uses it.
        let status =
            unsafe { libc::mprotect(HostAddr(base + Self::PAGE).as_ptr(), Self::PAGE, libc::PROT_NONE) };
        if status != 0 {
            let error = io::Error::last_os_error();
            unmap(base, Self::SIZE);
            return Err(error);
        }
        Ok(HostAddr(base))
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // Refused only from a handler that runs on this very stack: then it must stay.
        if set_alternate_stack(&none).is_ok() {
            give_up(self.base);
        }
    }
}

/// Keeps a stack that nobody uses for the next thread, or unmaps it.
fn give_up(base: HostAddr) {
    if !pool::put(base) {
        unmap(base.0, SignalStack::SIZE);
    }
}

/// Stacks without a thread. No lock: a fork finds it in order whatever other threads are doing.
mod pool {
    use super::{AtomicUsize, HostAddr, Ordering};

    /// Most threads come and go a few at a time.
    const SLOTS: usize = 32;
    static FREE: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];

    pub(super) fn take() -> Option<HostAddr> {
        let taken = FREE.iter().map(|slot| match slot.load(Ordering::Relaxed) {
            0 => 0,
            _ => slot.swap(0, Ordering::Acquire),
        });
        taken.into_iter().find(|&base| base != 0).map(HostAddr)
    }

    /// Whether there was room.
    pub(super) fn put(base: HostAddr) -> bool {
        let fill = |slot: &AtomicUsize| {
            slot.compare_exchange(0, base.0, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        FREE.iter().any(fill)
    }
}

fn set_alternate_stack(stack: &libc::stack_t) -> io::Result<()> {
    // SAFETY: the caller names a stack that it owns, or none.
    match unsafe { libc::sigaltstack(stack, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Unmaps part of a block that this module mapped and that is not used any more.
fn unmap(start: usize, length: usize) {
    if length > 0 {
        // SAFETY: the range belongs to this module's mapping; failure leaves it mapped, which harms nobody.
        unsafe { libc::munmap(HostAddr(start).as_ptr(), length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_stack_is_recognised_until_it_is_dropped() {
        // A thread of its own: libtest's threads may have an alternate stack already.
        std::thread::spawn(|| {
            assert!(!SignalStack::is_installed());
            let stack = SignalStack::install().unwrap();
            assert!(SignalStack::is_installed());
            drop(stack);
            assert!(!SignalStack::is_installed());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_dropped_stack_serves_another_thread() {
        let install = || {
            std::thread::spawn(|| {
                let stack = SignalStack::install().unwrap();
                assert!(SignalStack::is_installed());
                stack.base.0
            })
        };
        let bases: std::collections::BTreeSet<usize> = (0..20).map(|_| install().join().unwrap()).collect();
        // Other tests take stacks at the same time, but never twenty new ones.
        assert!(bases.len() < 20, "{bases:x?}");
    }

    #[test]
    fn the_base_holds_the_thread_pointer() {
        std::thread::spawn(|| {
            let stack = SignalStack::install().unwrap();
            // SAFETY: the header is mapped while the stack is installed.
            let word = unsafe { stack.base.as_ptr::<u64>().read() };
            assert_eq!(word, arch::host_thread_pointer());
            assert_eq!(stack.base.0 % SignalStack::SIZE, 0);
        })
        .join()
        .unwrap();
    }
}

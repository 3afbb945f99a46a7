//! The null backend on x86-64. The files below: [`dispatch`] arms Syscall User Dispatch, [`frame`] lays out the signal
//! frame that enters a guest, [`switch`] holds the assembly.

mod dispatch;
mod frame;
mod switch;

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;

use self::frame::SignalFrame;
use crate::fault::{SYS_USER_DISPATCH, fault_from_signal};
use crate::native::dispatch::is_native_call;
use crate::native::frame::{VectorFrame, take_state};
use crate::native::{canonical_or_zero, entry, requirements};
use crate::{
    Against, BackendConfig, BackendError, CodeSource, Confinement, DomainId, Exit, Fault, FaultKind,
    GuestAddr, GuestRange, HostAddr, HostRange, IsolationBackend, PAGE_SIZE, Properties, Rights,
    SignalHandler, SignalRoute, SignalStack, ThreadState, Unavailable,
};

/// Where guests live: above what Linux lets nobody map, below where a position-independent host and its libraries are.
const WINDOW_START: u64 = 0x1_0000;
const WINDOW_END: u64 = 0x4000_0000_0000;

/// Runs guests natively, with system calls captured and nothing confined.
#[derive(Debug)]
pub struct NullBackend {
    window: GuestRange,
}

/// A guest thread: its state, and what is needed to enter and leave it.
#[derive(Debug)]
pub struct NullThread {
    state: ThreadState,
    frame: SignalFrame,
    vector: VectorFrame,
    entry: switch::Entry,
    exit: Exit,
    // Dispatch is armed for one host thread.
    not_send: PhantomData<*mut ()>,
}

thread_local! {
    // Constant initialisers and no destructors: plain loads and stores, which a signal handler may do.
    /// The guest thread that `run` is running on this host thread.
    static RUNNING: Cell<*mut NullThread> = const { Cell::new(ptr::null_mut()) };
    /// The FS base of the guest that the signal being handled has interrupted.
    static INTERRUPTED: Cell<Option<u64>> = const { Cell::new(None) };
    /// A signal came while no guest ran.
    static PENDING: Cell<bool> = const { Cell::new(false) };
}

/// Called first in every host signal handler. Async-signal-safe.
fn note_arrival(interrupted_thread_pointer: u64) {
    INTERRUPTED.set(dispatch::open().then_some(interrupted_thread_pointer));
}

// SAFETY: contract 1: `properties` claims the capture of honest system calls only as a caveat and confinement of
// nothing. 2 and 3: nothing is confined, so nothing is broken; `host_range` is the window's own arithmetic. 4: `enter`
// saves and restores all callee-saved registers, the stack and both segment bases; MXCSR and the x87 control word come
// back in their default state, which is what the host runs with; the signal mask is the leaving frame's, which is the
// caller's. 5: registers come from the kernel's signal frame. 6: see `run`. 7: memory is private to each process.
unsafe impl IsolationBackend for NullBackend {
    const NAME: &'static str = "null";

    type Thread = NullThread;

    fn probe() -> Result<Properties, Unavailable> {
        let reasons = requirements::missing();
        if !reasons.is_empty() {
            return Err(Unavailable { reasons });
        }
        Ok(Properties {
            confinement: Confinement::empty(),
            against: Against::Nobody,
            max_domains: 1,
            address_space: WINDOW_END - WINDOW_START,
            caveats: vec!["isolates nothing: for tests and as a baseline of measurements"],
        })
    }

    fn new(_config: BackendConfig) -> Result<Self, BackendError> {
        Self::probe()?;
        let window = GuestRange::from_bounds(GuestAddr(WINDOW_START), GuestAddr(WINDOW_END));
        Ok(NullBackend { window: window.expect("the bounds are in order") })
    }

    fn properties(&self) -> Properties {
        Self::probe().expect("the backend exists, so its probe succeeded")
    }

    fn window(&self, domain: DomainId) -> Result<GuestRange, BackendError> {
        if domain == DomainId::MAIN { Ok(self.window) } else { Err(BackendError::NoDomain(domain)) }
    }

    fn host_range(&self, domain: DomainId, range: GuestRange) -> Option<HostRange> {
        let inside = domain == DomainId::MAIN && self.window.encloses(range);
        inside
            .then_some(HostRange { start: HostAddr(range.start().0 as usize), length: range.len() as usize })
    }

    fn page_rights(&self, rights: Rights) -> Rights {
        rights
    }

    fn create_domain(&self) -> Result<DomainId, BackendError> {
        Err(BackendError::Unsupported { backend: Self::NAME, what: "create a second domain" })
    }

    fn destroy_domain(&self, domain: DomainId) -> Result<(), BackendError> {
        match domain {
            DomainId::MAIN => {
                Err(BackendError::Unsupported { backend: Self::NAME, what: "destroy the main domain" })
            }
            _ => Err(BackendError::NoDomain(domain)),
        }
    }

    fn assign(&self, domain: DomainId, range: GuestRange, _rights: Rights) -> Result<(), BackendError> {
        self.check(domain, range)
    }

    fn share(
        &self,
        from: DomainId,
        range: GuestRange,
        to: DomainId,
        _rights: Rights,
    ) -> Result<(), BackendError> {
        self.check(from, range)?;
        self.check(to, range)
    }

    fn revoke(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        self.check(domain, range)
    }

    fn admit_code(
        &self,
        domain: DomainId,
        range: GuestRange,
        _source: CodeSource,
    ) -> Result<(), BackendError> {
        self.check(domain, range)
    }

    fn retire_code(&self, _domain: DomainId, _range: GuestRange) {}

    fn before_write(&self, _domain: DomainId, _range: GuestRange) {}

    fn create_thread(&self, domain: DomainId, state: ThreadState) -> Result<NullThread, BackendError> {
        self.window(domain)?;
        if !SignalStack::is_installed() {
            let source = io::ErrorKind::NotFound.into();
            return Err(BackendError::Host { what: "find the host thread's signal stack", source });
        }
        dispatch::arm().map_err(cannot_arm)?;
        let frame = SignalFrame::new();
        let entry = switch::Entry {
            frame: ptr::null(),
            selector: dispatch::selector(),
            fs_base: 0,
            gs_base: 0,
            host_stack_pointer: 0,
        };
        let vector = VectorFrame::new();
        Ok(NullThread { state, frame, vector, entry, exit: Exit::Interrupted, not_send: PhantomData })
    }

    fn state<'a>(&self, thread: &'a NullThread) -> &'a ThreadState {
        &thread.state
    }

    fn state_mut<'a>(&self, thread: &'a mut NullThread) -> &'a mut ThreadState {
        &mut thread.state
    }

    /// With all signals blocked there is no moment between the last look at `PENDING` and the guest's first
    /// instruction at which one could be lost: the kernel unblocks them as it enters the guest.
    fn run(&self, thread: &mut NullThread) -> Exit {
        thread.frame.signal_mask = block_signals();
        if PENDING.take() {
            restore_signals(thread.frame.signal_mask);
            return Exit::Interrupted;
        }
        thread.frame.set(&thread.state, &mut thread.vector);
        thread.entry.fs_base = canonical_or_zero(thread.state.registers.fs_base);
        thread.entry.gs_base = canonical_or_zero(thread.state.registers.gs_base);
        let thread: *mut NullThread = thread;
        // SAFETY: `thread` is valid, and so is the field's place.
        let frame = unsafe { &raw const (*thread).frame };
        // SAFETY: as above.
        unsafe { (*thread).entry.frame = frame };
        RUNNING.set(thread);
        // SAFETY: `thread` is valid, and so is the field's place.
        let entry = unsafe { &raw mut (*thread).entry };
        // SAFETY: signals are blocked, `create_thread` armed dispatch on this host thread and saw its signal stack, and
        // the frame is filled in. The handler changes `*thread` only through `RUNNING`, which is this very pointer.
        unsafe { switch::enter(entry) };
        RUNNING.set(ptr::null_mut());
        // SAFETY: valid as above; the handler has left.
        unsafe { (*thread).exit }
    }

    fn signal_entry(handler: SignalHandler) -> SignalHandler {
        entry::install(handler, note_arrival)
    }

    unsafe fn on_signal(
        &self,
        synchronous: bool,
        info: &mut libc::siginfo_t,
        context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        let (Some(fs_base), running) = (INTERRUPTED.take(), RUNNING.get()) else {
            if !synchronous {
                PENDING.set(true);
            }
            return SignalRoute::Outside;
        };
        // SAFETY: the selector was closed, so `run` is active on this host thread and its thread lives; `run` does not
        // touch it before the handler has returned.
        let thread = unsafe { &mut *running };
        let ThreadState { registers, vector } = &mut thread.state;
        // SAFETY: the context is the kernel's, by this method's contract, and it holds the guest's state.
        unsafe { take_state(context, registers, vector, &mut thread.vector) };
        registers.fs_base = fs_base;
        registers.gs_base = entry::read_gs_base();
        thread.exit = match (synchronous, info.si_signo, info.si_code) {
            (false, ..) => Exit::Interrupted,
            (true, libc::SIGSYS, SYS_USER_DISPATCH) if is_native_call(info) => Exit::Syscall,
            (true, libc::SIGSYS, SYS_USER_DISPATCH) => {
                // `int 0x80` on a kernel without 32-bit calls. It has been executed: two bytes back.
                registers.pc = registers.pc.wrapping_sub(2);
                Exit::Fault(Fault { kind: FaultKind::Protection, address: GuestAddr(0) })
            }
            (true, ..) => Exit::Fault(fault_from_signal(info, context)),
        };
        switch::resume_host(context, &thread.entry);
        SignalRoute::Leaving
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        PENDING.set(false);
        dispatch::arm_after_fork().map_err(cannot_arm)
    }

    /// A signal that is pending is the suspended parent's, whose memory this is: it stays.
    fn after_vfork_in_child(&self) -> Result<(), BackendError> {
        dispatch::arm_after_fork().map_err(cannot_arm)
    }
}

impl NullBackend {
    fn check(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        if self.window(domain)?.encloses(range) { Ok(()) } else { Err(BackendError::OutsideDomain(range)) }
    }
}

fn cannot_arm(source: io::Error) -> BackendError {
    BackendError::Host { what: "arm syscall user dispatch", source }
}

/// Blocks every signal on the calling thread and returns what was blocked before.
fn block_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0_u64;
    // SAFETY: both words are valid for the kernel's eight-byte signal sets.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut before,
            size_of::<u64>(),
        )
    };
    before
}

/// Blocks exactly these signals on the calling thread.
fn restore_signals(mask: u64) {
    let nowhere = ptr::null_mut::<u64>();
    // SAFETY: the word is valid for the kernel's eight-byte signal set, and nothing is written.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, nowhere, size_of::<u64>())
    };
}

/// The page size must divide the window.
const _: () = assert!(WINDOW_START.is_multiple_of(PAGE_SIZE) && WINDOW_END.is_multiple_of(PAGE_SIZE));

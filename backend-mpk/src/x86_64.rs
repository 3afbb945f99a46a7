//! The backend on x86-64. The files below: [`gate`] is the only code that changes rights, [`keys`] says which rights there
//! are, [`block`] and [`port`] hold what a thread needs on the way in and out, [`code`] lets guest pages run, [`step`] runs
//! instructions of those that must not, [`own_text`] and [`net`] close the ways around.

mod block;
mod code;
mod gate;
mod keys;
mod leave;
mod net;
mod own_text;
mod port;
mod rseq;
mod step;
mod thunk;
mod user;
mod window;
mod xrstor;

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;

use endo_core::native::frame::VectorFrame;
use endo_core::native::{canonical_or_zero, entry, requirements};
use endo_core::{
    Against, BackendConfig, BackendError, CodeSource, Confinement, DomainId, Exit, Fault, FaultKind,
    GuestAddr, GuestRange, HostAddr, HostRange, IsolationBackend, Properties, Rights, SignalHandler,
    SignalRoute, SignalStack, ThreadState, Unavailable,
};

use self::block::Block;
use self::code::{Code, Verdict};
use self::step::{Begun, Slot};
use self::user::User;

/// Runs guests natively, under protection keys.
pub struct MpkBackend {
    code: Code,
}

impl std::fmt::Debug for MpkBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MpkBackend")
    }
}

/// A guest thread: its state, and what is needed to enter and leave it.
#[derive(Debug)]
pub struct MpkThread {
    state: ThreadState,
    vector: VectorFrame,
    exit: Exit,
    slot: Option<Slot>,
    // Dispatch is armed for one host thread.
    not_send: PhantomData<*mut ()>,
}

impl Drop for MpkThread {
    fn drop(&mut self) {
        port::leave();
    }
}

thread_local! {
    // Constant, without a destructor: a signal handler may use it.
    /// The guest thread that `run` is running on this host thread.
    static RUNNING: Cell<*mut MpkThread> = const { Cell::new(ptr::null_mut()) };
}

/// Everything that stands in the way on this machine.
fn missing() -> Vec<String> {
    let mut reasons = crate::probe::missing();
    reasons.extend(requirements::missing());
    if reasons.is_empty() {
        reasons.extend(keys::missing());
    }
    reasons
}

fn promise() -> Properties {
    Properties {
        confinement: Confinement::LOADS | Confinement::STORES | Confinement::JUMPS | Confinement::SYSCALLS,
        // The races of writers against the scan are argued and not tested yet.
        against: Against::Accidents,
        max_domains: 1,
        address_space: window::END - window::START,
        caveats: vec![
            "cpus with Meltdown-PK leak what a guest may not read",
            "every system call costs a signal",
            "only the main domain",
        ],
    }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> BackendError {
    move |source| BackendError::Host { what, source }
}

// SAFETY: contract 1: `properties` is what the rest of this comment argues. 2: guest threads run with rights to the keys of
// ports, read-only, and of their domain, whose pages are exactly those assigned and not revoked; the processor and the kernel's
// copies check them. 3: pages become executable in `code` only, which takes them away again; see there. 4: the kernel
// turns system calls into signals while the guest runs, whose selector it cannot write; the gate and the kernel alone change
// rights; callee-saved registers and segment bases come back in the gate. 5: registers come from the kernel's signal frame, or,
// in the gate, have not been given out yet; `step` puts right what it changes. 6: a signal outside leaves a mark that the gate
// sees after it has declared itself inside. 7: memory is private to each process.
unsafe impl IsolationBackend for MpkBackend {
    const NAME: &'static str = "mpk";

    type Thread = MpkThread;

    fn probe() -> Result<Properties, Unavailable> {
        let reasons = missing();
        if reasons.is_empty() { Ok(promise()) } else { Err(Unavailable { reasons }) }
    }

    fn new(_config: BackendConfig) -> Result<Self, BackendError> {
        Self::probe()?;
        keys::take().map_err(host("take protection keys"))?;
        // Asked for in handlers: now, while it may take its time.
        leave::pkru_offset();
        gate::build().map_err(host("build the gate"))?;
        own_text::disarm().map_err(host("make endo's own code harmless"))?;
        net::spread().map_err(host("install a seccomp filter"))?;
        gate::set_pkru(keys::MONITOR);
        Ok(MpkBackend { code: Code::default() })
    }

    fn properties(&self) -> Properties {
        promise()
    }

    fn window(&self, domain: DomainId) -> Result<GuestRange, BackendError> {
        if domain == DomainId::MAIN { Ok(window::range()) } else { Err(BackendError::NoDomain(domain)) }
    }

    fn host_range(&self, domain: DomainId, range: GuestRange) -> Option<HostRange> {
        let inside = domain == DomainId::MAIN && window::range().encloses(range);
        inside
            .then_some(HostRange { start: HostAddr(range.start().0 as usize), length: range.len() as usize })
    }

    /// Pages become executable when they have been scanned, not when they are mapped.
    fn page_rights(&self, rights: Rights) -> Rights {
        code::data_rights(rights)
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

    fn assign(&self, domain: DomainId, range: GuestRange, rights: Rights) -> Result<(), BackendError> {
        self.check(domain, range)?;
        self.code.assign(range, rights).map_err(host("give pages the guest's key"))
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
        self.check(domain, range)?;
        self.code.revoke(range).map_err(host("take pages from the guest"))
    }

    fn admit_code(
        &self,
        domain: DomainId,
        range: GuestRange,
        source: CodeSource,
    ) -> Result<(), BackendError> {
        self.check(domain, range)?;
        self.code.admit(range, source);
        Ok(())
    }

    fn retire_code(&self, _domain: DomainId, range: GuestRange) {
        if let Err(error) = self.code.retire(range) {
            // Code that should not run any more could: there is no way on.
            eprintln!("endo: mpk: cannot retire code at {range}: {error}");
            std::process::abort();
        }
    }

    fn before_write(&self, _domain: DomainId, range: GuestRange) {
        self.code.open_for_stores(range);
    }

    fn create_thread(&self, domain: DomainId, state: ThreadState) -> Result<MpkThread, BackendError> {
        self.window(domain)?;
        if !SignalStack::is_installed() {
            return Err(host("find the host thread's signal stack")(io::ErrorKind::NotFound.into()));
        }
        gate::set_pkru(keys::MONITOR);
        rseq::unregister();
        port::join().map_err(host("arm syscall user dispatch"))?;
        Ok(MpkThread {
            state,
            vector: VectorFrame::new(),
            exit: Exit::Interrupted,
            slot: None,
            not_send: PhantomData,
        })
    }

    fn state<'a>(&self, thread: &'a MpkThread) -> &'a ThreadState {
        &thread.state
    }

    fn state_mut<'a>(&self, thread: &'a mut MpkThread) -> &'a mut ThreadState {
        &mut thread.state
    }

    fn run(&self, thread: &mut MpkThread) -> Exit {
        let mut patience = Patience::default();
        let mut must_step = false;
        loop {
            let pc = GuestAddr(thread.state.registers.pc);
            let exit =
                if must_step || self.code.is_stepped(pc) { self.step(thread) } else { Some(turn(thread)) };
            must_step = false;
            match exit {
                None => {}
                Some(Exit::Fault(fault)) if patience.is_left(fault, thread.state.registers.pc) => {
                    match self.repair(thread, fault) {
                        Ok(Verdict::Retry) => {}
                        Ok(Verdict::Step) => must_step = true,
                        Ok(Verdict::Fault) => return Exit::Fault(fault),
                        Err(other) => return Exit::Fault(other),
                    }
                }
                Some(exit) => return exit,
            }
        }
    }

    fn signal_entry(handler: SignalHandler) -> SignalHandler {
        entry::install(handler, leave::note_arrival)
    }

    unsafe fn on_signal(
        &self,
        synchronous: bool,
        info: &mut libc::siginfo_t,
        context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        // SAFETY: while the guest was inside, `run` is active on this host thread and its thread lives; `run` does not touch
        // it before the handler has returned. The arguments are the kernel's.
        unsafe { leave::take_out(RUNNING.get(), synchronous, info, context) }
    }

    fn before_fork(&self) -> Result<(), BackendError> {
        self.code.hold();
        Ok(())
    }

    fn after_fork_in_parent(&self) {
        self.code.release();
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        self.code.release();
        Block::with(Block::take_pending);
        port::arm_in_child().map_err(host("arm syscall user dispatch"))
    }

    /// A signal that is pending is the suspended parent's, whose memory this is: it stays.
    fn after_vfork_in_child(&self) -> Result<(), BackendError> {
        port::arm_in_child().map_err(host("arm syscall user dispatch"))
    }
}

impl MpkBackend {
    fn check(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        if self.window(domain)?.encloses(range) { Ok(()) } else { Err(BackendError::OutsideDomain(range)) }
    }

    /// What a fault of the guest calls for.
    fn repair(&self, thread: &mut MpkThread, fault: Fault) -> Result<Verdict, Fault> {
        let pc = GuestAddr(thread.state.registers.pc);
        Ok(match fault.kind {
            FaultKind::Execute { .. } => self.code.on_fetch(fault.address),
            FaultKind::Write { .. } => self.code.on_store(fault.address, pc),
            FaultKind::Read { .. } => self.code.on_load(fault.address),
            FaultKind::IllegalInstruction if self.code.is_patched(pc) => {
                step::restore_patched(&mut thread.state, User { window: window::range() })?;
                Verdict::Retry
            }
            _ => Verdict::Fault,
        })
    }

    /// Runs one instruction; nothing is said if that was all.
    fn step(&self, thread: &mut MpkThread) -> Option<Exit> {
        if Block::with(Block::take_pending) {
            return Some(Exit::Interrupted);
        }
        if thread.slot.is_none() {
            thread.slot = Slot::new().ok();
        }
        let Some(slot) = &thread.slot else {
            let address = GuestAddr(thread.state.registers.pc);
            return Some(Exit::Fault(Fault { kind: FaultKind::IllegalInstruction, address }));
        };
        match step::begin(&mut thread.state, slot, &self.code, User { window: window::range() }) {
            Begun::Done => None,
            Begun::Exit(exit) => Some(exit),
            Begun::InSlot(step) => {
                let exit = turn(thread);
                step.finish(&mut thread.state, exit)
            }
        }
    }
}

/// Lets the guest run until a signal takes it out.
fn turn(thread: &mut MpkThread) -> Exit {
    let components = thread.vector.components();
    let vector = thread.vector.set(&thread.state.vector);
    let thread: *mut MpkThread = thread;
    RUNNING.set(thread);
    let has_run = Block::with(|block| {
        // SAFETY: `thread` is valid.
        let registers = unsafe { &(*thread).state.registers };
        block.vector.set(vector);
        block.components.set(components);
        block.fs_base.set(canonical_or_zero(registers.fs_base));
        block.gs_base.set(canonical_or_zero(registers.gs_base));
        // SAFETY: the host thread has a port while it has a guest thread, and the monitor alone writes it.
        unsafe { (*block.port.get()).set(registers) };
        // SAFETY: `create_thread` armed the port on this host thread and saw its signal stack. The handler changes
        // `*thread` only through `RUNNING`, which is this very pointer.
        unsafe { gate::enter(block) }
    });
    RUNNING.set(ptr::null_mut());
    if !has_run {
        Block::with(Block::take_pending);
        return Exit::Interrupted;
    }
    // SAFETY: valid as above; the handler has left.
    unsafe { (*thread).exit }
}

/// Keeps a fault that comes again and again from being repaired for ever.
#[derive(Default)]
struct Patience {
    last: Option<(Fault, u64)>,
    times: u32,
}

impl Patience {
    /// Several threads may take a page from each other for a while.
    const MOST: u32 = 10_000;

    fn is_left(&mut self, fault: Fault, pc: u64) -> bool {
        let is_same = self.last.replace((fault, pc)) == Some((fault, pc));
        self.times = if is_same { self.times + 1 } else { 0 };
        self.times < Self::MOST
    }
}

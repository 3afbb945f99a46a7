//! Software fault isolation for x86-64 by binary translation: unmodified programs, confined to the low 4 GiB.
//!
//! Guest code is never executed in place. [`translate`] turns it into fragments whose every memory access is confined to
//! 32-bit addresses, [`verify`] proves that of each fragment independently, [`cache`] holds them, and [`table`] takes
//! indirect branches from one to the next. [`engine`] keeps the books. [`gate`] is the assembly between the guest and
//! the host; [`runtime`] answers the guest's requests on the host's side of it, [`signal`] takes the guest out of emitted
//! code, and [`recover`] then says where it stood.

#![cfg(target_arch = "x86_64")]

pub mod cache;
pub mod context;
pub mod cpuid;
pub mod engine;
mod far;
pub mod fragments;
pub mod gate;
pub mod heap;
pub mod hints;
pub mod listing;
mod memory_routines;
pub mod pages;
pub mod perf;
pub mod recover;
pub mod report;
pub mod returns;
pub mod runtime;
mod signal;
pub mod special;
pub mod statistics;
pub mod step;
pub mod store;
pub mod table;
pub mod threads;
pub mod translate;
pub mod verify;
pub mod window;

use core::ops::Range;
use core::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use endo_core::arch::Gpr;
use endo_core::{
    Against, BackendConfig, BackendError, CodeSource, Confinement, DomainId, Exit, Fault, FaultKind,
    GuestAddr, GuestRange, HostAddr, HostRange, IsolationBackend, Properties, Rights, SignalRoute, Statistic,
    ThreadState, Unavailable,
};

use crate::context::{Context, SPILL_R11};
use crate::engine::Engine;
use crate::gate::Reason;
use crate::recover::Standing;
use crate::runtime::Outcome;
use crate::step::Pace;
use crate::threads::{HeldOverFork, Stop, Threads};

/// The backend.
pub struct SfiBackend {
    engine: Mutex<Engine>,
    /// Locked after the engine, if both are.
    threads: Arc<Mutex<Threads>>,
    stop: Stop,
    held_over_fork: HeldOverFork,
    fast_paths: &'static [endo_core::backend::FastEntry],
    emitted: Range<u64>,
    table: u64,
}

/// A guest thread.
#[derive(Debug)]
pub struct SfiThread {
    state: ThreadState,
    threads: Arc<Mutex<Threads>>,
}

impl Drop for SfiThread {
    fn drop(&mut self) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).dismiss();
    }
}

impl core::fmt::Debug for SfiBackend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SfiBackend").field("emitted", &self.emitted).finish_non_exhaustive()
    }
}

impl SfiBackend {
    /// The bookkeeping. Never taken by a signal handler.
    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threads. Likewise.
    pub(crate) fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses at which fragments may run.
    pub(crate) fn emitted_code(&self) -> Range<u64> {
        self.emitted.clone()
    }

    fn check(&self, domain: DomainId) -> Result<(), BackendError> {
        if domain == DomainId::MAIN { Ok(()) } else { Err(BackendError::NoDomain(domain)) }
    }

    fn check_range(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        self.check(domain)?;
        if window::guest_range().encloses(range) { Ok(()) } else { Err(BackendError::OutsideDomain(range)) }
    }

    /// Where the thread goes on, or the fault of fetching there.
    fn resume_address(&self, context: &mut Context, once: bool) -> Result<u64, Fault> {
        let Ok(pc) = u32::try_from(context.registers.pc) else {
            return Err(Fault {
                kind: FaultKind::Execute { mapped: false },
                address: GuestAddr(context.registers.pc),
            });
        };
        context.guest_bases = [context.registers.fs_base, context.registers.gs_base];
        let mut engine = self.engine_to_enter(context);
        match context.pace {
            Pace::Fragment if !once => engine.entry_alone(pc),
            Pace::Free if !once => engine.entry(pc),
            _ => engine.entry_once(pc),
        }
    }

    /// Makes sense of a guest that the signal handler took out of emitted code. `None`: it goes on, `once` set if the
    /// next instruction has to run alone.
    fn after_signal(&self, context: &mut Context, once: &mut bool) -> Option<Exit> {
        let (leave, mut registers) = signal::interrupted(context);
        if matches!(leave.host_pc, signal::UNFILLED_ENTRY | signal::UNFILLED_RETURN) {
            // An indirect branch, or a return, through an entry that was never filled.
            if leave.host_pc == signal::UNFILLED_ENTRY {
                registers.pc = registers.get(Gpr::R11) & u64::from(u32::MAX);
            } else {
                registers.set_stack_pointer((registers.get(Gpr::R11) + 8) & u64::from(u32::MAX));
            }
            registers.set(Gpr::R11, context.spill[SPILL_R11]);
            context.registers = registers;
            if leave.host_pc == signal::UNFILLED_RETURN
                && let Err(fault) = runtime::find_returned_to(context)
            {
                return Some(Exit::Fault(fault));
            }
            if context.pace != Pace::Free {
                context.stepped = true;
                return Some(Exit::Interrupted);
            }
            let mut engine = self.engine_to_enter(context);
            engine.counters.misses += 1;
            return match engine.indirect_entry(context.registers.pc as u32) {
                Ok(_) => None,
                Err(fault) => Some(Exit::Fault(fault)),
            };
        }
        let mut engine = self.engine();
        let standing = engine.recover(leave.host_pc, &context.spill, &mut registers);
        self.leave(context, &engine);
        let (Standing::At(pc) | Standing::After(pc)) = standing;
        registers.pc = u64::from(pc);
        (registers.fs_base, registers.gs_base) = (context.registers.fs_base, context.registers.gs_base);
        context.registers = registers;
        let Some(fault) = leave.fault else { return Some(Exit::Interrupted) };
        if let FaultKind::Write { .. } = fault.kind
            && let Some(is_near) = engine.write_to_watched(fault.address, pc)
        {
            *once = is_near;
            drop(self.settle(engine));
            return None;
        }
        let fault = far::in_full(fault, &context.registers);
        Some(Exit::Fault(engine.in_guest_terms(fault, pc)))
    }
}

// SAFETY: contract by number. 1: `probe` allocates nothing. 2, 3, 4: the verifier admits only code that has these
// properties (argued in crate::verify, rule by rule) and only admitted code is put where it can run; the dispatch table
// and links lead to verified entries only. 5: crate::recover. 6: the signal handler takes the guest out of emitted code at
// once, and every gate looks at `exit_requested` before it goes back. 7: `after_fork_in_child` gives the child its own
// cache before it runs or writes any code; all else is private memory.
unsafe impl IsolationBackend for SfiBackend {
    const NAME: &'static str = "sfi";

    type Thread = SfiThread;

    fn probe() -> Result<Properties, Unavailable> {
        let mut reasons = Vec::new();
        let leaf1 = core::arch::x86_64::__cpuid(1).ecx;
        if leaf1 & (1 << 27) == 0 {
            reasons.push("the cpu or the kernel has no xsave (cpuid 1 ecx.osxsave is 0)".into());
        }
        if reasons.is_empty() { Ok(properties()) } else { Err(Unavailable { reasons }) }
    }

    fn new(config: BackendConfig) -> Result<Self, BackendError> {
        Self::probe()?;
        window::reserve()?;
        cpuid::inherit(&config.bequest);
        let engine = Engine::new(&config)?;
        Ok(SfiBackend {
            fast_paths: config.fast_paths,
            emitted: engine.cache.fragment_space(),
            table: engine.table.base(),
            threads: engine.threads(),
            engine: Mutex::new(engine),
            stop: Stop::default(),
            held_over_fork: HeldOverFork::default(),
        })
    }

    fn properties(&self) -> Properties {
        properties()
    }

    fn window(&self, domain: DomainId) -> Result<GuestRange, BackendError> {
        self.check(domain).map(|()| window::guest_range())
    }

    fn host_range(&self, domain: DomainId, range: GuestRange) -> Option<HostRange> {
        self.check(domain).ok()?;
        let inside = window::guest_range().encloses(range);
        inside.then(|| HostRange { start: HostAddr(range.start().0 as usize), length: range.len() as usize })
    }

    fn page_rights(&self, rights: Rights) -> Rights {
        if rights.contains(Rights::EXECUTE) {
            rights.difference(Rights::EXECUTE) | Rights::READ
        } else {
            rights
        }
    }

    fn create_domain(&self) -> Result<DomainId, BackendError> {
        Err(BackendError::Unsupported { backend: Self::NAME, what: "create a second domain" })
    }

    fn destroy_domain(&self, domain: DomainId) -> Result<(), BackendError> {
        self.check(domain)?;
        Err(BackendError::Unsupported { backend: Self::NAME, what: "destroy the main domain" })
    }

    fn assign(&self, domain: DomainId, range: GuestRange, rights: Rights) -> Result<(), BackendError> {
        self.check_range(domain, range)?;
        let mut engine = self.engine();
        engine.assign(range, rights);
        drop(self.settle(engine));
        Ok(())
    }

    fn share(&self, _: DomainId, _: GuestRange, to: DomainId, _: Rights) -> Result<(), BackendError> {
        self.check(to)?;
        Err(BackendError::Unsupported { backend: Self::NAME, what: "share between domains" })
    }

    fn revoke(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        self.check_range(domain, range)?;
        let mut engine = self.engine();
        engine.revoke(range);
        drop(self.settle(engine));
        Ok(())
    }

    fn admit_code(
        &self,
        domain: DomainId,
        range: GuestRange,
        source: CodeSource,
    ) -> Result<(), BackendError> {
        self.check_range(domain, range)?;
        self.engine().admit(range, source);
        Ok(())
    }

    fn retire_code(&self, domain: DomainId, range: GuestRange) {
        if self.check_range(domain, range).is_ok() {
            let mut engine = self.engine();
            engine.retire(range);
            drop(self.settle(engine));
        }
    }

    fn before_write(&self, domain: DomainId, range: GuestRange) {
        if self.check_range(domain, range).is_ok() {
            let mut engine = self.engine();
            engine.before_write(range);
            drop(self.settle(engine));
        }
    }

    fn create_thread(&self, domain: DomainId, state: ThreadState) -> Result<Self::Thread, BackendError> {
        self.check(domain)?;
        window::set_gs_base(self.table)
            .map_err(|source| BackendError::Host { what: "cannot point gs at the dispatch table", source })?;
        // SAFETY: this thread's own context, and no guest runs on it yet.
        unsafe { (*context::current()).inside.store(false, Ordering::SeqCst) };
        self.threads().enrol();
        Ok(SfiThread { state, threads: Arc::clone(&self.threads) })
    }

    fn state<'a>(&self, thread: &'a Self::Thread) -> &'a ThreadState {
        &thread.state
    }

    fn state_mut<'a>(&self, thread: &'a mut Self::Thread) -> &'a mut ThreadState {
        &mut thread.state
    }

    fn run(&self, thread: &mut Self::Thread) -> Exit {
        // SAFETY: this thread's own context, and `run` is not reentrant: no other reference to it is active.
        let context = unsafe { &mut *context::current() };
        context.registers = thread.state.registers;
        context.registers.flags = context.registers.flags.sanitised();
        let stack = context.registers.stack_pointer() & u64::from(u32::MAX);
        context.registers.set_stack_pointer(stack);
        sanitise_vector(&mut thread.state);
        context.return_stack = (&raw const context.return_target) as u64;
        context.vector = thread.state.vector.as_mut_ptr() as u64;
        context.fast_paths = self.fast_paths.as_ptr() as u64;
        context.fast_path_count = self.fast_paths.len() as u64;
        context.backend = core::ptr::from_ref(self) as u64;
        let exit = self.run_inside(context);
        self.leave_unlocked(context);
        context.backend = 0;
        context.exit_requested = 0;
        context.registers.flags = context.registers.flags.sanitised();
        thread.state.registers = context.registers;
        exit
    }

    unsafe fn on_signal(
        &self,
        synchronous: bool,
        info: &mut libc::siginfo_t,
        context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        signal::route(self, synchronous, info, context)
    }

    fn before_fork(&self) -> Result<(), BackendError> {
        let mut engine = self.engine();
        engine.prepare_fork();
        self.held_over_fork.hold(engine, self.threads());
        Ok(())
    }

    fn after_fork_in_parent(&self) {
        self.held_over_fork.release();
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        let Some((mut engine, mut threads)) = self.held_over_fork.release() else {
            return Err(BackendError::Unsupported { backend: Self::NAME, what: "be forked unannounced" });
        };
        threads.keep_own();
        engine.be_child();
        Ok(())
    }

    fn after_vfork_in_child(&self) -> Result<(), BackendError> {
        // SAFETY: no precondition.
        self.threads().lend(Some(unsafe { libc::getpid() }));
        Ok(())
    }

    fn after_vfork_in_parent(&self) {
        // SAFETY: this thread's own context; the child is gone, wherever it was.
        unsafe { (*context::current()).inside.store(false, Ordering::SeqCst) };
        self.threads().lend(None);
    }

    fn is_own_signal(info: &libc::siginfo_t) -> bool {
        threads::is_interruption(info)
    }

    fn keep_work(&self) {
        self.engine().save();
    }

    fn bequest(&self) -> Vec<u8> {
        cpuid::bequest()
    }

    fn statistics(&self) -> Vec<Statistic> {
        self.engine().counters.statistics()
    }
}

impl SfiBackend {
    fn run_inside(&self, context: &mut Context) -> Exit {
        let mut once = false;
        loop {
            context.resume = match self.resume_address(context, once) {
                Ok(address) => address,
                Err(fault) => return Exit::Fault(fault),
            };
            once = false;
            // SAFETY: the context is complete, `resume` is a verified entry, and `create_thread` has set GS.
            let reason = unsafe { gate::enter() };
            context.in_call.store(false, Ordering::Relaxed);
            match reason {
                reason if reason == Reason::Syscall as u64 => return Exit::Syscall,
                reason if reason == Reason::Requested as u64 => return Exit::Interrupted,
                reason if reason == Reason::BeforeSyscall as u64 => {
                    // `syscall` is two bytes, whatever prefixes it had.
                    context.registers.pc = u64::from(context.exit_info) - 2;
                    return Exit::Interrupted;
                }
                reason if reason == Reason::AfterSyscall as u64 => {
                    context.registers.pc = u64::from(context.exit_info);
                    return Exit::Interrupted;
                }
                reason if reason == Reason::Special as u64 => {
                    // SAFETY: `light` wrote it before it answered that the guest leaves.
                    match unsafe { context.outcome.assume_init() } {
                        Outcome::Fault(fault) => return Exit::Fault(fault),
                        Outcome::Stepped => {
                            context.stepped = true;
                            return Exit::Interrupted;
                        }
                        Outcome::Continue => {}
                    }
                }
                _ => {
                    if let Some(exit) = self.after_signal(context, &mut once) {
                        return exit;
                    }
                }
            }
        }
    }
}

/// Makes the vector state one that XRSTOR accepts: its header names only components that a guest has, MXCSR only bits
/// that exist (SDM volume 1, 13.8.1 and 13.12).
fn sanitise_vector(state: &mut ThreadState) {
    const MXCSR: usize = 24;
    const MXCSR_BITS: u32 = 0xffff;
    const HEADER: usize = 512;
    const HEADER_BYTES: usize = 64;
    let area = state.vector.bytes_mut();
    let mxcsr = u32::from_le_bytes(area[MXCSR..MXCSR + 4].try_into().expect("four bytes"));
    area[MXCSR..MXCSR + 4].copy_from_slice(&(mxcsr & MXCSR_BITS).to_le_bytes());
    let header = &mut area[HEADER..HEADER + HEADER_BYTES];
    let present = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) & gate::VECTOR_COMPONENTS;
    header.fill(0);
    header[..4].copy_from_slice(&present.to_le_bytes());
}

fn properties() -> Properties {
    Properties {
        confinement: Confinement::all(),
        against: Against::HostileCode,
        max_domains: 1,
        address_space: window::WINDOW_END,
        caveats: vec![
            "a guest has 4 GiB of address space; addresses above wrap around instead of faulting",
            "speculative execution is confined to the window for data, not for the targets of indirect branches",
        ],
    }
}

impl Drop for SfiBackend {
    fn drop(&mut self) {
        window::release();
    }
}

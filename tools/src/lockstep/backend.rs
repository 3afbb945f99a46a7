//! The backend that runs every step twice.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use endo_core::{
    BackendConfig, BackendError, CodeSource, DomainId, Exit, GuestRange, HostRange, IsolationBackend,
    Properties, Rights, SignalRoute, ThreadState, Unavailable,
};
use endo_sfi::step::{Step, Stride};
use endo_sfi::{SfiBackend, SfiThread};

use super::compare;
use super::follow::{arrive_at_call, follow, follow_fault};
use super::memory::Mirror;
use super::twin::Twin;
use crate::dump;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) stride: Stride,
    /// The instruction at this address is to come out wrong under translation: for the test of the comparer itself.
    pub(super) wrong_at: Option<u64>,
}

/// Set before the backend is created.
pub(super) static OPTIONS: OnceLock<Options> = OnceLock::new();

/// The translating backend beside a native process.
pub(super) struct Stepping {
    inner: SfiBackend,
    options: Options,
    /// The process that is compared: children of the guest run alone.
    owner: i64,
    beside: Mutex<Beside>,
}

struct Beside {
    twin: Twin,
    mirror: Mirror,
    steps: u64,
    /// Flags that differ, and rightly so as long as nobody reads them.
    dead_flags: u64,
}

fn thread_id() -> i64 {
    // SAFETY: no precondition.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

impl Stepping {
    fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare_run(&self, thread: &mut SfiThread) -> std::io::Result<Exit> {
        let mut beside = self.beside();
        let Beside { twin, mirror, steps, dead_flags } = &mut *beside;
        *dead_flags = 0;
        mirror.bring_up_to_date(twin)?;
        twin.set_state(self.inner.state(thread))?;
        loop {
            let before = self.inner.state(thread).clone();
            let stride = match self.options.stride {
                // In the middle of a fragment nobody could tell the twin what such an instruction gave.
                Stride::Fragment if compare::may_hold_unrepeatable(before.registers.pc) => {
                    Stride::Instruction
                }
                stride => stride,
            };
            let step = self.inner.step(thread, stride);
            *steps += 1;
            if self.options.wrong_at == Some(before.registers.pc) {
                self.inner.state_mut(thread).registers.gpr[0] ^= 1;
            }
            let found = match step {
                Step::Exit(Exit::Interrupted) => return Ok(Exit::Interrupted),
                Step::Exit(Exit::Syscall) => {
                    let found = arrive_at_call(twin, stride, &before, self.inner.state(thread))?;
                    found.or_else(|| {
                        let address = mirror.first_difference(twin)?;
                        Some(vec![format!(
                            "memory differs at {address:#x}, stored since the last system call"
                        )])
                    })
                }
                Step::Exit(Exit::Fault(fault)) => {
                    follow_fault(twin, stride, &before, self.inner.state(thread), fault)?
                }
                Step::Done => follow(twin, stride, &before, self.inner.state(thread), dead_flags)?,
            };
            if let Some(found) = found {
                tell(*steps, &before, &found);
            }
            if let Step::Exit(exit) = step {
                return Ok(exit);
            }
        }
    }
}

/// Prints the divergence and ends the process.
fn tell(steps: u64, before: &ThreadState, found: &[String]) -> ! {
    let pc = before.registers.pc;
    eprintln!("first divergence: step {steps}, guest {pc:#x}");
    for line in found {
        eprintln!("  {line}");
    }
    let bytes =
        super::guest_bytes(pc, 64).or_else(|| super::guest_bytes(pc, ((pc | 0xfff) + 1 - pc) as usize));
    eprintln!("its fragment, translated by itself:");
    eprint!("{}", dump::fragment(&bytes.unwrap_or_default(), pc as u32).0);
    std::process::exit(1)
}

// SAFETY: every promise of the contract is the inner backend's; this one passes everything on, and only looks.
unsafe impl IsolationBackend for Stepping {
    const NAME: &'static str = SfiBackend::NAME;

    type Thread = SfiThread;

    fn probe() -> Result<Properties, Unavailable> {
        SfiBackend::probe()
    }

    fn new(config: BackendConfig) -> Result<Self, BackendError> {
        let options = *OPTIONS.get().expect("set before the backend is created");
        let twin = Twin::spawn()
            .map_err(|source| BackendError::Host { what: "cannot start the native process", source })?;
        // Every call goes to the monitor, so that what it does can be copied.
        let inner = SfiBackend::new(BackendConfig { fast_paths: &[], watched: None, ..config })?;
        let beside = Mutex::new(Beside { twin, mirror: Mirror::default(), steps: 0, dead_flags: 0 });
        Ok(Stepping { inner, options, owner: thread_id(), beside })
    }

    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    fn window(&self, domain: DomainId) -> Result<GuestRange, BackendError> {
        self.inner.window(domain)
    }

    fn host_range(&self, domain: DomainId, range: GuestRange) -> Option<HostRange> {
        self.inner.host_range(domain, range)
    }

    fn page_rights(&self, rights: Rights) -> Rights {
        self.inner.page_rights(rights)
    }

    fn create_domain(&self) -> Result<DomainId, BackendError> {
        self.inner.create_domain()
    }

    fn destroy_domain(&self, domain: DomainId) -> Result<(), BackendError> {
        self.inner.destroy_domain(domain)
    }

    fn assign(&self, domain: DomainId, range: GuestRange, rights: Rights) -> Result<(), BackendError> {
        self.beside().mirror.note(range, Some(rights));
        self.inner.assign(domain, range, rights)
    }

    fn share(
        &self,
        from: DomainId,
        range: GuestRange,
        to: DomainId,
        rights: Rights,
    ) -> Result<(), BackendError> {
        self.inner.share(from, range, to, rights)
    }

    fn revoke(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        self.beside().mirror.note(range, None);
        self.inner.revoke(domain, range)
    }

    fn admit_code(
        &self,
        domain: DomainId,
        range: GuestRange,
        source: CodeSource,
    ) -> Result<(), BackendError> {
        self.inner.admit_code(domain, range, source)
    }

    fn retire_code(&self, domain: DomainId, range: GuestRange) {
        self.inner.retire_code(domain, range);
    }

    fn before_write(&self, domain: DomainId, range: GuestRange) {
        self.inner.before_write(domain, range);
    }

    fn create_thread(&self, domain: DomainId, state: ThreadState) -> Result<SfiThread, BackendError> {
        self.inner.create_thread(domain, state)
    }

    fn state<'a>(&self, thread: &'a SfiThread) -> &'a ThreadState {
        self.inner.state(thread)
    }

    fn state_mut<'a>(&self, thread: &'a mut SfiThread) -> &'a mut ThreadState {
        self.inner.state_mut(thread)
    }

    fn run(&self, thread: &mut SfiThread) -> Exit {
        if thread_id() != self.owner {
            return self.inner.run(thread);
        }
        self.compare_run(thread).unwrap_or_else(|error| {
            eprintln!("error: the native process cannot be driven: {error}");
            std::process::exit(2)
        })
    }

    unsafe fn on_signal(
        &self,
        synchronous: bool,
        info: &mut libc::siginfo_t,
        context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        // SAFETY: the caller's promise.
        unsafe { self.inner.on_signal(synchronous, info, context) }
    }

    fn before_fork(&self) -> Result<(), BackendError> {
        self.inner.before_fork()
    }

    fn after_fork_in_parent(&self) {
        self.inner.after_fork_in_parent();
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        self.inner.after_fork_in_child()
    }

    fn after_vfork_in_child(&self) -> Result<(), BackendError> {
        self.inner.after_vfork_in_child()
    }

    fn after_vfork_in_parent(&self) {
        self.inner.after_vfork_in_parent();
    }

    fn is_own_signal(info: &libc::siginfo_t) -> bool {
        SfiBackend::is_own_signal(info)
    }
}

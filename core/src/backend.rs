//! The isolation backend: how a guest is confined and run.

use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::signal_stack::SignalHandler;
use crate::{Fault, GuestAddr, GuestRange, HostRange, Properties, ThreadState, Unavailable};

/// A protection domain. The monitor is none: it owns all that no domain has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainId(pub u32);

impl DomainId {
    /// The domain of the program that was started; it exists as long as the backend does.
    pub const MAIN: DomainId = DomainId(0);
}

bitflags::bitflags! {
    /// What a domain may do with a page.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct Rights: u8 {
        /// Load.
        const READ = 1;
        /// Store.
        const WRITE = 2;
        /// Run instructions.
        const EXECUTE = 4;
    }
}

/// How much of the emitted code a translating backend verifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VerifyMode {
    /// None: for measuring what verification costs, never for a guest that is not trusted.
    Off,
    /// One block in 64, and every block that holds an uncommon instruction.
    Sample,
    /// Every block.
    #[default]
    On,
}

/// What a fast-path entry does; see [`FastEntry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum FastKind {
    /// No fast path: `run` returns [`Exit::Syscall`].
    None = 0,
    /// `function` looks at the arguments. 0: the backend makes the call as it stands and resumes the guest with the
    /// kernel's result. Anything else: [`Exit::Syscall`].
    Check = 1,
    /// `function` does the work and returns the result; [`FastEntry::FALL_BACK`] means [`Exit::Syscall`].
    Call = 2,
    /// As [`FastKind::Check`], but what the second argument points to is an allegation that the kernel would follow: `function` gets
    /// [`COPY_BYTES`] bytes of the backend's at its sixth argument, copies what the kernel is to see there, and the call is
    /// made with that address instead. The guest's register is as it was afterwards.
    Copy = 3,
}

/// What a [`FastKind::Copy`] may fill, aligned to eight bytes.
pub const COPY_BYTES: usize = 192;

/// A system call's fast path: code that runs on the guest thread between guest instructions.
///
/// `function` follows the C calling convention of the platform with the six argument registers as arguments. It
/// neither reads nor writes vector state, calls nothing that might, takes no lock, allocates nothing, and reaches guest
/// memory only through the recoverable stores in [`crate::copy`]. The direction flag is the guest's: no string instructions.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FastEntry {
    /// The code.
    pub function: unsafe extern "C" fn(u64, u64, u64, u64, u64, u64) -> u64,
    /// How its answer is read.
    pub kind: FastKind,
}

impl FastEntry {
    /// What a [`FastKind::Call`] returns to hand the call to the monitor: no system call's result.
    pub const FALL_BACK: u64 = i64::MIN as u64;

    /// The entry of a call without a fast path.
    pub const NONE: FastEntry = FastEntry { function: decline, kind: FastKind::None };
}

unsafe extern "C" fn decline(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    FastEntry::FALL_BACK
}

/// Where a backend write-protects pages that the guest may write, to notice stores into code that it has translated: the
/// lowest and the highest byte of all such pages so far. A fast path that would have the kernel store in between leaves the
/// call to the monitor, which says [`IsolationBackend::before_write`] first.
#[derive(Debug)]
#[repr(C)]
pub struct WatchedHull {
    first: AtomicU64,
    last: AtomicU64,
}

impl WatchedHull {
    /// Nothing is watched.
    pub const fn new() -> Self {
        WatchedHull { first: AtomicU64::new(1 << 62), last: AtomicU64::new(0) }
    }

    /// Takes a range in: called before its pages are protected.
    pub fn include(&self, range: GuestRange) {
        if !range.is_empty() {
            self.first.fetch_min(range.start().0, Ordering::Relaxed);
            self.last.fetch_max(range.end().0 - 1, Ordering::Relaxed);
        }
    }

    /// Whether any of the bytes from `first` to `last` may be watched.
    pub fn may_include(&self, first: u64, last: u64) -> bool {
        first <= self.last.load(Ordering::Relaxed) && last >= self.first.load(Ordering::Relaxed)
    }
}

impl Default for WatchedHull {
    fn default() -> Self {
        Self::new()
    }
}

/// Choices made once, when a backend is created.
#[derive(Clone, Debug, Default)]
pub struct BackendConfig {
    /// Upper bound of the code cache in bytes, for backends that have one; `None` is the backend's default.
    pub cache_bytes: Option<usize>,
    /// How much emitted code is verified.
    pub verify: VerifyMode,
    /// Fast paths, indexed by system call number; a number past the end has none.
    pub fast_paths: &'static [FastEntry],
    /// Where the backend says on which pages it watches for stores; wanted by fast paths that let the kernel store.
    pub watched: Option<&'static WatchedHull>,
    /// Where to write a perf map (`perf-PID.map`), if wanted.
    pub perf_map: Option<PathBuf>,
    /// Where a translating backend writes what it emits, as text beside the guest's code, if wanted.
    pub fragment_dump: Option<PathBuf>,
    /// Whether a translating backend lets the processor predict returns. For who works on it.
    pub predict_returns: bool,
    /// Where a translating backend keeps translations for later processes, if wanted.
    pub store: Option<StoreConfig>,
    /// What the backend of the program before an exec left behind, in the same process: see [`IsolationBackend::bequest`].
    pub bequest: Vec<u8>,
}

/// Where translations are kept from one process to the next.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory: the user's own, which nobody else may write.
    pub directory: Arc<OwnedFd>,
    /// What files in it are authenticated with.
    pub key: StoreKey,
}

/// A secret that no guest knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoreKey(pub [u8; 32]);

impl core::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StoreKey(…)")
    }
}

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The backend cannot be used on this machine.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The host refused a resource.
    #[error("{what}: {source}")]
    Host {
        /// What was asked for, in a few lowercase words.
        what: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
    /// No such domain, or one too many.
    #[error("domain {0:?} does not exist")]
    NoDomain(DomainId),
    /// The range does not lie in the domain.
    #[error("{0} is outside the domain")]
    OutsideDomain(GuestRange),
    /// The backend does not do this at all.
    #[error("the {backend} backend cannot {what}")]
    Unsupported {
        /// Its name.
        backend: &'static str,
        /// The thing, as an infinitive: "create a second domain".
        what: &'static str,
    },
}

/// Where the bytes of a code range come from: who else could change them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeSource {
    /// Only this process's own stores and system calls can change the bytes.
    Private,
    /// Likewise; and they are those of a file, unless they have been changed. The file is likely to lie at the same
    /// address when it is mapped the next time, by this process or another.
    File(CodeOrigin),
    /// Another mapping or process may change them at any time (a shared file mapping).
    Shared,
}

/// The state of a file that code was mapped from, and where it was mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CodeOrigin {
    /// The file's device.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// Its length in bytes.
    pub length: u64,
    /// When its contents changed last: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// When its inode changed last.
    pub changed: (i64, i64),
    /// The guest address that its first byte has, or would have if that part of it was mapped; modulo 2^64.
    pub base: u64,
}

/// Why a guest thread stopped running. The thread's [`ThreadState`] is complete and exact in every case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It stands *after* a system call instruction; number and arguments are in the registers, the result is expected
    /// there before it runs again.
    Syscall,
    /// An instruction faulted; the program counter is at it.
    Fault(Fault),
    /// An asynchronous signal or an interrupt asked for it; the program counter is at the next instruction.
    Interrupted,
}

/// What a host signal meant to the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalRoute {
    /// It hit the monitor, not the guest. For a fault this is a bug in the monitor, unless the monitor knows better. For
    /// an asynchronous signal: the current or next [`IsolationBackend::run`] of this thread returns
    /// [`Exit::Interrupted`].
    Outside,
    /// The backend has dealt with it: return from the handler and nothing happened.
    Resumed,
    /// The guest was hit: when the handler returns, `run` returns [`Exit::Fault`] or [`Exit::Interrupted`].
    Leaving,
    /// Likewise, and the way there takes nothing from the context but its program counter, its stack pointer and, on
    /// x86-64, r15: once the context's signal mask is in force, the handler may jump there instead of returning, which
    /// spares the kernel loading all the rest.
    LeavingByJump,
}

/// A figure for `--stats`.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// A few lowercase words.
    pub name: &'static str,
    /// The figure.
    pub value: u64,
    /// Its unit: "bytes", "blocks", "ns", or "" for a plain count.
    pub unit: &'static str,
}

/// A mechanism that confines guests in this process and runs them.
///
/// # Safety
///
/// Whoever implements this trait vouches for the guest's confinement; others rely on it for their memory safety. The
/// contract, in numbers:
///
/// 1. **Probe.** [`probe`](Self::probe) has no lasting effect. [`new`](Self::new) succeeds only where `probe` does.
///    [`properties`](Self::properties) claims nothing that the implementation does not do.
/// 2. **Memory.** A guest thread of domain *d* reads and writes only pages assigned to *d*, and only with the rights
///    recorded; what [`Properties::confinement`] leaves out is excepted. `host_range` maps only ranges that lie in the
///    domain, and what it returns stays the domain's for as long as the domain exists.
/// 3. **Code.** A guest thread runs only instructions of ranges that were admitted and not retired since, and each of
///    them has the effect that the architecture gives it or is answered by an [`Exit`]. When `retire_code` has
///    returned no thread comes to that range again; another one that is in the midst of it leaves within a bounded
///    number of instructions, loops included.
/// 4. **Control.** No instruction of a guest makes a system call; it ends in [`Exit::Syscall`], or in a fast path whose
///    check allowed it. No guest changes the backend's or the monitor's registers, stacks or segment bases. `run`
///    returns with the host thread's state as it was: stack, callee-saved registers, thread pointer, signal mask.
/// 5. **Faults.** Every exit leaves the thread's state complete and exact: as if the guest had run natively up to that
///    instruction and nothing of it or after it had happened (a `rep` string instruction that faults has done its
///    completed iterations). [`on_signal`](Self::on_signal) is async-signal-safe.
/// 6. **Asynchrony.** After an asynchronous signal the current or next `run` of that thread returns
///    [`Exit::Interrupted`] within a bounded number of guest instructions, whatever the guest does. That includes a
///    system call on a fast path: one that the signal found not yet made, or that the kernel has put back onto its
///    instruction to be restarted (the monitor's handlers have `SA_RESTART` where the guest's have), is left unmade, the
///    program counter at it. EINTR is a result like any other.
/// 7. **Fork.** After `fork` the child may use the backend once [`after_fork_in_child`](Self::after_fork_in_child) has
///    succeeded; from then on neither process can change what the other runs.
pub unsafe trait IsolationBackend: Send + Sync + Sized + 'static {
    /// The name that `--backend` takes.
    const NAME: &'static str;

    /// A guest thread as the backend keeps it. It is created on, and run by, one host thread only.
    type Thread;

    /// Whether the backend works on this machine, what it then promises, and if not, why.
    fn probe() -> Result<Properties, Unavailable>;

    /// Reserves address space and creates [`DomainId::MAIN`]. At most one backend exists in a process at a time.
    fn new(config: BackendConfig) -> Result<Self, BackendError>;

    /// What this instance promises.
    fn properties(&self) -> Properties;

    /// Where the guest addresses of a domain may lie. Mappings are made inside it only.
    fn window(&self, domain: DomainId) -> Result<GuestRange, BackendError>;

    /// Where the host finds a range of a domain; `None` if any byte of it lies outside the domain's window. It says
    /// nothing about what is mapped there. This is the check that every guest pointer passes.
    fn host_range(&self, domain: DomainId, range: GuestRange) -> Option<HostRange>;

    /// The protection that pages with these rights get from the kernel while the monitor maps them: execute goes away
    /// where guest code never runs in place.
    fn page_rights(&self, rights: Rights) -> Rights;

    /// Creates an empty domain.
    fn create_domain(&self) -> Result<DomainId, BackendError>;

    /// Ends a domain; all its pages have been unmapped and its threads have left.
    fn destroy_domain(&self, domain: DomainId) -> Result<(), BackendError>;

    /// Records that freshly mapped pages belong to a domain with these rights. The pages have the kernel protection of
    /// [`page_rights`](Self::page_rights). Code in them still has to be admitted.
    fn assign(&self, domain: DomainId, range: GuestRange, rights: Rights) -> Result<(), BackendError>;

    /// Lets `to` reach a range of `from` with these rights, at the same guest addresses.
    fn share(
        &self,
        from: DomainId,
        range: GuestRange,
        to: DomainId,
        rights: Rights,
    ) -> Result<(), BackendError>;

    /// Takes pages away from a domain: before they are unmapped, or to end a share.
    fn revoke(&self, domain: DomainId, range: GuestRange) -> Result<(), BackendError>;

    /// Makes a range fit to run: called after it was mapped or got the right to execute, before it runs.
    fn admit_code(&self, domain: DomainId, range: GuestRange, source: CodeSource)
    -> Result<(), BackendError>;

    /// Ends the admission of a range: called before it is unmapped, replaced, or loses the right to execute. A range
    /// that never was admitted may be named.
    fn retire_code(&self, domain: DomainId, range: GuestRange);

    /// The kernel or the monitor is about to store into a range that the guest may write: code translated from it goes
    /// stale, write protection that the backend added is lifted. Called before each such store.
    fn before_write(&self, domain: DomainId, range: GuestRange);

    /// Makes the calling host thread ready to run a guest thread that starts in `state`.
    fn create_thread(&self, domain: DomainId, state: ThreadState) -> Result<Self::Thread, BackendError>;

    /// The thread's registers. Complete and exact whenever `run` is not active.
    fn state<'a>(&self, thread: &'a Self::Thread) -> &'a ThreadState;

    /// The thread's registers, to be changed before it runs again. Values a guest may not hold are corrected by `run`.
    fn state_mut<'a>(&self, thread: &'a mut Self::Thread) -> &'a mut ThreadState;

    /// Runs the thread until it needs the monitor. Only on the host thread that created it, and not reentrantly.
    fn run(&self, thread: &mut Self::Thread) -> Exit;

    /// What the monitor gives to `sigaction` so that `handler` runs: with `SA_SIGINFO | SA_ONSTACK` and every signal in
    /// `sa_mask`, on threads that have a [`SignalStack`](crate::SignalStack). A backend under which the guest's thread
    /// pointer is live while it runs returns a stub that first brings the host's back, and keeps `handler` to call it;
    /// one handler serves all signals of the process. Others return `handler` itself.
    fn signal_entry(handler: SignalHandler) -> SignalHandler {
        handler
    }

    /// Decides what a host signal that arrived on this thread means, and prepares what follows. `synchronous` tells a
    /// fault of the interrupted instruction from a signal that something else sent. Async-signal-safe.
    ///
    /// # Safety
    ///
    /// `info` and `context` are the arguments that the kernel gave to a handler installed with `SA_SIGINFO` which runs
    /// on an alternate stack of the monitor, and which returns soon after this call.
    unsafe fn on_signal(
        &self,
        synchronous: bool,
        info: &mut libc::siginfo_t,
        context: &mut libc::ucontext_t,
    ) -> SignalRoute;

    /// Called right before the calling thread forks, and undone by one of the two calls below. What the child will run is
    /// set apart here, while nobody else can change it.
    fn before_fork(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Called in the parent after [`before_fork`](Self::before_fork), whether the fork succeeded or not.
    fn after_fork_in_parent(&self) {}

    /// Makes the backend usable in a forked child (contract 7). The calling thread is the child's only one.
    fn after_fork_in_child(&self) -> Result<(), BackendError>;

    /// Makes the backend usable in a child that shares this address space while its parent is suspended (`vfork`). The child
    /// is another kernel task, with a host stack of its own; thread-local storage, thread pointer and segment bases are
    /// the parent's, and so is the guest thread that it goes on to run. Whatever the kernel keeps for a task and
    /// does not hand on to a child has to be set up again; memory is not to be touched.
    fn after_vfork_in_child(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Called in the parent when the child has its own memory or is gone, whether the `vfork` succeeded or not.
    fn after_vfork_in_parent(&self) {}

    /// Whether a signal is the backend's own: one with which it interrupts a thread. The monitor does not look at it, and
    /// passes it on to [`on_signal`](Self::on_signal) as an asynchronous one. Async-signal-safe.
    fn is_own_signal(_info: &libc::siginfo_t) -> bool {
        false
    }

    /// Keeps what later processes can use of this one's work (see [`BackendConfig::store`]). Called when the process is
    /// about to end, or to execute another program.
    fn keep_work(&self) {}

    /// What would spare the backend of the program that this process is about to execute some work. It comes to it, unchanged,
    /// as [`BackendConfig::bequest`], and no guest sees it.
    fn bequest(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Figures for `--stats`.
    fn statistics(&self) -> Vec<Statistic> {
        Vec::new()
    }

    /// The guest instruction at which this thread's last exit stood, for messages.
    fn program_counter(&self, thread: &Self::Thread) -> GuestAddr {
        GuestAddr(self.state(thread).registers.pc)
    }
}

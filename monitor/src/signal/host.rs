//! The host's side of signals: Endo's own handler, what the kernel is told to do about each signal, and the host's mask.
//!
//! The handler takes a signal from the kernel and puts it where the thread finds it; it never delivers anything itself.
//! From then on the host blocks what the guest's handler will block, as the kernel would if it called that handler, or
//! everything, until the thread says more ([`queue`](super::queue)): so signals wait in the kernel, in the kernel's order,
//! and no queue of ours can overflow. Signals that an instruction can raise are never blocked.
//!
//! What the guest ignores or leaves to the default the kernel is told to ignore or to do: it then takes care of stop and
//! continue, of the exit status, and of what a child inherits. Only [`Signal::SYNCHRONOUS`] always have the handler.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::io;

use endo_core::{IsolationBackend, SignalRoute, SignalStack, copy, fault};

use super::info::SigInfo;
use super::queue::Waiting;
use super::set::{SigSet, Signal};
use super::{blocking, kernel, line::Line};
use crate::errno::{Errno, SyscallResult};
use crate::syscall::raw::syscall6;

thread_local! {
    // Constant and without a destructor, so that the handler may use it: access is one instruction on the thread pointer.
    static WAITING: Waiting = const { Waiting::new() };
}

/// What the kernel does when a signal arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disposition {
    /// As signal(7) says.
    Default,
    /// Nothing.
    Ignore,
    /// It calls the monitor's handler.
    Handled {
        /// The guest's `SA_` flags. Those that change what the kernel does besides are taken over.
        flags: u64,
        /// What the guest blocks while its handler runs.
        mask: SigSet,
    },
}

/// What the host is to block besides while the guest handles each signal. Only a guess of what the thread will find right.
static WHILE_HANDLED: [AtomicU64; Signal::MAX as usize] = [const { AtomicU64::new(0) }; Signal::MAX as usize];
/// The handler as the backend wants it entered, once [`install`] has run.
static ENTRY: AtomicUsize = AtomicUsize::new(0);
/// The backend, and how to ask it about a signal: [`ask_backend`] for its type.
static BACKEND: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static ASK: AtomicUsize = AtomicUsize::new(0);
/// Which of the signals that Endo took over were ignored when the process started.
static INHERITED_IGNORED: AtomicU64 = AtomicU64::new(0);
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

/// How to ask the backend whether a signal is its own.
static IS_OWN: AtomicUsize = AtomicUsize::new(0);

/// A signal that instructions raise, as long as the guest does not handle it.
const UNHANDLED: Disposition = Disposition::Handled { flags: libc::SA_RESTART as u64, mask: SigSet::EMPTY };

type IsOwn = fn(&libc::siginfo_t) -> bool;
type Ask = unsafe fn(*const c_void, bool, &mut libc::siginfo_t, &mut libc::ucontext_t) -> SignalRoute;

/// Takes over the signals that instructions raise, and gives the calling thread a stack for handlers. Once a process.
pub fn install<B: IsolationBackend>(backend: &'static B) -> io::Result<()> {
    let stack = SignalStack::install()?;
    // The stack stays for as long as the thread: handlers may run until the process is gone.
    core::mem::forget(stack);
    BACKEND.store((&raw const *backend).cast_mut().cast(), Ordering::Relaxed);
    ASK.store(ask_backend::<B> as *const () as usize, Ordering::Relaxed);
    IS_OWN.store(B::is_own_signal as *const () as usize, Ordering::Relaxed);
    ENTRY.store(B::signal_entry(on_signal) as *const () as usize, Ordering::Relaxed);
    IS_INSTALLED.store(true, Ordering::Release);
    for signal in Signal::SYNCHRONOUS {
        let before = exchange_action(signal, UNHANDLED);
        let before = before.map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
        if before == libc::SIG_IGN as u64 {
            INHERITED_IGNORED.fetch_or(SigSet::EMPTY.with(signal).0, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Whether the process started with the signal ignored. For a signal that the guest has not touched yet.
pub(super) fn is_inherited_ignored(signal: Signal) -> bool {
    if signal.is_synchronous() {
        return SigSet(INHERITED_IGNORED.load(Ordering::Relaxed)).contains(signal);
    }
    read_action(signal).is_ok_and(|handler| handler == libc::SIG_IGN as u64)
}

/// Tells the kernel what to do about a signal from now on, unless it does that already. A signal that instructions raise
/// keeps the monitor's handler.
pub(super) fn set_disposition(
    signal: Signal,
    disposition: Disposition,
    before: Option<Disposition>,
) -> Result<(), Errno> {
    // The kernel drops what is pending of a signal that is ignored from now on, even if it was ignored before.
    let is_handled = matches!(disposition, Disposition::Handled { .. });
    if is_handled && before.is_some_and(|before| before.for_kernel() == disposition.for_kernel()) {
        return Ok(());
    }
    let disposition = match disposition {
        Disposition::Handled { .. } => disposition,
        _ if signal.is_synchronous() => UNHANDLED,
        _ => disposition,
    };
    exchange_action(signal, disposition).map(|_| ())
}

/// Lets the handler know what the guest does about a signal.
pub(super) fn note_disposition(signal: Signal, disposition: Disposition) {
    let Disposition::Handled { flags, mask } = disposition else { return };
    let is_deferred = flags & libc::SA_NODEFER as u64 == 0;
    let itself = if is_deferred { SigSet::EMPTY.with(signal) } else { SigSet::EMPTY };
    let blocked = mask.union(itself).as_host_mask();
    WHILE_HANDLED[signal.index()].store(blocked.0, Ordering::Relaxed);
}

impl Disposition {
    /// The handler or not, and the flags, that `rt_sigaction` gets.
    fn for_kernel(self) -> (usize, u64) {
        match self {
            Disposition::Default => (libc::SIG_DFL, 0),
            Disposition::Ignore => (libc::SIG_IGN, 0),
            Disposition::Handled { flags, .. } => {
                let taken_over = libc::SA_RESTART | libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT;
                let own = (libc::SA_SIGINFO | libc::SA_ONSTACK) as u64 | arch::RESTORER_FLAG;
                (ENTRY.load(Ordering::Relaxed), own | flags & taken_over as u64)
            }
        }
    }
}

/// Leaves a signal to the kernel's default, to die of it.
pub(crate) fn relinquish(signal: Signal) {
    // The kernel refuses this for SIGKILL and SIGSTOP alone, which need it least.
    let _ = exchange_action(signal, Disposition::Default);
}

/// The process goes on after an exec, before which these signals of instructions were ignored. To be called once, before the
/// first guest runs.
pub fn inherit_ignored(signals: SigSet) {
    INHERITED_IGNORED.fetch_or(signals.0, Ordering::Relaxed);
}

/// Whether a signal has been taken from the kernel and not been looked at.
#[inline]
pub(super) fn has_waiting() -> bool {
    WAITING.with(|waiting| waiting.flag().load(Ordering::Relaxed) != 0)
}

/// Lets `call` see the word that is not zero while a signal waits.
pub(super) fn with_waiting_flag<R>(call: impl FnOnce(*const AtomicU32) -> R) -> R {
    WAITING.with(|waiting| call(waiting.flag()))
}

/// Hands over the signals that have been taken from the kernel, oldest first.
pub(super) fn take_waiting(each: impl FnMut(SigInfo)) {
    WAITING.with(|waiting| waiting.drain(each));
}

/// The mask that the calling thread started with.
pub fn inherited_mask() -> SigSet {
    let mut mask = SigSet::EMPTY;
    let arguments = [libc::SIG_BLOCK as u64, 0, &raw mut mask as u64, SigSet::SIZE, 0, 0];
    // SAFETY: the kernel writes the eight bytes of `mask`.
    let _ = unsafe { syscall6(libc::SYS_rt_sigprocmask as u32, arguments) };
    mask
}

/// Makes the host's mask fit a guest's. A signal that this lets through is taken before it returns.
pub(crate) fn apply_mask(guest_mask: SigSet) {
    let mask = guest_mask.as_host_mask();
    WAITING.with(|waiting| waiting.change_mask(mask, || set_raw_mask(mask)));
}

/// A call with a mask of its own begins, or has ended.
pub(super) fn note_temporary_mask(is_in_force: bool) {
    WAITING.with(|waiting| waiting.note_temporary_mask(is_in_force));
}

/// Makes every signal wait in the kernel that the host may block, until [`apply_mask`].
pub(crate) fn block_all() {
    apply_mask(SigSet::FULL);
}

/// The host's mask exactly as given, signals of instructions included: before exec, or to die.
pub(crate) fn set_exact_mask(mask: SigSet) {
    WAITING.with(Waiting::forget_mask);
    set_raw_mask(mask);
}

fn set_raw_mask(mask: SigSet) {
    let arguments = [libc::SIG_SETMASK as u64, &raw const mask as u64, 0, SigSet::SIZE, 0, 0];
    // SAFETY: the kernel reads the eight bytes of `mask`.
    let _ = unsafe { syscall6(libc::SYS_rt_sigprocmask as u32, arguments) };
}

/// Forgets the signals that were taken but not looked at: in a forked child, which inherits none.
pub(crate) fn forget_waiting() {
    take_waiting(drop);
    WAITING.with(Waiting::forget_mask);
}

/// The kernel's `struct sigaction`.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: SigSet,
}

fn exchange_action(signal: Signal, disposition: Disposition) -> Result<u64, Errno> {
    let (handler, flags) = disposition.for_kernel();
    let action = KernelAction { handler, flags, restorer: arch::restorer(), mask: SigSet::FULL };
    raw_action(signal, Some(&action)).map(|before| before.handler as u64)
}

fn read_action(signal: Signal) -> Result<u64, Errno> {
    raw_action(signal, None).map(|now| now.handler as u64)
}

/// The action that the kernel has for a signal, and after the call the new one.
fn raw_action(signal: Signal, new: Option<&KernelAction>) -> Result<KernelAction, Errno> {
    let mut before = KernelAction { handler: 0, flags: 0, restorer: 0, mask: SigSet::EMPTY };
    let new = new.map_or(0, |new| core::ptr::from_ref(new) as u64);
    let arguments = [signal.number() as u64, new, &raw mut before as u64, SigSet::SIZE, 0, 0];
    // SAFETY: both structures have the kernel's layout and live until the call returns; the handler is the default,
    // "ignore", an entry to `on_signal` that was stored before, or what the kernel had.
    unsafe { syscall6(libc::SYS_rt_sigaction as u32, arguments) }?;
    Ok(before)
}

/// Runs `create`, which makes the C library's first thread: glibc then handles the second real-time signal itself
/// (nptl/pthread_create.c, `late_init`), which is the guest's, as Go's runtime and the guest's own C library send it.
pub(crate) fn keep_actions<R>(create: impl FnOnce() -> R) -> R {
    const SETXID: Signal = Signal::new(33).expect("it is a signal");
    let before = raw_action(SETXID, None);
    let result = create();
    let is_ours =
        |handler: usize| [libc::SIG_DFL, libc::SIG_IGN, ENTRY.load(Ordering::Relaxed)].contains(&handler);
    if let (Ok(before), Ok(now)) = (before, raw_action(SETXID, None))
        && !is_ours(now.handler)
    {
        // The kernel cannot refuse what it had.
        let _ = raw_action(SETXID, Some(&before));
    }
    result
}

/// The monitor's handler. Async-signal-safe: it touches thread-local words, the context, and what the backend's `on_signal`
/// does.
///
/// # Safety
///
/// Called by the kernel, or by the backend's entry stub with what the kernel gave it, with every signal blocked.
unsafe extern "C" fn on_signal(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's siginfo, alive until the handler returns and nobody else's.
    let info = unsafe { &mut *info };
    // SAFETY: likewise the kernel's context.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if fault::is_synchronous(info) {
        if copy::recover(context) {
            return;
        }
        match ask(true, info, context) {
            SignalRoute::Outside => report_own_fault(number, info, context),
            SignalRoute::LeavingByJump => leave_by_jump(context),
            SignalRoute::Resumed | SignalRoute::Leaving => {}
        }
        return;
    }
    if is_backends_own(info) {
        ask(false, info, context);
        return;
    }
    // SAFETY: a siginfo is 128 bytes, all written by the kernel.
    let bytes = unsafe { (&raw const *info).cast::<[u8; SigInfo::SIZE]>().read() };
    let while_handled = Signal::new(number).map_or(SigSet::FULL, while_handled);
    let mask = (&raw mut context.uc_sigmask).cast::<SigSet>();
    // SAFETY: the kernel's mask is the first eight bytes of the C library's larger type.
    let interrupted = unsafe { mask.read() };
    let next = WAITING.with(|waiting| waiting.take(SigInfo::from_bytes(bytes), interrupted, while_handled));
    // SAFETY: as above; the kernel sets it when the handler returns.
    unsafe { mask.write(next) };
    blocking::abort_if_about_to_block(context);
    if ask(false, info, context) == SignalRoute::LeavingByJump {
        leave_by_jump(context);
    }
}

/// Ends the handler as its return would for a [`SignalRoute::LeavingByJump`]. It comes back where there is no such thing.
fn leave_by_jump(context: &libc::ucontext_t) {
    let mask = (&raw const context.uc_sigmask).cast::<SigSet>();
    // SAFETY: the kernel's mask is the first eight bytes of the C library's larger type.
    set_raw_mask(unsafe { mask.read() });
    // SAFETY: the backend said so; nothing on the alternate stack has a destructor that matters, and a signal that the mask
    // lets through meanwhile finds the thread in here, which is outside.
    unsafe { arch::jump(context) };
}

/// What the guest blocks besides while it handles a signal.
fn while_handled(signal: Signal) -> SigSet {
    SigSet(WHILE_HANDLED[signal.index()].load(Ordering::Relaxed))
}

fn is_backends_own(info: &libc::siginfo_t) -> bool {
    if !IS_INSTALLED.load(Ordering::Acquire) {
        return false;
    }
    // SAFETY: `install` stored a function of this type before it set the flag.
    let function = unsafe { core::mem::transmute::<usize, IsOwn>(IS_OWN.load(Ordering::Relaxed)) };
    function(info)
}

fn ask(synchronous: bool, info: &mut libc::siginfo_t, context: &mut libc::ucontext_t) -> SignalRoute {
    if !IS_INSTALLED.load(Ordering::Acquire) {
        return SignalRoute::Outside;
    }
    // SAFETY: `install` stored a function of this type before it set the flag.
    let function = unsafe { core::mem::transmute::<usize, Ask>(ASK.load(Ordering::Relaxed)) };
    // SAFETY: the backend that `install` stored lives forever and is of the type that the function was made for.
    unsafe { function(BACKEND.load(Ordering::Relaxed), synchronous, info, context) }
}

/// # Safety
///
/// `backend` points to a `B` that lives forever; the rest is as [`IsolationBackend::on_signal`] demands.
unsafe fn ask_backend<B: IsolationBackend>(
    backend: *const c_void,
    synchronous: bool,
    info: &mut libc::siginfo_t,
    context: &mut libc::ucontext_t,
) -> SignalRoute {
    // SAFETY: the caller's promise.
    let backend = unsafe { &*backend.cast::<B>() };
    // SAFETY: the caller's promise: the arguments are the kernel's, on the alternate stack that `install` made.
    unsafe { backend.on_signal(synchronous, info, context) }
}

/// A fault of the monitor's own code: says so in one line, and lets the default action end the process. Never returns to
/// the faulting code with the handler in place.
#[cold]
fn report_own_fault(number: c_int, info: &libc::siginfo_t, context: &libc::ucontext_t) {
    // SAFETY: faults carry an address; where they do not, the field reads as zero.
    let address = unsafe { info.si_addr() } as usize as u64;
    let mut line = Line::new();
    line.text("endo: internal error: signal ").decimal(number as u64);
    line.text(" in the monitor at pc ").hexadecimal(arch::program_counter(context));
    line.text(", address ").hexadecimal(address).text("\n");
    line.write_to_stderr();
    if let Some(signal) = Signal::new(number) {
        relinquish(signal);
        send_to_self(signal);
    }
}

/// This process's id.
pub(crate) fn process_id() -> i32 {
    kernel::process_id()
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    kernel::thread_id()
}

/// Whether there is a thread with this id, in whatever process.
pub(crate) fn thread_exists(id: i32) -> bool {
    // SAFETY: the call takes no pointer, and sends nothing.
    let asked = unsafe { syscall6(libc::SYS_tkill as u32, [id as u64, 0, 0, 0, 0, 0]) };
    asked != Err(Errno::ESRCH)
}

/// Sends a signal to the calling thread.
pub(crate) fn send_to_self(signal: Signal) {
    let (pid, tid) = (kernel::process_id(), kernel::thread_id());
    let arguments = [pid as u64, tid as u64, signal.number() as u64, 0, 0, 0];
    // SAFETY: the call takes no pointer.
    let _ = unsafe { syscall6(libc::SYS_tgkill as u32, arguments) };
}

/// Puts a signal back into the kernel, where it waits while it is blocked.
pub(super) fn give_back(info: &SigInfo) -> SyscallResult {
    let Some(signal) = info.signal() else { return Ok(0) };
    let (pid, tid) = (kernel::process_id(), kernel::thread_id());
    let info = info.as_bytes().as_ptr() as u64;
    let arguments = [pid as u64, tid as u64, signal.number() as u64, info, 0, 0];
    // SAFETY: the kernel reads the 128 bytes of the siginfo.
    unsafe { syscall6(libc::SYS_rt_tgsigqueueinfo as u32, arguments) }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    /// `SA_RESTORER`: the kernel insists on one (arch/x86/kernel/signal_64.c).
    pub(super) const RESTORER_FLAG: u64 = 0x0400_0000;

    core::arch::global_asm!(
        // Where a handler returns to: rt_sigreturn, with the frame at rsp. Never called.
        ".globl endo_signal_restorer",
        ".type endo_signal_restorer, @function",
        "endo_signal_restorer:",
        "mov eax, {rt_sigreturn}",
        "syscall",
        "ud2",
        ".size endo_signal_restorer, . - endo_signal_restorer",
        rt_sigreturn = const libc::SYS_rt_sigreturn,
    );

    unsafe extern "C" {
        static endo_signal_restorer: u8;
    }

    pub(super) fn restorer() -> usize {
        &raw const endo_signal_restorer as usize
    }

    pub(super) fn program_counter(context: &libc::ucontext_t) -> u64 {
        context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64
    }

    /// Goes on at the context's program counter, with its stack pointer and r15 and no other register of it.
    ///
    /// # Safety
    ///
    /// What is there wants no more, and this stack is not needed again.
    pub(super) unsafe fn jump(context: &libc::ucontext_t) -> ! {
        let registers = &context.uc_mcontext.gregs;
        // SAFETY: the caller's promise. All three are in registers before the stack changes.
        unsafe {
            core::arch::asm!(
                "mov r15, rdx",
                "mov rsp, rsi",
                "jmp rdi",
                in("rdi") registers[libc::REG_RIP as usize],
                in("rsi") registers[libc::REG_RSP as usize],
                in("rdx") registers[libc::REG_R15 as usize],
                options(noreturn),
            );
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    /// The kernel's vDSO has the restorer.
    pub(super) const RESTORER_FLAG: u64 = 0;

    pub(super) fn restorer() -> usize {
        0
    }

    pub(super) fn program_counter(context: &libc::ucontext_t) -> u64 {
        context.uc_mcontext.pc
    }

    /// No backend here leaves by a jump: the handler returns, which does as well.
    ///
    /// # Safety
    ///
    /// None is needed.
    pub(super) unsafe fn jump(_context: &libc::ucontext_t) {}
}

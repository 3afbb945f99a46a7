//! Runs one instruction with given registers and tells what became of it.
//!
//! The instruction lies at the end of a page, behind which nothing may be fetched; so it ends in a fault, its own
//! or that of the next fetch. The handler notes the fault and returns to where the probe was entered.
//!
//! ```text
//!        code page                            guard page (no access)
//!   …………………………… | instruction bytes |  ^ next fetch faults here
//! ```

use std::arch::naked_asm;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
/// Nothing is mapped up to here but what the probe reserves, so an access to the window faults.
const WINDOW: (usize, usize) = (0x1_0000, (1 << 32) + 0x10_0000);

/// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8…r15. The vector registers get the same values; rsp is in the window.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) general: [u64; 15],
}

pub(crate) const RDI: usize = 5;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It completed without an access that faulted.
    Executed,
    /// It faulted at this address.
    Accessed(u64),
    /// The processor wanted to fetch beyond the bytes given.
    NeedsMoreBytes,
    /// The processor does not know it.
    Undefined,
    /// A general protection fault, which has no address.
    Protection,
    /// A division or floating-point error.
    Arithmetic,
    /// Anything else: the signal, and how far rip had come.
    Other(i32, i64),
}

/// One at a time: signal handlers and the window belong to the process.
static OWNER: Mutex<()> = Mutex::new(());

static TARGET: AtomicU64 = AtomicU64::new(0);
static SAVED_RSP: AtomicU64 = AtomicU64::new(0);
static WIDE_VECTORS: AtomicI32 = AtomicI32::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static SIGNAL_CODE: AtomicI32 = AtomicI32::new(0);
static SIGNAL_RIP: AtomicU64 = AtomicU64::new(0);
static SIGNAL_ADDRESS: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Probe {
    page: *mut u8,
    _owner: MutexGuard<'static, ()>,
}

impl Probe {
    pub(crate) fn new() -> Probe {
        let owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        WIDE_VECTORS.store(i32::from(is_x86_feature_detected!("avx512bw")), SeqCst);
        let (start, end) = WINDOW;
        map(start as *mut u8, end - start, libc::PROT_NONE, libc::MAP_FIXED | libc::MAP_NORESERVE);
        let page = map(ptr::null_mut(), 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, 0);
        map(page.wrapping_add(PAGE), PAGE, libc::PROT_NONE, libc::MAP_FIXED);
        let size = 1 << 18;
        let stack = libc::stack_t {
            ss_sp: map(ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, 0).cast(),
            ss_flags: 0,
            ss_size: size,
        };
        // SAFETY: the stack is mapped, of that size and used by nobody else; no old one is asked for.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
        for signal in [libc::SIGSEGV, libc::SIGILL, libc::SIGBUS, libc::SIGFPE, libc::SIGTRAP] {
            // SAFETY: all-zero bytes are a `sigaction`: no flags, an empty mask, the default action.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: the action is initialised and its handler has the signature of SA_SIGINFO.
            assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
        }
        Probe { page, _owner: owner }
    }

    pub(crate) fn run(&mut self, bytes: &[u8], registers: &Registers) -> Outcome {
        let end = self.page as u64 + PAGE as u64;
        let start = end - bytes.len() as u64;
        assert!(bytes.len() <= 15);
        // SAFETY: the destination is the last bytes of the writable page, which nothing else refers to.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, bytes.len()) };
        TARGET.store(start, SeqCst);
        // SAFETY: the code at TARGET is one instruction that the verifier admits, a prefix of one, or one of the
        // test's own; it stores to nothing that is mapped, and its end is a fault that on_fault turns into a return.
        unsafe { enter(registers) };
        let (signal, rip, address) =
            (SIGNAL.load(SeqCst), SIGNAL_RIP.load(SeqCst), SIGNAL_ADDRESS.load(SeqCst));
        /// `si_code` of a fault without an address (asm-generic/siginfo.h).
        const SI_KERNEL: i32 = 0x80;
        match signal {
            libc::SIGILL => Outcome::Undefined,
            libc::SIGFPE => Outcome::Arithmetic,
            libc::SIGSEGV if SIGNAL_CODE.load(SeqCst) == SI_KERNEL => Outcome::Protection,
            libc::SIGSEGV if rip == end => Outcome::Executed,
            libc::SIGSEGV if rip == start && address == end => Outcome::NeedsMoreBytes,
            libc::SIGSEGV if rip == start => Outcome::Accessed(address),
            other => Outcome::Other(other, rip.wrapping_sub(start) as i64),
        }
    }
}

fn map(at: *mut u8, length: usize, protection: i32, flags: i32) -> *mut u8 {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: fixed mappings are asked for only over the low 4 GiB, where a position-independent executable has
    // nothing, and over a page of an earlier call.
    let address = unsafe { libc::mmap(at.cast(), length, protection, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    address.cast()
}

extern "C" fn on_fault(signal: i32, info: *const libc::siginfo_t, context: *mut libc::c_void) {
    const TRAP_DIRECTION_ALIGNMENT: i64 = 0x4_0500;
    // SAFETY: the kernel passes a valid siginfo.
    let info = unsafe { &*info };
    // SAFETY: the kernel passes a valid ucontext, which is this handler's until it returns.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    SIGNAL.store(signal, SeqCst);
    SIGNAL_CODE.store(info.si_code, SeqCst);
    SIGNAL_RIP.store(registers[libc::REG_RIP as usize] as u64, SeqCst);
    // SAFETY: the signals handled are faults, whose siginfo has an address.
    SIGNAL_ADDRESS.store(unsafe { info.si_addr() } as u64, SeqCst);
    let saved = SAVED_RSP.swap(0, SeqCst);
    if saved == 0 {
        // A fault of the test itself.
        std::process::abort();
    }
    registers[libc::REG_RIP as usize] = leave as *const () as i64;
    registers[libc::REG_RSP as usize] = saved as i64;
    registers[libc::REG_EFL as usize] &= !TRAP_DIRECTION_ALIGNMENT;
}

/// Saves the callee-saved registers, loads all others and jumps to TARGET. [`leave`] returns from here.
///
/// # Safety
///
/// What TARGET names must end in a fault and store to nothing that is in use.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(registers: *const Registers) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // Here is where leave finds rsp.
        "mov [rip + {saved}], rsp",
        "movups xmm0, [rdi]",
        "movups xmm1, [rdi + 16]",
        "movups xmm2, [rdi + 32]",
        "cmp dword ptr [rip + {wide}], 0",
        "je 2f",
        "vmovdqu64 zmm0, [rdi]",
        "vmovdqu64 zmm1, [rdi + 8]",
        "vmovdqu64 zmm2, [rdi + 16]",
        "kxnorq k1, k1, k1",
        "kxnorq k2, k2, k2",
        "2:",
        "mov rax, [rdi]",
        "mov rbx, [rdi + 8]",
        "mov rcx, [rdi + 16]",
        "mov rdx, [rdi + 24]",
        "mov rsi, [rdi + 32]",
        "mov rbp, [rdi + 48]",
        "mov r8, [rdi + 56]",
        "mov r9, [rdi + 64]",
        "mov r10, [rdi + 72]",
        "mov r11, [rdi + 80]",
        "mov r12, [rdi + 88]",
        "mov r13, [rdi + 96]",
        "mov r14, [rdi + 104]",
        "mov r15, [rdi + 112]",
        "mov rdi, [rdi + 40]",
        "mov esp, 0x80000000",
        "jmp [rip + {target}]",
        saved = sym SAVED_RSP,
        wide = sym WIDE_VECTORS,
        target = sym TARGET,
    )
}

/// Returns from [`enter`], with the control words of a fresh thread.
///
/// # Safety
///
/// rsp is what [`enter`] saved.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "fninit",
        "push 0x1f80",
        "ldmxcsr [rsp]",
        "pop rax",
        "cmp dword ptr [rip + {wide}], 0",
        "je 2f",
        "vzeroupper",
        "2:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        wide = sym WIDE_VECTORS,
    )
}

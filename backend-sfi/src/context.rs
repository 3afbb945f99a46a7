//! The per-thread context: what emitted code and the gates find at constant offsets from the host's thread pointer.
//!
//! The block is thread-local storage of the executable (initial-exec, local-exec), so its distance from FS is a link-time
//! constant: emitted code reaches a slot with one `fs:[disp32]` access, and entering the monitor switches no segment
//! base. A guest cannot name it: no guest instruction is emitted with an FS segment prefix (see [`crate::verify`]).

use core::arch::global_asm;
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::AtomicBool;

use endo_core::arch::host_thread_pointer;
use endo_core::{COPY_BYTES, Registers};

use crate::gate::Leave;
use crate::runtime::Outcome;
use crate::step::Pace;
use crate::verify::ContextSlots;

/// A copy of the guest's r11, at every boundary: dispatch uses the register, and every indirect entry reloads it from here.
/// Written where the guest writes r11, not at each dispatch: that would make of all dispatches a chain through memory.
pub const SPILL_R11: usize = 0;
/// Scratch slots of multi-instruction sequences.
pub const SPILL_SCRATCH: usize = 1;
/// The slot of a register that holds an address meanwhile.
pub const SPILL_ADDRESS: usize = 2;
/// How many spill slots there are.
pub const SPILL_SLOTS: usize = 4;

/// The state of one guest thread between emitted code, the gates and the runtime.
#[repr(C, align(64))]
pub struct Context {
    /// Written and read by emitted code.
    pub spill: [u64; SPILL_SLOTS],
    /// The guest's FS and GS bases: read by emitted code, which has no constants of a thread.
    pub guest_bases: [u64; 2],
    /// Where a predicted return leads: written by emitted code, and popped by its `ret`.
    pub return_target: u64,
    /// The address of `return_target`.
    pub return_stack: u64,
    /// Written by emitted code, as an immediate, before it jumps to a gate: an exit's number, or a guest address.
    pub exit_info: u32,
    /// Set by the signal handler: leave at the next chance.
    pub exit_requested: u32,
    /// Where in the code cache the guest goes on.
    pub resume: u64,
    /// The host stack while the guest runs: 16-byte aligned, callee-saved registers above it.
    pub host_stack: u64,
    /// The second argument of the call that the gate is about to make: the guest's, or the address of `copied`.
    pub second_argument: u64,
    /// What the kernel gets in the place of memory that the guest could change meanwhile.
    pub copied: [u64; COPY_BYTES / 8],
    /// AH and AL as LAHF and SETO left them, while a fast path runs.
    pub fast_flags: u64,
    /// The guest's registers, complete whenever a gate has been passed.
    pub registers: Registers,
    /// Where XSAVE puts the guest's vector state.
    pub vector: u64,
    /// Fast paths by call number, and how many there are.
    pub fast_paths: u64,
    /// See `fast_paths`.
    pub fast_path_count: u64,
    /// The backend that this thread belongs to, while it is in `run`; null otherwise.
    pub backend: u64,
    /// What the signal handler saw, when it makes the guest leave. Meaningless otherwise: zeroed memory at first.
    pub leave: MaybeUninit<Leave>,
    /// What a light gate that did not go back to the guest leaves for `run`.
    pub outcome: MaybeUninit<Outcome>,
    /// MXCSR of the guest, while a light gate runs, and the host's.
    pub guest_mxcsr: u32,
    /// See `guest_mxcsr`.
    pub host_mxcsr: u32,
    /// xmm0 to xmm15 of the guest, while a light gate runs. Upper halves stay in the registers.
    pub xmm: Xmm,
    /// Whether the thread is in emitted code, or may go back to it without asking anybody: see [`crate::threads`].
    pub inside: AtomicBool,
    /// Whether the thread is in a system call that the gate makes for it, and will look at `is_stale` before it goes on.
    pub in_call: AtomicBool,
    /// Set by who clears the cache while the thread is in a call: `resume` leads nowhere.
    pub is_stale: AtomicBool,
    /// Whether the guest runs a step at a time.
    pub pace: Pace,
    /// It has left because a step is over.
    pub stepped: bool,
    /// The guest's alignment-check flag, where it has it among its flags. The processor's is never set: it would hold
    /// for the host's accesses too.
    pub alignment_flag: u64,
}

impl Context {
    /// What emitted code may name of a context at this distance from the thread pointer.
    pub fn slots(displacement: i32) -> ContextSlots {
        let spill = displacement + offset_of!(Context, spill) as i32;
        let bases = displacement + offset_of!(Context, guest_bases) as i32;
        ContextSlots {
            spill: spill..spill + 8 * SPILL_SLOTS as i32,
            guest_bases: bases..bases + 16,
            return_target: displacement + offset_of!(Context, return_target) as i32,
            return_stack: displacement + offset_of!(Context, return_stack) as i32,
            exit_info: displacement + offset_of!(Context, exit_info) as i32,
        }
    }
}

/// Sixteen registers of sixteen bytes, as MOVAPS wants them.
#[repr(C, align(16))]
pub struct Xmm([[u64; 2]; 16]);

/// Bytes reserved in the thread-local block: a few more than [`Context`] needs, so that the assembly has a literal.
const RESERVED: usize = 1024;
const _: () = assert!(size_of::<Context>() <= RESERVED);

global_asm!(
    ".section .tbss.endo_sfi_context, \"awT\", @nobits",
    ".globl endo_sfi_context",
    ".hidden endo_sfi_context",
    ".type endo_sfi_context, @object",
    ".size endo_sfi_context, {size}",
    ".p2align 6",
    "endo_sfi_context:",
    ".zero {size}",
    ".text",
    size = const RESERVED,
);

/// The distance of the context from the thread pointer, in bytes: negative.
pub fn displacement() -> i32 {
    (current() as i64 - host_thread_pointer() as i64) as i32
}

/// The calling thread's context. All-zero until the thread enters a guest for the first time.
pub fn current() -> *mut Context {
    let address: u64;
    // SAFETY: the first word of the thread control block is its own address (psABI, TLS variant II); the sum is this
    // thread's copy of a static thread-local variable.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr fs:[0]",
            "lea {0}, [{0} + endo_sfi_context@tpoff]",
            out(reg) address,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    address as *mut Context
}

//! The gates between emitted code and the runtime, in naked assembly.
//!
//! ```text
//!   host stack while the guest runs            who is where
//!   ┌───────────────────────────┐
//!   │ frame of SfiBackend::run  │
//!   │ return address            │              enter   host -> guest, all state from the context
//!   │ rbp rbx r12 r13 r14 r15   │              tail    its restartable end: checks for a wanted exit, loads, jumps
//!   │ (8 bytes of padding)      │ <- context   syscall fast path between two guest instructions, or leave
//!   ├───────────────────────────┤    .host_    light   keeps the guest in the gate, calls the translator, goes back
//!   │ fast paths and light      │    stack     leave   guest -> host, from a gate or from the signal handler
//!   │ gates run here            │
//! ```
//!
//! FS is the host's throughout, GS the dispatch table's. Emitted code reaches the gates through trampolines at the start
//! of the code cache.

use core::arch::global_asm;
use core::mem::offset_of;

use endo_core::Fault;

use crate::cache::Gate;
use crate::context::{Context, SPILL_R11};

mod place;

pub use place::{Place, place};

/// Why emitted code was left. The numbers are the assembly's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Reason {
    /// A system call that the monitor must see; registers are complete, rax is the number again.
    Syscall = 1,
    /// The light gate's work ended in an exit (see [`crate::runtime`]).
    Special = 2,
    /// An exit was wanted before the guest went on: registers are complete.
    Requested = 3,
    /// The signal handler took the guest out of emitted code: see [`Leave`].
    Signal = 4,
    /// An exit was wanted at a system call before it was made: the call is still to come.
    BeforeSyscall = 5,
    /// An exit was wanted after a system call: the result is in rax.
    AfterSyscall = 6,
}

/// What the signal handler saw when it took the guest out of emitted code.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    /// The host's program counter. The other registers are in the context.
    pub host_pc: u64,
    /// The fault of the instruction there, or `None` for something asynchronous.
    pub fault: Option<Fault>,
}

macro_rules! gates {
    ($($line:expr),* $(,)?) => {
        global_asm!(
            $($line,)*
            rax = const GPR, rcx = const GPR + 8, rdx = const GPR + 16, rbx = const GPR + 24, rsp_ = const GPR + 32,
            rbp = const GPR + 40, rsi = const GPR + 48, rdi = const GPR + 56, r8 = const GPR + 64, r9 = const GPR + 72,
            r10 = const GPR + 80, r11 = const GPR + 88, r12 = const GPR + 96, r13 = const GPR + 104,
            r14 = const GPR + 112, r15 = const GPR + 120,
            pc = const offset_of!(Context, registers.pc),
            flags = const offset_of!(Context, registers.flags),
            spill_r11 = const offset_of!(Context, spill) + 8 * SPILL_R11,
            exit_info = const offset_of!(Context, exit_info),
            exit_requested = const offset_of!(Context, exit_requested),
            in_call = const offset_of!(Context, in_call),
            is_stale = const offset_of!(Context, is_stale),
            resume = const offset_of!(Context, resume),
            host_stack = const offset_of!(Context, host_stack),
            second_argument = const offset_of!(Context, second_argument),
            copied = const offset_of!(Context, copied),
            fast_flags = const offset_of!(Context, fast_flags),
            vector = const offset_of!(Context, vector),
            fast_paths = const offset_of!(Context, fast_paths),
            fast_path_count = const offset_of!(Context, fast_path_count),
            guest_mxcsr = const offset_of!(Context, guest_mxcsr),
            host_mxcsr = const offset_of!(Context, host_mxcsr),
            xmm = const offset_of!(Context, xmm),
            components = const VECTOR_COMPONENTS,
            fresh_x87 = const FRESH_X87,
            light = sym crate::runtime::light,
            special = const Reason::Special as u64,
            syscall = const Reason::Syscall as u64,
            requested = const Reason::Requested as u64,
            before_syscall = const Reason::BeforeSyscall as u64,
            after_syscall = const Reason::AfterSyscall as u64,
        );
    };
}

/// The state components that a guest has (SDM volume 1, 13.1): x87, SSE, AVX and the three of AVX-512. Not PKRU, which is
/// the monitor's; CPUID as the guest sees it offers none of the others.
pub const VECTOR_COMPONENTS: u32 = 0xe7;

/// Control word 0x37f, status word and tags 0: the x87 state of FNINIT (SDM volume 1, 8.1.8).
const FRESH_X87: u64 = 0x37f;

const GPR: usize = offset_of!(Context, registers.gpr);

gates!(
    // A context slot: ctx <offset> is fs:[endo_sfi_context@tpoff + offset].
    ".macro endo_store offset, register",
    "mov qword ptr fs:[endo_sfi_context@tpoff + \\offset], \\register",
    ".endm",
    ".macro endo_load register, offset",
    "mov \\register, qword ptr fs:[endo_sfi_context@tpoff + \\offset]",
    ".endm",
    // ------------------------------------------------------------------ enter
    // extern "C" fn endo_sfi_enter() -> Reason. All guest state comes from the context.
    ".globl endo_sfi_enter",
    ".type endo_sfi_enter, @function",
    "endo_sfi_enter:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    "push r13",
    ".cfi_adjust_cfa_offset 8",
    "push r14",
    ".cfi_adjust_cfa_offset 8",
    "push r15",
    ".cfi_adjust_cfa_offset 8",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "endo_store {host_stack}, rsp",
    "stmxcsr dword ptr fs:[endo_sfi_context@tpoff + {host_mxcsr}]",
    "endo_load rcx, {vector}",
    "mov eax, {components}",
    "xor edx, edx",
    "xrstor64 [rcx]",
    // ------------------------------------------------------------------ tail
    // Restartable: a signal handler that finds the program counter in here moves it to the start.
    ".globl endo_sfi_tail",
    "endo_sfi_tail:",
    "endo_load rsp, {host_stack}",
    "cmp dword ptr fs:[endo_sfi_context@tpoff + {exit_requested}], 0",
    "jne endo_sfi_tail_leave",
    "push qword ptr fs:[endo_sfi_context@tpoff + {flags}]",
    "popfq",
    "endo_load rax, {rax}",
    "endo_load rcx, {rcx}",
    "endo_load rdx, {rdx}",
    "endo_load rbx, {rbx}",
    "endo_load rbp, {rbp}",
    "endo_load rsi, {rsi}",
    "endo_load rdi, {rdi}",
    "endo_load r8, {r8}",
    "endo_load r9, {r9}",
    "endo_load r10, {r10}",
    "endo_load r11, {r11}",
    "endo_store {spill_r11}, r11",
    "endo_load r12, {r12}",
    "endo_load r13, {r13}",
    "endo_load r14, {r14}",
    "endo_load r15, {r15}",
    "endo_load rsp, {rsp_}",
    "jmp qword ptr fs:[endo_sfi_context@tpoff + {resume}]",
    ".globl endo_sfi_tail_end",
    "endo_sfi_tail_end:",
    "endo_sfi_tail_leave:",
    "mov r15d, {requested}",
    // ------------------------------------------------------------------ leave
    // Registers are complete in the context, vector state is live in the processor. r15 = reason, rsp = host stack.
    "endo_sfi_save_vector:",
    "endo_load rcx, {vector}",
    "mov eax, {components}",
    "xor edx, edx",
    "xsave64 [rcx]",
    // The signal handler enters here: it has saved the vector state itself. r15 = reason, rsp = host stack.
    ".globl endo_sfi_leave",
    "endo_sfi_leave:",
    "cld",
    "ldmxcsr dword ptr fs:[endo_sfi_context@tpoff + {host_mxcsr}]",
    // The control word that programs start with, and an empty register stack. Most guests have them already, and the
    // instruction is slow: the area's first five bytes are control word, status word and tags.
    "endo_load rcx, {vector}",
    "mov rax, [rcx]",
    "shl rax, 24",
    "mov rcx, {fresh_x87} << 24",
    "cmp rax, rcx",
    "je endo_sfi_x87_is_fresh",
    "fninit",
    "endo_sfi_x87_is_fresh:",
    "mov eax, r15d",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "pop r15",
    ".cfi_adjust_cfa_offset -8",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    "pop r13",
    ".cfi_adjust_cfa_offset -8",
    "pop r12",
    ".cfi_adjust_cfa_offset -8",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    "pop rbp",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size endo_sfi_enter, . - endo_sfi_enter",
    // ------------------------------------------------------------------ light gates
    // All registers are the guest's. The vector registers' low halves are saved here, the rest stays where it is: what
    // `light` calls is compiled for SSE2 and reaches no libc routine that uses more (see crate::memory_routines).
    ".globl endo_sfi_gate_miss",
    "endo_sfi_gate_miss:",
    "endo_store {rdi}, rdi",
    "endo_store {pc}, r11",
    "endo_load r11, {spill_r11}",
    "mov edi, 2",
    "jmp endo_sfi_light_save",
    // A return that found no entry: r11 is rsp before it.
    ".globl endo_sfi_gate_return_miss",
    "endo_sfi_gate_return_miss:",
    "lea esp, [r11 + 8]",
    "endo_store {rdi}, rdi",
    "endo_load r11, {spill_r11}",
    "mov edi, 3",
    "jmp endo_sfi_light_save",
    ".globl endo_sfi_gate_special",
    "endo_sfi_gate_special:",
    "endo_store {rdi}, rdi",
    "mov edi, 1",
    "jmp endo_sfi_light_save",
    ".globl endo_sfi_gate_link",
    "endo_sfi_gate_link:",
    "endo_store {rdi}, rdi",
    "mov edi, 0",
    "endo_sfi_light_save:",
    "endo_store {rax}, rax",
    "endo_store {rcx}, rcx",
    "endo_store {rdx}, rdx",
    "endo_store {rbx}, rbx",
    "endo_store {rsp_}, rsp",
    "endo_store {rbp}, rbp",
    "endo_store {rsi}, rsi",
    "endo_store {r8}, r8",
    "endo_store {r9}, r9",
    "endo_store {r10}, r10",
    "endo_store {r11}, r11",
    "endo_store {r12}, r12",
    "endo_store {r13}, r13",
    "endo_store {r14}, r14",
    "endo_store {r15}, r15",
    "endo_load rsp, {host_stack}",
    "pushfq",
    "pop qword ptr fs:[endo_sfi_context@tpoff + {flags}]",
    "cld",
    "mov rbx, qword ptr fs:[0]",
    "lea rbx, [rbx + endo_sfi_context@tpoff + {xmm}]",
    "movaps [rbx], xmm0",
    "movaps [rbx + 16], xmm1",
    "movaps [rbx + 32], xmm2",
    "movaps [rbx + 48], xmm3",
    "movaps [rbx + 64], xmm4",
    "movaps [rbx + 80], xmm5",
    "movaps [rbx + 96], xmm6",
    "movaps [rbx + 112], xmm7",
    "movaps [rbx + 128], xmm8",
    "movaps [rbx + 144], xmm9",
    "movaps [rbx + 160], xmm10",
    "movaps [rbx + 176], xmm11",
    "movaps [rbx + 192], xmm12",
    "movaps [rbx + 208], xmm13",
    "movaps [rbx + 224], xmm14",
    "movaps [rbx + 240], xmm15",
    "stmxcsr dword ptr fs:[endo_sfi_context@tpoff + {guest_mxcsr}]",
    "ldmxcsr dword ptr fs:[endo_sfi_context@tpoff + {host_mxcsr}]",
    "call {light}",
    "movaps xmm0, [rbx]",
    "movaps xmm1, [rbx + 16]",
    "movaps xmm2, [rbx + 32]",
    "movaps xmm3, [rbx + 48]",
    "movaps xmm4, [rbx + 64]",
    "movaps xmm5, [rbx + 80]",
    "movaps xmm6, [rbx + 96]",
    "movaps xmm7, [rbx + 112]",
    "movaps xmm8, [rbx + 128]",
    "movaps xmm9, [rbx + 144]",
    "movaps xmm10, [rbx + 160]",
    "movaps xmm11, [rbx + 176]",
    "movaps xmm12, [rbx + 192]",
    "movaps xmm13, [rbx + 208]",
    "movaps xmm14, [rbx + 224]",
    "movaps xmm15, [rbx + 240]",
    "ldmxcsr dword ptr fs:[endo_sfi_context@tpoff + {guest_mxcsr}]",
    "test eax, eax",
    "jz endo_sfi_tail",
    "mov r15d, {special}",
    "jmp endo_sfi_save_vector",
    // ------------------------------------------------------------------ system calls
    // r11 = where the cache goes on, exit_info = guest address after the call. Flags and all other registers are the
    // guest's; rcx and r11 are the call's to clobber.
    ".globl endo_sfi_gate_syscall",
    "endo_sfi_gate_syscall:",
    "endo_store {resume}, r11",
    "endo_store {rsp_}, rsp",
    "endo_load rsp, {host_stack}",
    "endo_store {rax}, rax",
    "mov ecx, eax",
    "lahf",
    "seto al",
    "endo_store {fast_flags}, rax",
    "cmp rcx, qword ptr fs:[endo_sfi_context@tpoff + {fast_path_count}]",
    "jae endo_sfi_syscall_slow_first",
    "shl ecx, 4",
    "add rcx, qword ptr fs:[endo_sfi_context@tpoff + {fast_paths}]",
    "cmp qword ptr [rcx + 8], 0",
    "je endo_sfi_syscall_slow_first",
    "endo_store {rdi}, rdi",
    "endo_store {rsi}, rsi",
    "endo_store {second_argument}, rsi",
    "endo_store {rdx}, rdx",
    "endo_store {r10}, r10",
    "endo_store {r8}, r8",
    "endo_store {r9}, r9",
    "mov rax, rcx",
    "mov rcx, r10",
    "cmp qword ptr [rax + 8], 1",
    "jne endo_sfi_syscall_call",
    "call qword ptr [rax]",
    "test rax, rax",
    "jnz endo_sfi_syscall_slow",
    "endo_sfi_syscall_make:",
    "cmp dword ptr fs:[endo_sfi_context@tpoff + {exit_requested}], 0",
    "jne endo_sfi_syscall_requested",
    // From here to the instruction after `syscall`, a signal means: the call was not made. The handler takes the
    // registers that the check may have clobbered from the context.
    ".globl endo_sfi_syscall_window",
    "endo_sfi_syscall_window:",
    "endo_load rdi, {rdi}",
    "endo_load rsi, {second_argument}",
    "endo_load rdx, {rdx}",
    "endo_load r10, {r10}",
    "endo_load r8, {r8}",
    "endo_load r9, {r9}",
    "endo_load rax, {fast_flags}",
    "add al, 0x7f",
    "sahf",
    "endo_load rax, {rax}",
    // The thread may sleep in there for long. Whoever clears the cache meanwhile lets it sleep, and says that what it knows
    // of the cache is stale.
    "mov byte ptr fs:[endo_sfi_context@tpoff + {in_call}], 1",
    "syscall",
    // From here to the jump, a signal means: the call was made, rax is its result.
    ".globl endo_sfi_syscall_made",
    "endo_sfi_syscall_made:",
    "mov byte ptr fs:[endo_sfi_context@tpoff + {in_call}], 0",
    "movzx ecx, byte ptr fs:[endo_sfi_context@tpoff + {is_stale}]",
    "jrcxz endo_sfi_syscall_go_on", // the flags are the guest's
    "jmp endo_sfi_syscall_stale",
    "endo_sfi_syscall_go_on:",
    "endo_load rsi, {rsi}",
    "mov ecx, dword ptr fs:[endo_sfi_context@tpoff + {exit_info}]",
    "endo_store {spill_r11}, r11",
    "endo_load rsp, {rsp_}",
    "jmp qword ptr fs:[endo_sfi_context@tpoff + {resume}]",
    ".globl endo_sfi_syscall_made_end",
    "endo_sfi_syscall_made_end:",
    // A fast path that copies what the kernel is to look at.
    "endo_sfi_syscall_copy:",
    "mov r9, qword ptr fs:[0]",
    "lea r9, [r9 + endo_sfi_context@tpoff + {copied}]",
    "call qword ptr [rax]",
    "test rax, rax",
    "jnz endo_sfi_syscall_slow",
    "mov rsi, qword ptr fs:[0]",
    "lea rsi, [rsi + endo_sfi_context@tpoff + {copied}]",
    "endo_store {second_argument}, rsi",
    "jmp endo_sfi_syscall_make",
    // A fast path that does the work itself.
    "endo_sfi_syscall_call:",
    "cmp qword ptr [rax + 8], 3",
    "je endo_sfi_syscall_copy",
    "call qword ptr [rax]",
    "mov rcx, 0x8000000000000000",
    "cmp rax, rcx",
    "je endo_sfi_syscall_slow",
    "endo_store {rax}, rax",
    "cmp dword ptr fs:[endo_sfi_context@tpoff + {exit_requested}], 0",
    "jne endo_sfi_syscall_answered",
    // From here to the jump, a signal means: the call was answered, the result is in the context.
    ".globl endo_sfi_syscall_answered_window",
    "endo_sfi_syscall_answered_window:",
    "endo_load rdi, {rdi}",
    "endo_load rsi, {rsi}",
    "endo_load rdx, {rdx}",
    "endo_load r10, {r10}",
    "endo_load r8, {r8}",
    "endo_load r9, {r9}",
    "endo_load rax, {fast_flags}",
    "add al, 0x7f",
    "sahf",
    "pushfq", // what the instruction leaves in r11, and nothing of the host's
    "pop r11",
    "endo_load rax, {rax}",
    "mov ecx, dword ptr fs:[endo_sfi_context@tpoff + {exit_info}]",
    "endo_store {spill_r11}, r11",
    "endo_load rsp, {rsp_}",
    "jmp qword ptr fs:[endo_sfi_context@tpoff + {resume}]",
    ".globl endo_sfi_syscall_answered_end",
    "endo_sfi_syscall_answered_end:",
    // Leaving. The arguments are in the context already (slow), or still in the registers (slow_first).
    "endo_sfi_syscall_slow_first:",
    "endo_store {rdi}, rdi",
    "endo_store {rsi}, rsi",
    "endo_store {rdx}, rdx",
    "endo_store {r10}, r10",
    "endo_store {r8}, r8",
    "endo_store {r9}, r9",
    ".globl endo_sfi_syscall_slow",
    "endo_sfi_syscall_slow:",
    "mov eax, {syscall}",
    "jmp endo_sfi_syscall_leave",
    "endo_sfi_syscall_stale:",
    "endo_store {rax}, rax",
    "endo_sfi_syscall_answered:",
    "mov eax, {after_syscall}",
    "jmp endo_sfi_syscall_leave",
    "endo_sfi_syscall_requested:",
    "mov eax, {before_syscall}",
    "endo_sfi_syscall_leave:",
    "endo_store {rbx}, rbx",
    "endo_store {rbp}, rbp",
    "endo_store {r12}, r12",
    "endo_store {r13}, r13",
    "endo_store {r14}, r14",
    "endo_store {r15}, r15",
    "mov r15d, eax",
    "endo_load rax, {fast_flags}",
    "add al, 0x7f",
    "sahf",
    "pushfq",
    "pop r11",
    "endo_store {flags}, r11",
    "endo_store {r11}, r11",
    "mov ecx, dword ptr fs:[endo_sfi_context@tpoff + {exit_info}]",
    "endo_store {rcx}, rcx",
    "endo_store {pc}, rcx",
    "jmp endo_sfi_save_vector",
);

unsafe extern "C" {
    /// Runs the guest whose state is in the calling thread's context until something takes it out.
    ///
    /// # Safety
    ///
    /// The context is complete: `resume` is a clean boundary of verified code in the cache, `vector` points to a valid
    /// XSAVE area, GS holds the dispatch table, and the registers obey the boundary invariant (rsp below 4 GiB, flags
    /// sanitised).
    #[link_name = "endo_sfi_enter"]
    pub fn enter() -> u64;

    static endo_sfi_tail: u8;
    static endo_sfi_tail_end: u8;
    static endo_sfi_leave: u8;
    static endo_sfi_gate_miss: u8;
    static endo_sfi_gate_return_miss: u8;
    static endo_sfi_gate_special: u8;
    static endo_sfi_gate_link: u8;
    static endo_sfi_gate_syscall: u8;
    static endo_sfi_syscall_window: u8;
    static endo_sfi_syscall_made: u8;
    static endo_sfi_syscall_made_end: u8;
    static endo_sfi_syscall_answered_window: u8;
    static endo_sfi_syscall_answered_end: u8;
}

/// Start of the restartable tail.
pub fn tail() -> u64 {
    address(&raw const endo_sfi_tail)
}

/// Where a handler continues a guest that it has taken out of emitted code.
pub fn leave() -> u64 {
    address(&raw const endo_sfi_leave)
}

/// The gates that emitted code may jump to.
pub fn entry_points() -> [(Gate, u64); 5] {
    [
        (Gate::Link, address(&raw const endo_sfi_gate_link)),
        (Gate::Special, address(&raw const endo_sfi_gate_special)),
        (Gate::Syscall, address(&raw const endo_sfi_gate_syscall)),
        (Gate::Miss, address(&raw const endo_sfi_gate_miss)),
        (Gate::ReturnMiss, address(&raw const endo_sfi_gate_return_miss)),
    ]
}

fn address(symbol: *const u8) -> u64 {
    symbol as u64
}

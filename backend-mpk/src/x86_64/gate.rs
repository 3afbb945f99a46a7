//! The only code of a running Endo that changes PKRU: one page, made when the backend is created.
//!
//! Any guest thread can jump to any instruction of the process: protection keys do not stop fetches. So each WRPKRU or
//! XRSTOR must be harmless to whoever jumps right to it with registers of their choice. Both here are followed, without a
//! branch in between, by a comparison with the *seal*: 64 random bits that stand in this page as an immediate and in memory of
//! the monitor. Who could read them has the monitor's rights already: guests can run this page, and read neither. Without the
//! seal the code ends in `ud2`, whose signal finds the monitor.
//!
//! ```text
//! [enter]    saves the host's registers, closes the selector, loads vector state, PKRU = the guest's | seal? | registers, iretq
//! [set_pkru] PKRU = edi | seal? | ret
//! ```
//!
//! The page is a copy of a template in read-only data, which is not executable: the executable's own text has no
//! WRPKRU at all.

use core::arch::global_asm;
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::io;

use endo_core::native::dispatch::{ALLOW, BLOCK};
use endo_core::{HostAddr, PAGE_SIZE};

use super::block::Block;
use super::port::Port;
use crate::pkru::Pkru;
use crate::scan;

global_asm!(
    ".pushsection .rodata.endo_mpk_gate, \"a\", @progbits",
    ".globl endo_mpk_gate_template",
    ".hidden endo_mpk_gate_template",
    "endo_mpk_gate_template:",
    // extern "C" fn enter(rdi: *const Block) -> eax: 0 when the guest was left, 1 if a signal waits already
    //
    //  host stack while the guest runs
    //  |  caller's frame     |
    //  |  return address     |
    //  |  rbp rbx r12 … r15  |
    //  |  host gs base       |  <- Block::host_stack_pointer
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "rdgsbase rax",
    "push rax",
    "mov [rdi + {HOST_STACK_POINTER}], rsp",
    // From here on a signal belongs to the guest; one that came before left its mark.
    "mov byte ptr [rdi + {INSIDE}], 1",
    "cmp byte ptr [rdi + {PENDING}], 0",
    "jne 9f",
    "mov r10, [rdi + {PORT}]",
    "mov r8, [rdi + {SEAL}]",
    "mov r9d, [rdi + {GUEST_PKRU}]",
    "mov rsi, [rdi + {VECTOR}]",
    "mov byte ptr [r10 + {SELECTOR}], {BLOCK}",
    "mov rax, [rdi + {GS_BASE}]",
    "wrgsbase rax",
    "mov rax, [rdi + {COMPONENTS}]",
    "mov rdx, rax",
    "shr rdx, 32",
    "mov rcx, [rdi + {FS_BASE}]",
    "wrfsbase rcx",
    "xrstor64 [rsi]",
    "mov eax, r9d",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    // What was written denies the monitor's key, and whoever came here knows the seal.
    "test al, 1",
    "jz 8f",
    ".globl endo_mpk_gate_seal_1",
    ".hidden endo_mpk_gate_seal_1",
    "endo_mpk_gate_seal_1:",
    "movabs rcx, 0x1122334455667788",
    "cmp rcx, r8",
    "jne 8f",
    // The port is read-only to the guest, and all that it sees from here on is its own.
    "lea rsp, [r10 + {FRAME}]",
    "mov rax, [rsp + {REGISTERS} + 0]",
    "mov rcx, [rsp + {REGISTERS} + 8]",
    "mov rdx, [rsp + {REGISTERS} + 16]",
    "mov rbx, [rsp + {REGISTERS} + 24]",
    "mov rbp, [rsp + {REGISTERS} + 40]",
    "mov rsi, [rsp + {REGISTERS} + 48]",
    "mov rdi, [rsp + {REGISTERS} + 56]",
    "mov r8, [rsp + {REGISTERS} + 64]",
    "mov r9, [rsp + {REGISTERS} + 72]",
    "mov r10, [rsp + {REGISTERS} + 80]",
    "mov r11, [rsp + {REGISTERS} + 88]",
    "mov r12, [rsp + {REGISTERS} + 96]",
    "mov r13, [rsp + {REGISTERS} + 104]",
    "mov r14, [rsp + {REGISTERS} + 112]",
    "mov r15, [rsp + {REGISTERS} + 120]",
    ".globl endo_mpk_gate_last",
    ".hidden endo_mpk_gate_last",
    "endo_mpk_gate_last:",
    "iretq",
    "8: ud2",
    // A signal came before: the guest does not run.
    "9: mov byte ptr [rdi + {INSIDE}], 0",
    "add rsp, 8",
    "mov eax, 1",
    "jmp 7f",
    // Where a handler continues that took the guest out, on the stack that `enter` left.
    ".globl endo_mpk_gate_resume",
    ".hidden endo_mpk_gate_resume",
    "endo_mpk_gate_resume:",
    "pop rax",
    "wrgsbase rax",
    "xor eax, eax",
    "7: pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // extern "C" fn set_pkru(edi: value, rsi: seal)
    ".globl endo_mpk_gate_set_pkru",
    ".hidden endo_mpk_gate_set_pkru",
    "endo_mpk_gate_set_pkru:",
    "mov eax, edi",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    ".globl endo_mpk_gate_seal_2",
    ".hidden endo_mpk_gate_seal_2",
    "endo_mpk_gate_seal_2:",
    "movabs rdx, 0x1122334455667788",
    "cmp rdx, rsi",
    "jne 8f",
    "xor edx, edx",
    "xor esi, esi",
    "ret",
    "8: ud2",
    ".globl endo_mpk_gate_template_end",
    ".hidden endo_mpk_gate_template_end",
    "endo_mpk_gate_template_end:",
    ".popsection",
    HOST_STACK_POINTER = const offset_of!(Block, host_stack_pointer),
    INSIDE = const offset_of!(Block, inside),
    PENDING = const offset_of!(Block, pending),
    PORT = const offset_of!(Block, port),
    SEAL = const offset_of!(Block, seal),
    GUEST_PKRU = const offset_of!(Block, guest_pkru),
    VECTOR = const offset_of!(Block, vector),
    COMPONENTS = const offset_of!(Block, components),
    FS_BASE = const offset_of!(Block, fs_base),
    GS_BASE = const offset_of!(Block, gs_base),
    SELECTOR = const offset_of!(Port, selector),
    FRAME = const offset_of!(Port, frame),
    REGISTERS = const offset_of!(Port, registers) - offset_of!(Port, frame),
    BLOCK = const BLOCK,
);

const _: () = assert!(ALLOW == 0 && BLOCK == 1);

unsafe extern "C" {
    static endo_mpk_gate_template: u8;
    static endo_mpk_gate_seal_1: u8;
    static endo_mpk_gate_seal_2: u8;
    static endo_mpk_gate_last: u8;
    static endo_mpk_gate_resume: u8;
    static endo_mpk_gate_set_pkru: u8;
    static endo_mpk_gate_template_end: u8;
}

/// Bytes of MOVABS before its immediate.
const MOVABS_OPCODE: usize = 2;

/// Where the page lies, and the seal; zero until [`build`] has run.
static PAGE: AtomicUsize = AtomicUsize::new(0);
static SEAL: AtomicU64 = AtomicU64::new(0);

/// Makes the page, once a process.
pub(super) fn build() -> io::Result<()> {
    if PAGE.load(Ordering::Acquire) != 0 {
        return Ok(());
    }
    let mut code = template().to_vec();
    let seal = loop {
        let seal = random_word()?;
        for label in [&raw const endo_mpk_gate_seal_1, &raw const endo_mpk_gate_seal_2] {
            let at = offset(label) + MOVABS_OPCODE;
            code[at..at + size_of::<u64>()].copy_from_slice(&seal.to_le_bytes());
        }
        // No fourth place where the rights could be loaded, in whatever way these bytes are read.
        if seal != 0 && scan::hits(&code).count() == scan::hits(template()).count() {
            break seal;
        }
    };
    let page = map_page(&code)?;
    SEAL.store(seal, Ordering::Relaxed);
    PAGE.store(page, Ordering::Release);
    Ok(())
}

/// The seal, for [`Block`].
pub(super) fn seal() -> u64 {
    SEAL.load(Ordering::Relaxed)
}

/// Where the page's code lies.
pub(super) fn range() -> Range<usize> {
    let start = PAGE.load(Ordering::Relaxed);
    start..start + template().len()
}

/// The instruction that enters the guest: where it faults if the guest's program counter is no address.
pub(super) fn last_instruction() -> usize {
    range().start + offset(&raw const endo_mpk_gate_last)
}

/// Where the host goes on after the guest.
pub(super) fn resume_address() -> usize {
    range().start + offset(&raw const endo_mpk_gate_resume)
}

/// Runs the guest of `block` until a signal takes it out: true; false if one came before.
///
/// # Safety
///
/// The block is the calling thread's and filled in; its port is armed; the handlers of this backend are installed.
pub(super) unsafe fn enter(block: &Block) -> bool {
    // SAFETY: `enter` stands at the start of the page, and has this type.
    let enter =
        unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(*const Block) -> u32>(range().start) };
    // SAFETY: the caller's promise.
    unsafe { enter(block) == 0 }
}

/// Sets the calling thread's rights. Async-signal-safe.
pub(super) fn set_pkru(value: Pkru) {
    let address = range().start + offset(&raw const endo_mpk_gate_set_pkru);
    // SAFETY: the function stands there, and has this type. It changes PKRU, eax, ecx, edx and esi; no stack but its return
    // address. No compiler moves accesses across the call of a function that it does not know.
    let set = unsafe { core::mem::transmute::<usize, extern "C" fn(u32, u64)>(address) };
    set(value.bits(), seal());
}

fn template() -> &'static [u8] {
    let start = &raw const endo_mpk_gate_template;
    let length = offset(&raw const endo_mpk_gate_template_end);
    // SAFETY: the two labels stand around read-only data.
    unsafe { core::slice::from_raw_parts(start, length) }
}

fn offset(label: *const u8) -> usize {
    label as usize - (&raw const endo_mpk_gate_template) as usize
}

fn random_word() -> io::Result<u64> {
    let mut word = 0_u64;
    // SAFETY: eight writable bytes.
    let length = unsafe { libc::getrandom((&raw mut word).cast(), size_of::<u64>(), 0) };
    if length == size_of::<u64>() as isize { Ok(word) } else { Err(io::Error::last_os_error()) }
}

/// A page of its own with this code, executable and not writable. Its key is the monitor's.
fn map_page(code: &[u8]) -> io::Result<usize> {
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping wherever the kernel likes touches nothing that exists.
    let page = unsafe { libc::mmap(core::ptr::null_mut(), PAGE_SIZE as usize, rights, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let at = HostAddr(page as usize);
    // SAFETY: the page was just mapped, and the code is shorter than it.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), at.as_ptr(), code.len()) };
    // SAFETY: the page is ours, and nobody writes to it again.
    match unsafe { libc::mprotect(page, PAGE_SIZE as usize, libc::PROT_READ | libc::PROT_EXEC) } {
        0 => Ok(at.0),
        _ => Err(io::Error::last_os_error()),
    }
}

//! Copies to and from guest memory that survive whatever the guest has mapped, or not mapped, there.
//!
//! A guest pointer that passed `host_range` lies in the guest's window, but nothing may be mapped at it, or another
//! guest thread may unmap it at any moment. [`copy`] moves bytes and reports how many it could not: a fault inside it is
//! recognised by [`recover`], which the monitor's signal handler calls first.

use crate::HostAddr;

/// Copies `length` bytes and returns how many of them, at the end, were not copied because a page was not accessible.
///
/// # Safety
///
/// The side that is not guest memory must be valid for `length` bytes. The guest side must lie in a range that
/// `host_range` returned; it may be unmapped. A handler that calls [`recover`] must be installed for SIGSEGV and SIGBUS.
pub unsafe fn copy(to: HostAddr, from: HostAddr, length: usize) -> usize {
    // SAFETY: the caller's promises are those of `raw_copy`.
    unsafe { arch::raw_copy(to.as_ptr(), from.as_ptr(), length) }
}

/// Replaces the word at `at` by `new` if it is `expected`, in one step, and returns what it was; `None` if it is not
/// accessible.
///
/// # Safety
///
/// The word is aligned and lies in a range that `host_range` returned; it may be unmapped. A handler that calls
/// [`recover`] must be installed for SIGSEGV and SIGBUS.
pub unsafe fn compare_exchange(at: HostAddr, expected: u32, new: u32) -> Option<u32> {
    // SAFETY: the caller's promises are those of `raw_compare_exchange`.
    u32::try_from(unsafe { arch::raw_compare_exchange(at.as_ptr(), expected, new) }).ok()
}

/// Loads 64 bits, for fast paths: with plain instructions, whatever the flags. `None` if the page is not accessible.
///
/// # Safety
///
/// As for [`copy`] with `from` as the guest side.
pub unsafe fn load_word(from: HostAddr) -> Option<u64> {
    let mut word = 0;
    // SAFETY: the caller's promise, and the word is ours.
    let missed = unsafe { arch::raw_load_word(from.as_ptr(), &raw mut word) };
    (missed == 0).then_some(word)
}

/// Stores two words of 64 bits, for fast paths likewise. Whether it could.
///
/// # Safety
///
/// As for [`copy`] with `to` as the guest side.
pub unsafe fn store_pair(to: HostAddr, pair: [u64; 2]) -> bool {
    // SAFETY: the caller's promise.
    unsafe { arch::raw_store_pair(to.as_ptr(), pair[0], pair[1]) == 0 }
}

/// If the interrupted instruction is one of [`copy`], [`compare_exchange`], or of the loads and stores that fast paths use,
/// that touches guest memory:
/// moves the context on to the point where that gives up, and says so. Only for a signal that this instruction has raised:
/// any other would make a copy give up that can go on. Async-signal-safe.
pub fn recover(context: &mut libc::ucontext_t) -> bool {
    arch::recover(context)
}

#[cfg(target_arch = "x86_64")]
mod arch {
    core::arch::global_asm!(
        // extern "C" fn endo_raw_copy(rdi: to, rsi: from, rdx: length) -> usize
        // No vector register and no flag but those of the C ABI is touched, so a fast path may call it.
        ".globl endo_raw_copy",
        ".type endo_raw_copy, @function",
        "endo_raw_copy:",
        ".cfi_startproc",
        "mov rcx, rdx",
        ".globl endo_raw_copy_touch",
        ".hidden endo_raw_copy_touch",
        "endo_raw_copy_touch:",
        "rep movsb",
        ".globl endo_raw_copy_give_up",
        ".hidden endo_raw_copy_give_up",
        "endo_raw_copy_give_up:",
        "mov rax, rcx",
        "ret",
        ".cfi_endproc",
        ".size endo_raw_copy, . - endo_raw_copy",
        // extern "C" fn endo_raw_compare_exchange(rdi: at, esi: expected, edx: new) -> u64
        // The word as it was, or all ones.
        ".globl endo_raw_compare_exchange",
        ".type endo_raw_compare_exchange, @function",
        "endo_raw_compare_exchange:",
        ".cfi_startproc",
        "mov eax, esi",
        ".globl endo_raw_exchange_touch",
        ".hidden endo_raw_exchange_touch",
        "endo_raw_exchange_touch:",
        "lock cmpxchg [rdi], edx",
        "mov eax, eax",
        "ret",
        ".globl endo_raw_exchange_give_up",
        ".hidden endo_raw_exchange_give_up",
        "endo_raw_exchange_give_up:",
        "mov rax, -1",
        "ret",
        ".cfi_endproc",
        ".size endo_raw_compare_exchange, . - endo_raw_compare_exchange",
        // extern "C" fn endo_raw_load_word(rdi: from, rsi: to, of ours) -> u64
        // For fast paths, which run with the guest's direction flag. 0: it is loaded.
        ".globl endo_raw_load_word",
        ".hidden endo_raw_load_word",
        ".type endo_raw_load_word, @function",
        "endo_raw_load_word:",
        ".cfi_startproc",
        ".globl endo_raw_load_touch",
        ".hidden endo_raw_load_touch",
        "endo_raw_load_touch:",
        "mov rax, [rdi]",
        "mov [rsi], rax",
        "xor eax, eax",
        "ret",
        ".cfi_endproc",
        ".size endo_raw_load_word, . - endo_raw_load_word",
        // extern "C" fn endo_raw_store_pair(rdi: to, rsi: first, rdx: second) -> u64
        // extern "C" fn endo_raw_store_word(rdi: to, rsi: value) -> u64
        // extern "C" fn endo_raw_store_half(rdi: to, esi: value) -> u64
        // Likewise plain stores of 16, 8 and 4 bytes. 0: all is stored.
        ".globl endo_raw_store_pair",
        ".hidden endo_raw_store_pair",
        ".type endo_raw_store_pair, @function",
        "endo_raw_store_pair:",
        ".cfi_startproc",
        "endo_raw_store_second:",
        "mov [rdi + 8], rdx",
        ".globl endo_raw_store_word",
        ".hidden endo_raw_store_word",
        "endo_raw_store_word:",
        "endo_raw_store_first:",
        "mov [rdi], rsi",
        "xor eax, eax",
        "ret",
        ".globl endo_raw_store_half",
        ".hidden endo_raw_store_half",
        "endo_raw_store_half:",
        "mov [rdi], esi",
        "xor eax, eax",
        "ret",
        "endo_raw_store_give_up:",
        "mov eax, 1",
        "ret",
        ".cfi_endproc",
        ".size endo_raw_store_pair, . - endo_raw_store_pair",
    );

    unsafe extern "C" {
        #[link_name = "endo_raw_copy"]
        pub(super) fn raw_copy(to: *mut u8, from: *const u8, length: usize) -> usize;
        #[link_name = "endo_raw_compare_exchange"]
        pub(super) fn raw_compare_exchange(at: *mut u32, expected: u32, new: u32) -> u64;
        static endo_raw_exchange_touch: u8;
        static endo_raw_exchange_give_up: u8;
        #[link_name = "endo_raw_load_word"]
        pub(super) fn raw_load_word(from: *const u64, to: *mut u64) -> u64;
        #[link_name = "endo_raw_store_pair"]
        pub(super) fn raw_store_pair(to: *mut u64, first: u64, second: u64) -> u64;
        static endo_raw_load_touch: u8;
        static endo_raw_copy_touch: u8;
        static endo_raw_copy_give_up: u8;
        static endo_raw_store_first: u8;
        static endo_raw_store_second: u8;
        static endo_raw_store_half: u8;
        static endo_raw_store_give_up: u8;
    }

    pub(super) fn recover(context: &mut libc::ucontext_t) -> bool {
        let ways_out = [
            (&raw const endo_raw_copy_touch, &raw const endo_raw_copy_give_up),
            (&raw const endo_raw_exchange_touch, &raw const endo_raw_exchange_give_up),
            (&raw const endo_raw_load_touch, &raw const endo_raw_store_give_up),
            (&raw const endo_raw_store_first, &raw const endo_raw_store_give_up),
            (&raw const endo_raw_store_second, &raw const endo_raw_store_give_up),
            (&raw const endo_raw_store_half, &raw const endo_raw_store_give_up),
        ];
        let pc = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        let way_out = ways_out.iter().find(|(touch, _)| *touch as i64 == *pc);
        if let Some(&(_, give_up)) = way_out {
            *pc = give_up as i64;
        }
        way_out.is_some()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    //! Without assembly of our own: the kernel copies, and tells how far it came.

    pub(super) unsafe fn raw_copy(to: *mut u8, from: *const u8, length: usize) -> usize {
        let local = libc::iovec { iov_base: to.cast(), iov_len: length };
        let remote = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: length };
        // SAFETY: no precondition.
        let own_pid = unsafe { libc::getpid() };
        // SAFETY: both vectors live until the call returns; inaccessible memory is an error, not a fault.
        let copied = unsafe { libc::process_vm_readv(own_pid, &raw const local, 1, &raw const remote, 1, 0) };
        length - usize::try_from(copied).unwrap_or(0)
    }

    /// In two steps: another thread may have been in between.
    pub(super) unsafe fn raw_compare_exchange(at: *mut u32, expected: u32, new: u32) -> u64 {
        let mut before = 0_u32;
        // SAFETY: the caller's promise, and `before` is ours.
        if unsafe { raw_copy((&raw mut before).cast(), at.cast(), 4) } != 0 {
            return u64::MAX;
        }
        // SAFETY: as above; the kernel writes to the address that it is given as the other side's.
        if before == expected && unsafe { raw_copy(at.cast(), (&raw const new).cast(), 4) } != 0 {
            return u64::MAX;
        }
        u64::from(before)
    }

    pub(super) unsafe fn raw_load_word(from: *const u64, to: *mut u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { raw_copy(to.cast(), from.cast(), 8) as u64 }
    }

    pub(super) unsafe fn raw_store_pair(to: *mut u64, first: u64, second: u64) -> u64 {
        let pair = [first, second];
        // SAFETY: the caller's promise.
        unsafe { raw_copy(to.cast(), pair.as_ptr().cast(), 16) as u64 }
    }

    pub(super) fn recover(_context: &mut libc::ucontext_t) -> bool {
        false
    }
}

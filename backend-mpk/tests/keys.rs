//! Protection keys do here what the backend builds on: there are fifteen to have, WRPKRU takes rights away at once, a
//! denied access is a SIGSEGV that names key and address, and system calls see the same rights.
//!
//! This needs a processor with keys, so `cargo test` leaves it out; `cargo xtask vm tests` runs it in the emulated machine.

#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};

use endo_mpk::pkru::{Denied, Key, Pkru};

const PAGE: usize = 4096;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// `si_code` of a fault that protection keys caused (asm-generic/siginfo.h).
const SEGV_PKUERR: u32 = 4;
/// Where `si_pkey` lies in a `siginfo_t`: after the address and an aligned `si_addr_lsb`.
const SI_PKEY: usize = 32;

/// What a child found, in memory that its parent sees.
struct Found {
    signal: AtomicU32,
    code: AtomicU32,
    address: AtomicU64,
    key: AtomicU32,
    value: AtomicU64,
}

/// The same for the signal handler of a child.
static FOUND: AtomicPtr<Found> = AtomicPtr::new(ptr::null_mut());

#[test]
fn there_are_fifteen_keys_to_have() {
    let found = in_child(|| {
        // Those that other tests have at this moment; pages that have them are not touched any more.
        (1..u64::from(Key::COUNT)).for_each(free);
        std::iter::from_fn(allocate).count() as u64
    });
    assert_value(found, u64::from(Key::COUNT) - 1);
}

#[test]
fn threads_start_with_access_to_the_default_key_only() {
    assert_eq!(read_pkru(), Pkru::LINUX_INITIAL);
}

#[test]
fn the_register_holds_what_was_written() {
    let found = in_child(|| {
        let key = allocate().expect("there is a key to have");
        deny(key, Denied::WRITE);
        u64::from(read_pkru().denied(key).bits())
    });
    assert_value(found, u64::from(Denied::WRITE.bits()));
}

#[test]
fn a_load_under_a_denied_key_faults_with_key_and_address() {
    let page = Keyed::new(READ_WRITE);
    let address = page.at.wrapping_add(40);
    let found = in_child(|| {
        deny(page.key, Denied::ACCESS);
        load(address)
    });
    assert_denied(found, address, page.key);
}

#[test]
fn a_store_under_a_write_disabled_key_faults_and_a_load_does_not() {
    let page = Keyed::new(READ_WRITE);
    let address = page.at.wrapping_add(80);
    let found = in_child(|| {
        deny(page.key, Denied::WRITE);
        load(page.at);
        store(address);
        0
    });
    assert_denied(found, address, page.key);
}

#[test]
fn rights_that_are_given_back_are_there_again() {
    let page = Keyed::new(READ_WRITE);
    let found = in_child(|| {
        deny(page.key, Denied::ACCESS);
        deny(page.key, Denied::empty());
        store(page.at);
        load(page.at)
    });
    assert_value(found, 1);
}

#[test]
fn a_system_call_on_denied_memory_is_efault() {
    let page = Keyed::new(READ_WRITE);
    let found = in_child(|| {
        deny(page.key, Denied::ACCESS);
        // SAFETY: the page has room for what the call writes; whether it may is what is tested.
        unsafe { libc::syscall(libc::SYS_uname, page.at) };
        // SAFETY: reads a word of this thread's.
        unsafe { *libc::__errno_location() as u64 }
    });
    assert_value(found, libc::EFAULT as u64);
}

#[test]
fn instructions_are_fetched_whatever_is_denied() {
    let page = Keyed::new(libc::PROT_READ | libc::PROT_EXEC);
    let found = in_child(|| {
        deny(page.key, Denied::all());
        // SAFETY: `Keyed::new` has written a function without arguments there.
        let function: extern "C" fn() -> u64 = unsafe { std::mem::transmute(page.at) };
        function()
    });
    assert_value(found, 7);
}

fn assert_value(found: &Found, value: u64) {
    assert_eq!((found.signal.load(SeqCst), found.value.load(SeqCst)), (0, value));
}

fn assert_denied(found: &Found, address: *const u8, key: Key) {
    assert_eq!(found.signal.load(SeqCst), libc::SIGSEGV as u32);
    assert_eq!(found.code.load(SeqCst), SEGV_PKUERR);
    assert_eq!(found.address.load(SeqCst), address as u64);
    assert_eq!(found.key.load(SeqCst), u32::from(key.number()));
}

/// A page with a key of its own.
struct Keyed {
    at: *mut u8,
    key: Key,
}

impl Keyed {
    fn new(rights: i32) -> Self {
        // mov eax, 7; ret
        const CODE: [u8; 6] = [0xb8, 7, 0, 0, 0, 0xc3];
        let at = map(libc::MAP_PRIVATE);
        let key = allocate().expect("there is a key to have");
        // SAFETY: the page is writable and nobody else's.
        unsafe { ptr::copy_nonoverlapping(CODE.as_ptr(), at, CODE.len()) };
        let number = u64::from(key.number());
        // SAFETY: the page is this function's.
        let result = unsafe { libc::syscall(libc::SYS_pkey_mprotect, at, PAGE, rights, number) };
        assert_eq!(result, 0, "pkey_mprotect");
        Keyed { at, key }
    }
}

fn map(sharing: i32) -> *mut u8 {
    let flags = sharing | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, READ_WRITE, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

fn allocate() -> Option<Key> {
    // SAFETY: a new key changes no page.
    let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0_u64, 0_u64) };
    Key::new(u8::try_from(key).ok()?)
}

fn free(key: u64) {
    // SAFETY: changes no page. A key that nobody has is an error, which does not matter.
    unsafe { libc::syscall(libc::SYS_pkey_free, key) };
}

fn read_pkru() -> Pkru {
    let bits: u32;
    // SAFETY: reads a register; a processor without it raises SIGILL.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") bits, out("edx") _, options(nostack, preserves_flags)) };
    Pkru::from_bits(bits)
}

fn deny(key: Key, denied: Denied) {
    let rights = read_pkru().with(key, denied);
    // Not `nomem`: accesses must not move across it.
    // SAFETY: changes rights to a page that only the calling child uses, which is what is tested.
    unsafe {
        asm!("wrpkru", in("eax") rights.bits(), in("ecx") 0, in("edx") 0, options(nostack, preserves_flags))
    };
}

fn load(from: *const u8) -> u64 {
    // SAFETY: the address is mapped; whether it may be read is what is tested.
    u64::from(unsafe { from.read_volatile() })
}

fn store(to: *mut u8) {
    // SAFETY: the address is mapped; whether it may be written is what is tested.
    unsafe { to.write_volatile(1) };
}

/// Runs a function in a process of its own, and returns what came of it: a fault, or a value.
fn in_child(work: impl Fn() -> u64) -> &'static Found {
    let page = map(libc::MAP_SHARED).cast::<Found>();
    // SAFETY: zeroed memory is a value of these atomics, aligned to a page, and never unmapped.
    let found = unsafe { &*page };
    // SAFETY: the child makes system calls only, and so does what it runs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        FOUND.store(page, SeqCst);
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the form that the flag announces.
        unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
        found.value.store(work(), SeqCst);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    found
}

/// The handler of a child for SIGSEGV.
extern "C" fn note(signal: i32, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: `in_child` has set it to a page that stays.
    let found = unsafe { &*FOUND.load(SeqCst) };
    // SAFETY: the kernel passes a valid structure.
    let code = unsafe { (*information).si_code };
    // SAFETY: the kernel fills in an address for this signal.
    let address = unsafe { (*information).si_addr() };
    // SAFETY: the structure has 128 bytes, and the field is aligned.
    let key = unsafe { information.byte_add(SI_PKEY).cast::<u32>().read() };
    found.code.store(code as u32, SeqCst);
    found.address.store(address as u64, SeqCst);
    found.key.store(key, SeqCst);
    found.signal.store(signal as u32, SeqCst);
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(0) };
}

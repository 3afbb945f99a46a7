//! Ports: what a host thread shows to its guest and to the kernel while the guest runs.
//!
//! A port is a page under a key of its own, which guests may read and not write. It holds the selector of Syscall User
//! Dispatch, which the kernel reads with the guest's rights, and the registers that the gate loads when it has given up the
//! monitor's. Both are no secret from the guest whose they are.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::io;
use std::ptr;

use endo_core::arch::Gpr;
use endo_core::native::dispatch::{self, ALLOW};
use endo_core::native::frame::{USER_CS, USER_SS};
use endo_core::{HostAddr, PAGE_SIZE, Registers};

use super::block::Block;
use super::{gate, keys};

/// What lies in the page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(super) struct Port {
    pub(super) selector: AtomicU8,
    /// What IRETQ pops (SDM volume 2, "IRET").
    pub(super) frame: InterruptFrame,
    /// Indexed as instructions encode them; rsp is the frame's.
    pub(super) registers: [u64; 16],
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct InterruptFrame {
    pc: u64,
    cs: u64,
    flags: u64,
    stack_pointer: u64,
    ss: u64,
}

impl Port {
    /// Fills in what the gate loads.
    pub(super) fn set(&mut self, registers: &Registers) {
        self.registers = registers.gpr;
        self.frame = InterruptFrame {
            pc: registers.pc,
            cs: u64::from(USER_CS),
            flags: registers.flags.sanitised().0,
            stack_pointer: registers.get(Gpr::Rsp),
            ss: u64::from(USER_SS),
        };
    }
}

/// Gives the calling host thread a port and arms dispatch with its selector, unless it has one. Each call wants a [`leave`].
pub(super) fn join() -> io::Result<()> {
    Block::with(|block| {
        if block.port.get().is_null() {
            block.port.set(pool::take().map_or_else(map, Ok)?);
            block.seal.set(gate::seal());
            block.guest_pkru.set(keys::GUEST.bits());
        }
        if block.users.get() == 0 {
            arm(block)?;
        }
        block.users.set(block.users.get() + 1);
        Ok(())
    })
}

/// Undoes a [`join`]. When the last guest thread of the host thread is gone its calls are its own, and the port is another's.
pub(super) fn leave() {
    Block::with(|block| {
        block.users.set(block.users.get() - 1);
        if block.users.get() == 0 {
            dispatch::disarm();
            pool::put(block.port.replace(ptr::null_mut()));
        }
    });
}

/// Arms dispatch in a child of fork or vfork, where it is off, if the calling thread had it on.
pub(super) fn arm_in_child() -> io::Result<()> {
    Block::with(|block| if block.users.get() == 0 { Ok(()) } else { arm(block) })
}

fn arm(block: &Block) -> io::Result<()> {
    let port = block.port.get();
    // SAFETY: the port is mapped, and the thread's own.
    let selector = unsafe { &(*port).selector };
    selector.store(ALLOW, Ordering::Relaxed);
    // SAFETY: a port is never unmapped, and passed on only once dispatch is off.
    unsafe { dispatch::arm(0, 0, core::ptr::from_ref(selector) as usize) }
}

fn map() -> io::Result<*mut Port> {
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping wherever the kernel likes touches nothing that exists.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_SIZE as usize, rights, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    keys::protect(HostAddr(page as usize), PAGE_SIZE as usize, rights, keys::PORT)?;
    Ok(page.cast())
}

const _: () = assert!(size_of::<Port>() == PAGE_SIZE as usize);

/// Ports without a thread. No lock: a fork finds it in order whatever other threads are doing. One too many is left mapped.
mod pool {
    use super::{AtomicUsize, HostAddr, Ordering, Port};

    const SLOTS: usize = 64;
    static FREE: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];

    pub(super) fn take() -> Option<*mut Port> {
        let taken = FREE.iter().map(|slot| match slot.load(Ordering::Relaxed) {
            0 => 0,
            _ => slot.swap(0, Ordering::Acquire),
        });
        taken.into_iter().find(|&page| page != 0).map(|page| HostAddr(page).as_ptr())
    }

    pub(super) fn put(port: *mut Port) {
        for slot in &FREE {
            if slot.compare_exchange(0, port as usize, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

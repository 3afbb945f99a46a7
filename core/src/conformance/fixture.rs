//! A backend with a guest in it: maps memory as a monitor does, and runs threads. For the suite, and for the tests that a backend
//! has besides.

use std::fmt::Debug;
use std::io;

use super::{Finding, host};
use crate::{
    CodeSource, DomainId, Exit, Fault, FaultKind, GuestAddr, GuestRange, HostAddr, HostRange,
    IsolationBackend, PAGE_SIZE, Registers, Rights, SignalStack, ThreadState, copy,
};

/// Where guest code starts.
pub const CODE: u64 = 0x1000_0000;
/// Where guest data starts: 64 KiB.
pub const DATA: u64 = 0x2000_0000;
/// Bytes of data, and of stack.
pub const AREA: u64 = 0x1_0000;
/// Where nothing is ever mapped.
pub const HOLE: u64 = 0x2800_0000;
/// The stack's lowest address.
pub const STACK: u64 = 0x3000_0000;
/// Where threads have their stack pointer at first.
pub const STACK_POINTER: u64 = STACK + AREA / 2;

const MAIN: DomainId = DomainId::MAIN;

/// A backend with data and stack mapped.
pub struct Fixture<B: IsolationBackend> {
    /// The backend, alive until the child ends.
    pub backend: &'static B,
    _signal_stack: SignalStack,
}

impl<B: IsolationBackend> Fixture<B> {
    /// A new backend, once a process.
    pub fn new() -> Result<Self, String> {
        let signal_stack = SignalStack::install().map_err(|error| format!("no signal stack: {error}"))?;
        let backend = B::new(super::configuration()).map_err(|error| format!("no backend: {error}"))?;
        let backend: &'static B = Box::leak(Box::new(backend));
        host::install(backend).map_err(|error| format!("no signal handler: {error}"))?;
        let fixture = Fixture { backend, _signal_stack: signal_stack };
        fixture.map(DATA, AREA, Rights::READ | Rights::WRITE)?;
        fixture.map(STACK, AREA, Rights::READ | Rights::WRITE)?;
        Ok(fixture)
    }

    /// Maps zeroed pages.
    pub fn map(&self, start: u64, length: u64, rights: Rights) -> Finding {
        self.map_with(start, length, rights, &[])
    }

    /// Maps pages that start with these bytes, in place of what was there, and admits them if they may run.
    pub fn map_with(&self, start: u64, length: u64, rights: Rights, bytes: &[u8]) -> Finding {
        self.backend.retire_code(MAIN, range(start, length));
        let host = self.host(start, length)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies in the guest's window, where the suite alone maps.
        let mapped = unsafe { libc::mmap(host.start.as_ptr(), host.length, writable, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(format!("cannot map {start:#x}: {}", io::Error::last_os_error()));
        }
        self.poke(start, bytes)?;
        self.protect(host, rights)?;
        self.admit(start, length, rights)
    }

    /// Maps pages of code that the guest may read and run.
    pub fn map_code(&self, start: u64, bytes: &[u8]) -> Finding {
        let length = (bytes.len() as u64).next_multiple_of(PAGE_SIZE);
        self.map_with(start, length, Rights::READ | Rights::EXECUTE, bytes)
    }

    /// Records rights, and admits what may run.
    pub fn admit(&self, start: u64, length: u64, rights: Rights) -> Finding {
        let range = range(start, length);
        self.backend.assign(MAIN, range, rights).map_err(|error| format!("assign: {error}"))?;
        if rights.contains(Rights::EXECUTE) {
            let admitted = self.backend.admit_code(MAIN, range, CodeSource::Private);
            admitted.map_err(|error| format!("admit_code: {error}"))?;
        }
        Ok(())
    }

    /// Changes the rights of mapped pages as `mprotect` of a guest would, code retired before and admitted after.
    pub fn reprotect(&self, start: u64, length: u64, rights: Rights) -> Finding {
        self.backend.retire_code(MAIN, range(start, length));
        self.protect(self.host(start, length)?, rights)?;
        self.admit(start, length, rights)
    }

    /// Ends a mapping as `munmap` of a guest would: the pages become inaccessible.
    pub fn unmap(&self, start: u64, length: u64) -> Finding {
        self.backend.retire_code(MAIN, range(start, length));
        let revoked = self.backend.revoke(MAIN, range(start, length));
        revoked.map_err(|error| format!("revoke: {error}"))?;
        self.protect(self.host(start, length)?, Rights::empty())
    }

    /// Stores into guest memory that the guest may write, as a system call would. A thread that runs code there may bring
    /// the backend's write protection back in between.
    pub fn store(&self, start: u64, bytes: &[u8]) -> Finding {
        let host = self.host(start, bytes.len() as u64)?;
        let from = HostAddr(bytes.as_ptr() as usize);
        for _ in 0..1000 {
            self.backend.before_write(MAIN, range(start, bytes.len() as u64));
            // SAFETY: `bytes` is valid; the range lies in the window; the suite's handler calls `recover`.
            if unsafe { copy::copy(host.start, from, bytes.len()) } == 0 {
                return Ok(());
            }
        }
        Err(format!("{start:#x} cannot be written"))
    }

    /// A 64-bit word of guest memory.
    pub fn word(&self, address: u64) -> Result<u64, String> {
        let host = self.host(address, 8)?;
        // SAFETY: the suite reads only what it mapped readable; volatile, because the guest wrote it.
        Ok(unsafe { host.start.as_ptr::<u64>().read_volatile() })
    }

    /// Words of guest memory from `address` on.
    pub fn words<const N: usize>(&self, address: u64) -> Result<[u64; N], String> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(address + 8 * index as u64)?;
        }
        Ok(words)
    }

    /// A guest thread that starts in this state.
    pub fn thread(&self, state: ThreadState) -> Result<Guest<'_, B>, String> {
        let thread = self.backend.create_thread(MAIN, state).map_err(|error| format!("thread: {error}"))?;
        Ok(Guest { fixture: self, thread })
    }

    /// A guest thread at `pc` with the suite's stack and otherwise the architecture's initial registers.
    pub fn thread_at(&self, pc: u64) -> Result<Guest<'_, B>, String> {
        self.thread(state_at(pc))
    }

    fn host(&self, start: u64, length: u64) -> Result<HostRange, String> {
        let host = self.backend.host_range(MAIN, range(start, length));
        host.ok_or_else(|| format!("{start:#x} is outside the window"))
    }

    fn poke(&self, start: u64, bytes: &[u8]) -> Finding {
        let host = self.host(start, bytes.len() as u64)?;
        // SAFETY: the suite pokes only what it mapped writable, and `bytes` is its own.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), host.start.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn protect(&self, host: HostRange, rights: Rights) -> Finding {
        let rights = self.backend.page_rights(rights);
        let protection = [
            (Rights::READ, libc::PROT_READ),
            (Rights::WRITE, libc::PROT_WRITE),
            (Rights::EXECUTE, libc::PROT_EXEC),
        ]
        .into_iter()
        .filter(|&(right, _)| rights.contains(right))
        .fold(libc::PROT_NONE, |all, (_, bit)| all | bit);
        // SAFETY: pages of the guest that the suite mapped.
        match unsafe { libc::mprotect(host.start.as_ptr(), host.length, protection) } {
            0 => Ok(()),
            _ => Err(format!("mprotect: {}", io::Error::last_os_error())),
        }
    }
}

/// A guest thread.
pub struct Guest<'a, B: IsolationBackend> {
    fixture: &'a Fixture<B>,
    thread: B::Thread,
}

impl<B: IsolationBackend> Guest<'_, B> {
    /// Runs to whatever comes.
    pub fn run(&mut self) -> Exit {
        self.fixture.backend.run(&mut self.thread)
    }

    /// What the thread holds.
    pub fn state(&self) -> &ThreadState {
        self.fixture.backend.state(&self.thread)
    }

    /// To change it.
    pub fn state_mut(&mut self) -> &mut ThreadState {
        self.fixture.backend.state_mut(&mut self.thread)
    }

    /// General registers.
    pub fn registers(&self) -> &Registers {
        &self.state().registers
    }

    /// To change them.
    pub fn registers_mut(&mut self) -> &mut Registers {
        &mut self.state_mut().registers
    }

    /// Runs to a system call.
    pub fn run_to_syscall(&mut self) -> Finding {
        let exit = self.run();
        expect_equal("exit", exit, Exit::Syscall)
    }

    /// Runs to a fault.
    pub fn run_to_fault(&mut self) -> Result<Fault, String> {
        match self.run() {
            Exit::Fault(fault) => Ok(fault),
            other => Err(format!("expected a fault, got {other:?} at {:#x}", self.registers().pc)),
        }
    }

    /// Runs to this fault, with the program counter at `pc`.
    pub fn run_to(&mut self, kind: FaultKind, address: u64, pc: u64) -> Finding {
        let fault = self.run_to_fault()?;
        expect_equal("fault", fault, Fault { kind, address: GuestAddr(address) })?;
        expect_equal("program counter", Hex(self.registers().pc), Hex(pc))
    }
}

/// The architecture's initial state with this program counter and the suite's stack.
pub fn state_at(pc: u64) -> ThreadState {
    let mut state = ThreadState::default();
    state.registers.pc = pc;
    state.registers.set_stack_pointer(STACK_POINTER);
    state
}

/// A range of the suite's fixed addresses.
pub fn range(start: u64, length: u64) -> GuestRange {
    GuestRange::new(GuestAddr(start), length).expect("the suite's ranges do not wrap")
}

/// A number that is shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Finds whether something is as it should be.
pub fn expect_equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Finding {
    if found == wanted { Ok(()) } else { Err(format!("{what}: found {found:x?}, wanted {wanted:x?}")) }
}

/// Finds whether something holds.
pub fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Finds what is wrong with any of the cases: all of it, not only the first.
pub fn expect_all<T>(cases: &[T], mut check: impl FnMut(&T) -> Finding) -> Finding {
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    expect(wrong.is_empty(), || format!("{} of {} cases: {}", wrong.len(), cases.len(), wrong.join("; ")))
}

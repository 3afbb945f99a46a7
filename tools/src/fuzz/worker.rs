//! Runs cases under one backend, in a forked child.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use endo_core::arch::Flags;
use endo_core::{
    BackendConfig, CodeSource, DomainId, Exit, GuestAddr, GuestRange, IsolationBackend, Rights, SignalRoute,
    SignalStack, ThreadState, copy, fault,
};

use super::case::{AREAS, Area, Case, Change, Ending, INT3, MAX_CHANGES, Outcome, PAGE, Use};
use super::random::Random;
use super::vector;

/// Interruptions, a tenth of a second apart, after which a case is taken to run for ever.
const MOST_INTERRUPTIONS: u32 = 3;

const MAIN: DomainId = DomainId::MAIN;

/// Runs cases one after the other; `progress` is the number of the one that runs.
pub fn run<B: IsolationBackend>(
    cases: &[Case],
    memory_seed: u64,
    config: BackendConfig,
    progress: &AtomicUsize,
    mut record: impl FnMut(usize, &Outcome),
) -> Result<(), String> {
    let mut worker = Worker::<B>::new(memory_seed, config)?;
    for (index, case) in cases.iter().enumerate() {
        progress.store(index, Ordering::SeqCst);
        record(index, &worker.run(case));
    }
    progress.store(cases.len(), Ordering::SeqCst);
    Ok(())
}

struct Worker<B: IsolationBackend> {
    backend: &'static B,
    thread: B::Thread,
    memory: Memory,
    outcome: Outcome,
    _signal_stack: SignalStack,
}

impl<B: IsolationBackend> Worker<B> {
    fn new(memory_seed: u64, config: BackendConfig) -> Result<Self, String> {
        let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let signal_stack = SignalStack::install().map_err(text("no signal stack"))?;
        let backend = B::new(config).map_err(|error| format!("no backend: {error}"))?;
        let backend: &'static B = Box::leak(Box::new(backend));
        install_handlers(backend).map_err(text("no signal handler"))?;
        let memory = Memory::new(backend, memory_seed).map_err(text("no memory"))?;
        for area in AREAS {
            assign(backend, area)?;
        }
        let thread = backend.create_thread(MAIN, ThreadState::default());
        let thread = thread.map_err(|error| format!("no thread: {error}"))?;
        Ok(Worker { backend, thread, memory, outcome: Outcome::none(), _signal_stack: signal_stack })
    }

    fn run(&mut self, case: &Case) -> Outcome {
        let code = GuestRange::new(GuestAddr(case.at & !(PAGE - 1)), PAGE).expect("areas do not wrap");
        self.backend.retire_code(MAIN, code);
        self.memory.set(case);
        self.backend.admit_code(MAIN, code, CodeSource::Private).expect("the areas lie in the window");
        let state = self.backend.state_mut(&mut self.thread);
        state.registers = case.registers;
        vector::fill(state.vector.bytes_mut(), case);
        clear_sticky_flags();
        let mut interruptions = 0;
        let exit = loop {
            match self.backend.run(&mut self.thread) {
                Exit::Interrupted if interruptions < MOST_INTERRUPTIONS => interruptions += 1,
                exit => break exit,
            }
        };
        let state = self.backend.state(&self.thread);
        let outcome = &mut self.outcome;
        outcome.ending = Ending::Exit(exit);
        outcome.registers = state.registers;
        outcome.registers.flags = Flags(state.registers.flags.0).sanitised();
        outcome.vector = vector::canonical(state.vector.bytes());
        self.memory.take_changes(outcome);
        outcome.clone()
    }
}

/// Clears the flags that a case can set and that `rt_sigreturn` leaves as they are: nested task and ID.
fn clear_sticky_flags() {
    // SAFETY: pushes and pops one word; changes two flags that compiled code does not use. Not `nostack`, not
    // `preserves_flags`; nothing else is clobbered.
    unsafe { core::arch::asm!("pushfq", "and dword ptr [rsp], ~0x204000", "popfq") };
}

fn assign<B: IsolationBackend>(backend: &B, area: Area) -> Result<(), String> {
    let range = GuestRange::new(GuestAddr(area.start), area.end() - area.start).expect("areas do not wrap");
    backend.assign(MAIN, range, rights(area)).map_err(|error| format!("assign: {error}"))?;
    if area.purpose == Use::Code {
        backend
            .admit_code(MAIN, range, CodeSource::Private)
            .map_err(|error| format!("admit_code: {error}"))?;
    }
    Ok(())
}

fn rights(area: Area) -> Rights {
    match area.purpose {
        Use::Data => Rights::READ | Rights::WRITE,
        Use::Constant => Rights::READ,
        Use::Code => Rights::READ | Rights::EXECUTE,
    }
}

/// The guest's memory: one object, mapped once for the guest, area by area, and once as a whole for the worker.
struct Memory {
    alias: *mut u8,
    image: Vec<u8>,
}

impl Memory {
    fn new<B: IsolationBackend>(backend: &B, seed: u64) -> io::Result<Self> {
        let length: u64 = AREAS.iter().map(|area| area.end() - area.start).sum();
        // SAFETY: a constant name.
        let descriptor = unsafe { libc::memfd_create(c"endo-fuzz".as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: no precondition.
        if unsafe { libc::ftruncate(file.as_raw_fd(), length as i64) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut offset = 0;
        for area in AREAS {
            let rights = backend.page_rights(rights(area));
            let protection = [
                (Rights::READ, libc::PROT_READ),
                (Rights::WRITE, libc::PROT_WRITE),
                (Rights::EXECUTE, libc::PROT_EXEC),
            ];
            let protection = protection.into_iter().filter(|(right, _)| rights.contains(*right));
            let protection = protection.fold(0, |all, (_, bit)| all | bit);
            map(&file, Some(area.start), area.end() - area.start, protection, offset)?;
            offset += area.end() - area.start;
        }
        let alias = map(&file, None, length, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let mut memory = Memory { alias, image: image(seed) };
        let image = memory.image.clone();
        memory.bytes().copy_from_slice(&image);
        Ok(memory)
    }

    /// The worker's view. The guest does not run while it is borrowed.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: a shared mapping of that length, which only the guest writes besides, and it is not running.
        unsafe { core::slice::from_raw_parts_mut(self.alias, self.image.len()) }
    }

    /// Writes code and pokes, of which the image learns too.
    fn set(&mut self, case: &Case) {
        let mut offset = 0;
        for area in AREAS {
            let length = (area.end() - area.start) as usize;
            if area.purpose == Use::Code {
                self.image[offset..offset + length].fill(INT3);
                if (area.start..area.end()).contains(&case.at) {
                    let start = offset + (case.at - area.start) as usize;
                    self.image[start..start + case.length].copy_from_slice(case.bytes());
                }
                let code = self.image[offset..offset + length].to_vec();
                self.bytes()[offset..offset + length].copy_from_slice(&code);
            }
            offset += length;
        }
        for (address, value) in case.pokes {
            for (at, byte) in (address..).zip(value.to_le_bytes()) {
                if let Some(offset) = offset_of(at).filter(|_| address != 0) {
                    self.bytes()[offset] = byte;
                    self.image[offset] = byte;
                }
            }
        }
    }

    /// Notes what differs from the image, and undoes it.
    fn take_changes(&mut self, outcome: &mut Outcome) {
        (outcome.memory, outcome.change_count) = (0, 0);
        let mut offset = 0;
        for area in AREAS {
            let length = (area.end() - area.start) as usize;
            let image = core::mem::take(&mut self.image);
            let bytes = &mut self.bytes_of(image.len())[offset..offset + length];
            let before = &image[offset..offset + length];
            if area.purpose == Use::Data && bytes != before {
                for (index, (now, &was)) in bytes.iter_mut().zip(before).enumerate() {
                    if *now != was {
                        note(outcome, Change { address: (area.start + index as u64) as u32, now: *now });
                        *now = was;
                    }
                }
            }
            self.image = image;
            offset += length;
        }
    }

    fn bytes_of(&mut self, length: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`; the length is the image's, which is taken out meanwhile.
        unsafe { core::slice::from_raw_parts_mut(self.alias, length) }
    }
}

fn note(outcome: &mut Outcome, change: Change) {
    let word = u64::from(change.address) << 8 | u64::from(change.now);
    outcome.memory = (outcome.memory.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if outcome.change_count < MAX_CHANGES {
        outcome.changes[outcome.change_count] = change;
        outcome.change_count += 1;
    }
}

/// The memory that every case of a batch starts with.
fn image(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut image = Vec::new();
    for area in AREAS {
        for _ in 0..(area.end() - area.start) / 8 {
            let word = match random.below(8) {
                0 => 0,
                1 => random.below(256),
                2 => (random.below(2000) as f64 / 16.0).to_bits(),
                3 => u64::from((random.below(2000) as f32 / 16.0).to_bits()) * 0x1_0000_0001,
                _ => random.bits(),
            };
            image.extend_from_slice(&word.to_le_bytes());
        }
    }
    image
}

/// Where an address lies in the image.
fn offset_of(address: u64) -> Option<usize> {
    let mut offset = 0;
    for area in AREAS {
        if (area.start..area.end()).contains(&address) {
            return Some(offset + (address - area.start) as usize);
        }
        offset += (area.end() - area.start) as usize;
    }
    None
}

fn map(file: &OwnedFd, at: Option<u64>, length: u64, protection: i32, offset: u64) -> io::Result<*mut u8> {
    let flags = libc::MAP_SHARED | if at.is_some() { libc::MAP_FIXED } else { 0 };
    let address = at.unwrap_or(0) as *mut libc::c_void;
    // SAFETY: fixed addresses are guest areas, in a child whose low 4 GiB hold nothing else.
    let mapped = unsafe {
        libc::mmap(address, length as usize, protection, flags, file.as_raw_fd(), offset as libc::off_t)
    };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped.cast()) }
}

/// The child's backend, for its signal handler.
static BACKEND: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

const SIGNALS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGALRM];

fn install_handlers<B: IsolationBackend>(backend: &'static B) -> io::Result<()> {
    BACKEND.store(core::ptr::from_ref(backend).cast_mut().cast(), Ordering::Release);
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = B::signal_entry(handler::<B>) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the mask is writable.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    for signal in SIGNALS {
        // SAFETY: the handler is async-signal-safe, and the calling thread has a signal stack.
        if unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let tenth = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
    let timer = libc::itimerval { it_interval: tenth, it_value: tenth };
    // SAFETY: the value is valid, and the old one is not asked for.
    match unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, core::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

unsafe extern "C" fn handler<B: IsolationBackend>(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel's argument, valid until the handler returns.
    let info = unsafe { &mut *info };
    // SAFETY: as above; with SA_SIGINFO the third argument is a ucontext.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    // SAFETY: `install_handlers` stored a `B` that lives as long as the process.
    let backend = unsafe { &*BACKEND.load(Ordering::Acquire).cast::<B>() };
    let synchronous = fault::is_synchronous(info);
    if synchronous && copy::recover(context) {
        return;
    }
    // SAFETY: the kernel's arguments, on an alternate stack; the handler returns right after.
    let route = unsafe { backend.on_signal(synchronous, info, context) };
    if route == SignalRoute::Outside && synchronous {
        // The worker itself is broken, as far as can be: the parent finds the case's outcome missing.
        // SAFETY: no precondition.
        unsafe { libc::_exit(3) };
    }
}

//! Runs a batch of cases natively and translated, each in children of its own.

use std::io;
use std::sync::atomic::AtomicUsize;

use endo_core::{BackendConfig, IsolationBackend, NullBackend, VerifyMode};
use endo_sfi::SfiBackend;

use super::case::{Case, Outcome};
use super::worker;

/// Most cases of a batch.
pub const MOST_CASES: usize = 256;

/// Exit status of a child that could not set itself up.
const NO_START: i32 = 4;

/// Both outcomes of a case.
#[derive(Clone, Debug)]
pub struct Pair {
    /// On the processor itself.
    pub native: Outcome,
    /// Through the translator.
    pub translated: Outcome,
}

/// Memory that children write and their parent reads.
pub struct Runner {
    results: *mut [[Outcome; MOST_CASES]; 2],
    progress: *mut [AtomicUsize; 2],
    /// Whether the children's standard error is the parent's.
    pub loud: bool,
    /// Whether translated returns are predicted by the processor.
    pub predict_returns: bool,
}

impl Runner {
    /// Reserves the shared memory.
    pub fn new() -> io::Result<Self> {
        let results = shared(size_of::<[[Outcome; MOST_CASES]; 2]>())?.cast();
        let progress = shared(size_of::<[AtomicUsize; 2]>())?.cast();
        Ok(Runner { results, progress, loud: false, predict_returns: false })
    }

    /// Runs at most [`MOST_CASES`] cases.
    pub fn run(&mut self, cases: &[Case], memory_seed: u64) -> io::Result<Vec<Pair>> {
        assert!(cases.len() <= MOST_CASES, "the shared memory holds that many outcomes");
        for index in 0..cases.len() {
            self.set(0, index, &Outcome::none());
            self.set(1, index, &Outcome::none());
        }
        let mut starts = [0, 0];
        while starts != [cases.len(); 2] {
            let children = [
                self.start::<NullBackend>(0, starts[0], cases, memory_seed)?,
                self.start::<SfiBackend>(1, starts[1], cases, memory_seed)?,
            ];
            for (which, child) in children.into_iter().enumerate() {
                let Some(pid) = child else { continue };
                let ended_well = wait(pid)?;
                let reached = starts[which] + self.progress(which).load(std::sync::atomic::Ordering::SeqCst);
                // The case in which a child ended has no outcome; go on behind it.
                starts[which] = if ended_well { cases.len() } else { (reached + 1).min(cases.len()) };
            }
        }
        Ok((0..cases.len())
            .map(|index| Pair { native: self.get(0, index), translated: self.get(1, index) })
            .collect())
    }

    fn start<B: IsolationBackend>(
        &mut self,
        which: usize,
        first: usize,
        cases: &[Case],
        memory_seed: u64,
    ) -> io::Result<Option<libc::pid_t>> {
        if first == cases.len() {
            return Ok(None);
        }
        self.progress(which).store(0, std::sync::atomic::Ordering::SeqCst);
        // SAFETY: the child uses the allocator, which glibc makes usable after a fork of a process with threads, and
        // ends without running anything of the parent's.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                self.become_child();
                let progress = core::ptr::from_ref(self.progress(which));
                // SAFETY: the shared memory lives as long as the child.
                let progress = unsafe { &*progress };
                let cases = &cases[first..];
                let config = BackendConfig {
                    verify: VerifyMode::On,
                    cache_bytes: Some(4 << 20),
                    predict_returns: self.predict_returns,
                    ..BackendConfig::default()
                };
                let record = |index: usize, outcome: &Outcome| self.set(which, first + index, outcome);
                let ended = worker::run::<B>(cases, memory_seed, config, progress, record);
                if let Err(why) = &ended {
                    eprintln!("{}: {why}", B::NAME);
                }
                // SAFETY: no precondition; runs no destructor or handler of the parent's.
                unsafe { libc::_exit(if ended.is_err() { NO_START } else { 0 }) }
            }
            pid => Ok(Some(pid)),
        }
    }

    fn become_child(&self) {
        // SAFETY: no precondition; a child whose parent ends must not go on for ever.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if !self.loud {
            // SAFETY: a constant path.
            let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY) };
            // SAFETY: no precondition.
            unsafe { libc::dup2(null, 2) };
        }
    }

    fn progress(&self, which: usize) -> &AtomicUsize {
        // SAFETY: shared memory of that type, zeroed at first, alive as long as the process.
        let both = unsafe { &*self.progress };
        &both[which]
    }

    fn slot(&self, which: usize, index: usize) -> *mut Outcome {
        assert!(which < 2 && index < MOST_CASES, "inside the shared memory");
        self.results.cast::<Outcome>().wrapping_add(which * MOST_CASES + index)
    }

    fn set(&mut self, which: usize, index: usize, outcome: &Outcome) {
        // SAFETY: a slot of the shared memory, which one process at a time uses.
        unsafe { self.slot(which, index).write(outcome.clone()) };
    }

    fn get(&self, which: usize, index: usize) -> Outcome {
        // SAFETY: as above; `run` has filled it, and its plain data has no invalid state that a child could leave.
        unsafe { (*self.slot(which, index)).clone() }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length.
        unsafe { libc::munmap(self.results.cast(), size_of::<[[Outcome; MOST_CASES]; 2]>()) };
        // SAFETY: as above.
        unsafe { libc::munmap(self.progress.cast(), size_of::<[AtomicUsize; 2]>()) };
    }
}

fn shared(length: usize) -> io::Result<*mut libc::c_void> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let mapped = unsafe {
        libc::mmap(core::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped) }
}

/// Whether the child ended by itself and well.
fn wait(pid: libc::pid_t) -> io::Result<bool> {
    let mut status = 0;
    loop {
        // SAFETY: our child; `status` is writable.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == NO_START {
                return Err(io::Error::other("a worker could not start"));
            }
            return Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

//! Loading a program, as execve(2) does (fs/exec.c, fs/binfmt_elf.c, fs/binfmt_script.c).
//!
//! [`Program::open`] finds the files and refuses what cannot run; [`load`] maps them into an empty address space and
//! lays out the first stack. Between the two an exec commits itself. [`elf`], [`script`], [`plan`], [`auxv`] and
//! [`stack`] are pure; the bytes they read come from files that nobody vouches for.

#![deny(unsafe_code)]

mod arch;
pub mod auxv;
pub mod elf;
pub mod error;
#[expect(unsafe_code, reason = "the one file of the loader that talks to the kernel")]
mod host;
pub mod layout;
mod place;
pub mod plan;
mod program;
pub mod script;
mod search;
pub mod stack;
pub mod vdso;

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;

use endo_core::{
    GuestAddr, GuestRange, IsolationBackend, Registers, Rights, SyscallMonitor, ThreadState, VectorState,
};

pub use error::LoadError;
pub use layout::Layout;
pub use program::{Executable, Program};
pub use search::find;

use crate::memory::change::Reach;
use crate::memory::user::UserMemory;
use crate::memory::{FilePart, Label, MapRequest, MemoryMap, Placement, Scatter};
use crate::process::{Image, Process};
use auxv::{HostFacts, ProgramFacts};
use place::Randomness;
use plan::{Plan, Step};

/// Where a loaded program begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartState {
    /// Its first instruction, or its dynamic linker's.
    pub pc: GuestAddr,
    /// Its stack pointer, at `argc`.
    pub sp: GuestAddr,
}

impl StartState {
    /// The state of the thread that begins there: everything else is as the kernel leaves it, cleared.
    pub fn thread_state(self) -> ThreadState {
        let mut registers = Registers { pc: self.pc.0, ..Default::default() };
        registers.set_stack_pointer(self.sp.0);
        ThreadState { registers, vector: VectorState::initial() }
    }
}

/// Maps a program into the process's address space, which must be empty, and lays out its stack.
///
/// On failure the address space is in no useful state.
pub fn load<B: IsolationBackend, M: SyscallMonitor>(
    process: &Process<B, M>,
    program: &Program,
    argv: &[&CStr],
    environment: &[&CStr],
) -> Result<StartState, LoadError> {
    let mut memory = process.memory.lock().expect("no thread panics with the memory map locked");
    let mut loader = Loader { backend: &process.backend, map: &mut memory, random: Randomness::draw() };
    let stack_bytes = place::stack_bytes(loader.map.window());
    let arguments = program.arguments(argv, environment, stack_bytes)?;

    let main = loader.map_executable(&program.main, Label::Program)?;
    let stack = loader.map_stack(stack_bytes)?;
    let vdso = loader.map_vdso()?;
    let linker = program.interpreter.as_ref();
    let linker = linker.map(|linker| loader.map_executable(linker, Label::Interpreter)).transpose()?;
    loader.map.set_brk_start(loader.random.heap_start(main.span.end()));

    let image = &program.main.image;
    let entry = image.entry.wrapping_add(main.bias);
    let facts = ProgramFacts {
        vdso: vdso.0,
        headers: image.headers_address.unwrap_or(0).wrapping_add(main.bias),
        header_count: image.header_count.into(),
        interpreter: linker.as_ref().map_or(0, |linker| linker.bias),
        entry,
    };
    let machine = HostFacts::of_this_process();
    let initial = stack::lay_out(stack.end().0, &arguments, &machine, &facts, &loader.random.stack());
    loader.store(GuestAddr(initial.pointer), &initial.bytes, "the initial stack")?;

    let auxiliary_vector: Vec<u8> =
        initial.auxiliary_vector.iter().flat_map(auxv::AuxEntry::to_bytes).collect();
    let layout = Layout::new(&image.segments, main.bias, &initial);
    host::set_thread_name(&program.exec_name);
    host::describe_process(&layout, &auxiliary_vector);
    *process.image.lock().expect("no thread panics with the image locked") =
        Image { executable: place::path_of(&program.main.file), layout, auxiliary_vector };
    let pc = match (&linker, &program.interpreter) {
        (Some(plan), Some(linker)) => linker.image.entry.wrapping_add(plan.bias),
        _ => entry,
    };
    Ok(StartState { pc: GuestAddr(pc), sp: GuestAddr(initial.pointer) })
}

/// Where code from files goes: as `wanted`, or at places that anybody knows when the caller's personality asks for
/// addresses that do not change (`setarch -R`).
pub fn placement(wanted: Scatter) -> Scatter {
    if host::wants_fixed_addresses() { Scatter::new([0; 32]) } else { wanted }
}

/// What [`load`] would refuse about the arguments of an exec, without doing anything; and the arguments as the program
/// will find them, a script's interpreter first.
pub fn check_arguments(
    window: GuestRange,
    program: &Program,
    argv: &[&CStr],
    environment: &[&CStr],
) -> Result<Vec<CString>, LoadError> {
    let arguments = program.arguments(argv, environment, place::stack_bytes(window))?;
    Ok(arguments.arguments.iter().map(|&argument| argument.to_owned()).collect())
}

struct Loader<'a, B> {
    backend: &'a B,
    map: &'a mut MemoryMap,
    random: Randomness,
}

impl<B: IsolationBackend> Loader<'_, B> {
    fn map_executable(&mut self, executable: &Executable, label: Label) -> Result<Plan, LoadError> {
        let plan = place::plan(self.map, executable, label)?;
        for step in &plan.steps {
            match *step {
                Step::File { range, offset, rights } => {
                    let file = FilePart { fd: executable.file.as_raw_fd(), offset };
                    let placement = Placement::Fixed(range.start());
                    let mapped = self.map.map_file(self.backend, file, placement, range.len(), rights, label);
                    mapped.map_err(|errno| LoadError::Map { what: "a segment", errno })?;
                }
                Step::Zero { range, rights } => {
                    let placement = Placement::Fixed(range.start());
                    let mapped = self.map.map_anonymous(self.backend, placement, range.len(), rights, label);
                    mapped.map_err(|errno| LoadError::Map { what: "zeroed memory", errno })?;
                }
                Step::Clear { range } => {
                    let zeros = vec![0; range.len() as usize];
                    self.store(range.start(), &zeros, "the end of a segment")?;
                }
            }
        }
        Ok(plan)
    }

    fn map_stack(&mut self, bytes: u64) -> Result<GuestRange, LoadError> {
        let rights = Rights::READ | Rights::WRITE;
        let placement = Placement::Hint(self.random.stack_start(self.map, bytes));
        let anonymous = MapRequest::anonymous(placement, bytes, rights, Label::Stack);
        // It has its full size from the start. That it grows downwards keeps a guard below it free.
        let request = MapRequest { grows_down: true, host_flags: libc::MAP_NORESERVE, ..anonymous };
        self.map.map(self.backend, &request).map_err(|_| LoadError::NoRoom { what: "the stack", bytes })
    }

    fn map_vdso(&mut self) -> Result<GuestAddr, LoadError> {
        let map_error = |errno| LoadError::Map { what: "the vdso", errno };
        let length = vdso::LENGTH as u64;
        let rights = Rights::READ | Rights::WRITE;
        let mapped = self.map.map_anonymous(self.backend, Placement::Low, length, rights, Label::Vdso);
        let start = mapped.map_err(map_error)?.start();
        self.store(start, &vdso::IMAGE, "the vdso")?;
        let rights = Rights::READ | Rights::EXECUTE;
        self.map.protect(self.backend, start, length, rights, Reach::Exact).map_err(map_error)?;
        Ok(start)
    }

    fn store(&self, start: GuestAddr, bytes: &[u8], what: &'static str) -> Result<(), LoadError> {
        let memory = UserMemory::new(self.backend, endo_core::DomainId::MAIN);
        memory.write_bytes(start, bytes).map_err(|errno| LoadError::Map { what, errno })
    }
}

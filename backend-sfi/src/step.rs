//! Running a guest a little at a time, for tools that look at it in between.

use endo_core::{Exit, IsolationBackend};

use crate::context;
use crate::{SfiBackend, SfiThread};

/// How much of the guest runs at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stride {
    /// One instruction, translated alone.
    Instruction,
    /// One fragment, as long as it would be in earnest, up to a branch that leaves it.
    Fragment,
}

/// When a thread stops without being asked to; all-zero bytes, as a fresh context holds, mean that it does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Pace {
    /// Never.
    Free = 0,
    /// After a [`Stride::Instruction`].
    Instruction = 1,
    /// After a [`Stride::Fragment`].
    Fragment = 2,
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The thread's state is complete and exact; it goes on at its program counter.
    Done,
    /// The guest needs the monitor.
    Exit(Exit),
}

impl SfiBackend {
    /// Like [`IsolationBackend::run`], but for one step. Code that is translated for it is run once and never linked, so a
    /// guest is stepped from its start on or not at all; fast paths of system calls are the caller's to leave out.
    pub fn step(&self, thread: &mut SfiThread, stride: Stride) -> Step {
        let pace = match stride {
            Stride::Instruction => Pace::Instruction,
            Stride::Fragment => Pace::Fragment,
        };
        // SAFETY: this thread's own context, and no guest is running on it: no other reference to it is active.
        unsafe { (*context::current()).pace = pace };
        let exit = self.run(thread);
        // SAFETY: as above; `run` is over.
        let context = unsafe { &mut *context::current() };
        context.pace = Pace::Free;
        if core::mem::take(&mut context.stepped) { Step::Done } else { Step::Exit(exit) }
    }
}

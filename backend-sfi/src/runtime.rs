//! What happens on the monitor's stack when emitted code asks for something: a link, a dispatch entry, an emulation.

use endo_core::arch::Flags;
use endo_core::{Fault, FaultKind};

use crate::SfiBackend;
use crate::context::{self, Context};
use crate::engine::Engine;
use crate::far;
use crate::gate::Light;
use crate::special::{self, Emulated};
use crate::step::Pace;

/// What a light gate leaves for `run` when it does not go back to the guest.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The guest faulted; the context's program counter is where the fault says.
    Fault(Fault),
    /// A step is over; the context is complete.
    Stepped,
    /// Nothing: look up the context's program counter and go on (the segment bases may have changed).
    Continue,
}

/// Called by the light gates: 0 to go on at `context.resume`, 1 to leave `run`'s inner loop with an [`Outcome`].
///
/// The gate has saved the low halves of the vector registers and nothing else of the vector state, so nothing called from
/// here may use more than SSE2: see [`crate::memory_routines`].
///
/// # Safety
///
/// Called by the light gates only: the calling thread's context is complete but for `resume`.
pub unsafe extern "C" fn light(kind: u64) -> u64 {
    // SAFETY: the context is this thread's; the gate's code does not touch it while this runs.
    let context = unsafe { &mut *context::current() };
    // SAFETY: `run` put its own `&self` there and is still active further up this stack.
    let backend = unsafe { &*(context.backend as *const SfiBackend) };
    let mut engine = backend.engine();
    if context.pace != Pace::Free && kind != Light::Special as u64 {
        if kind == Light::Link as u64 {
            context.registers.pc = u64::from(engine.index.exit(context.exit_info).target);
        }
        context.outcome.write(Outcome::Stepped);
        return 1;
    }
    let entry = match kind {
        kind if kind == Light::Link as u64 => {
            let (target, entry) = engine.link(context.exit_info);
            context.registers.pc = u64::from(target);
            entry
        }
        kind if kind == Light::Miss as u64 => {
            let target = context.registers.pc as u32;
            context.registers.pc = u64::from(target);
            engine.counters.misses += 1;
            engine.indirect_entry(target)
        }
        _ => match emulate(&mut engine, context) {
            Some(entry) => entry,
            None => return 1,
        },
    };
    match entry {
        Ok(address) => {
            context.resume = address;
            0
        }
        Err(fault) => {
            context.outcome.write(Outcome::Fault(fault));
            1
        }
    }
}

/// Carries out the instruction at `exit_info`, which emitted code does not hold.
fn emulate(engine: &mut Engine, context: &mut Context) -> Option<Result<u64, Fault>> {
    context.registers.pc = u64::from(context.exit_info);
    engine.counters.emulated += 1;
    let pc = context.registers.pc;
    context.registers.flags.0 |= context.alignment_flag;
    let emulated = special::emulate(&mut context.registers);
    context.alignment_flag = context.registers.flags.0 & Flags::ALIGNMENT;
    context.registers.flags.0 &= !Flags::ALIGNMENT;
    match emulated {
        Ok(_) if context.pace != Pace::Free => {
            context.outcome.write(Outcome::Stepped);
            None
        }
        Ok(Emulated::Next) => Some(engine.entry(context.registers.pc as u32)),
        Ok(Emulated::Jumped) => Some(engine.unsettled_jump(pc as u32, context.registers.pc)),
        Ok(Emulated::BasesChanged) => {
            context.outcome.write(Outcome::Continue);
            None
        }
        Err(Fault { kind: FaultKind::Write { .. }, address }) if engine.write_to_watched(address) => {
            // Into a page of translated code: the page may be written now, and nothing has happened that cannot be
            // repeated.
            Some(engine.entry(pc as u32))
        }
        Err(fault) => {
            // A fetch that fails is reported as such, at the address that could not be fetched.
            let fault = engine
                .fetch_fault(pc as u32)
                .unwrap_or_else(|| engine.in_guest_terms(far::in_full(fault, &context.registers), pc as u32));
            context.outcome.write(Outcome::Fault(fault));
            None
        }
    }
}

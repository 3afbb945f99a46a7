//! What happens on the monitor's stack when emitted code asks for something: a link, a dispatch entry, an emulation.

use endo_core::arch::Flags;
use endo_core::copy::copy;
use endo_core::{Fault, FaultKind, GuestAddr, HostAddr};

use crate::SfiBackend;
use crate::context::{self, Context};
use crate::engine::Engine;
use crate::far;
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

/// What a light gate was entered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Light {
    /// A direct branch to code that is not linked: `exit_info` is the exit's number.
    Link = 0,
    /// An instruction that the runtime emulates: `exit_info` is its guest address.
    Special = 1,
    /// The dispatch table has no entry for the guest address in r11.
    Miss = 2,
    /// The same of a predicted return; the address is below the stack pointer.
    ReturnMiss = 3,
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
    // What an exit's number means has to be asked before the cache may be cleared.
    let link = (kind == Light::Link as u64).then_some(context.exit_info);
    if let Some(number) = link {
        context.registers.pc = u64::from(engine.index.exit(number).target);
    }
    if kind == Light::ReturnMiss as u64
        && let Err(fault) = find_returned_to(context)
    {
        context.outcome.write(Outcome::Fault(fault));
        return 1;
    }
    let flushes = engine.counters.flushes;
    engine = backend.stay(context, engine);
    let is_number_good = flushes == engine.counters.flushes;
    if context.pace != Pace::Free && kind != Light::Special as u64 {
        context.outcome.write(Outcome::Stepped);
        return 1;
    }
    context.registers.pc &= u64::from(u32::MAX);
    let entry = match (kind, link) {
        (_, Some(number)) if is_number_good => engine.link(number),
        (_, Some(_)) => engine.entry(context.registers.pc as u32),
        (kind, _) if kind == Light::Miss as u64 || kind == Light::ReturnMiss as u64 => {
            engine.counters.misses += 1;
            engine.indirect_entry(context.registers.pc as u32)
        }
        _ => {
            if !emulate(&mut engine, context) {
                return 1;
            }
            engine = backend.settle(engine);
            engine.entry(context.registers.pc as u32)
        }
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

/// Reads again where a return led, for which there was no entry: its stack pointer has moved on already.
///
/// # Errors
///
/// The fault of reading it, which another thread has brought about.
pub fn find_returned_to(context: &mut Context) -> Result<(), Fault> {
    let slot = context.registers.stack_pointer().wrapping_sub(8) & u64::from(u32::MAX);
    let mut target = [0; 8];
    let to = HostAddr(target.as_mut_ptr() as usize);
    // SAFETY: the destination has eight bytes; the source lies in the guest's window or its guard.
    let missing = unsafe { copy(to, HostAddr(slot as usize), target.len()) };
    context.registers.pc = u64::from_le_bytes(target) & u64::from(u32::MAX);
    if missing == 0 {
        return Ok(());
    }
    Err(Fault { kind: FaultKind::Read { mapped: false }, address: GuestAddr(slot) })
}

/// Carries out the instruction at `exit_info`, which emitted code does not hold. True if the guest goes on at the context's
/// program counter.
fn emulate(engine: &mut Engine, context: &mut Context) -> bool {
    let pc = context.exit_info;
    context.registers.pc = u64::from(pc);
    engine.counters.emulated += 1;
    context.registers.flags.0 |= context.alignment_flag;
    let emulated = special::emulate(&mut context.registers);
    context.alignment_flag = context.registers.flags.0 & Flags::ALIGNMENT;
    context.registers.flags.0 &= !Flags::ALIGNMENT;
    let outcome = match emulated {
        Ok(_) if context.pace != Pace::Free => Outcome::Stepped,
        Ok(Emulated::Next) => return true,
        Ok(Emulated::Jumped) => {
            engine.note_unsettled(pc);
            if context.registers.pc <= u64::from(u32::MAX) {
                return true;
            }
            let address = GuestAddr(context.registers.pc);
            Outcome::Fault(Fault { kind: FaultKind::Execute { mapped: false }, address })
        }
        Ok(Emulated::BasesChanged) => Outcome::Continue,
        // Into a page of translated code: the page may be written now, and nothing has happened that cannot be repeated.
        Err(Fault { kind: FaultKind::Write { .. }, address })
            if engine.write_to_watched(address, pc).is_some() =>
        {
            return true;
        }
        Err(fault) => {
            // A fetch that fails is reported as such, at the address that could not be fetched.
            let fault = engine
                .fetch_fault(pc)
                .unwrap_or_else(|| engine.in_guest_terms(far::in_full(fault, &context.registers), pc));
            Outcome::Fault(fault)
        }
    };
    context.outcome.write(outcome);
    false
}

//! Guest instructions aimed at memory of the host, run one by one.
//!
//! Before each, the registers are set so that many ways to form an address lead to the same target `T`:
//!
//! | register | value | | register | value |
//! | --- | --- | --- | --- | --- |
//! | rax, rdi, rsi | `T` | | rbx | a place of the guest's own data, `D` |
//! | rcx | 1 | | r8 | `T - D` |
//! | rdx | `(T - D) * 8`, a bit number | | r9 | `(T - D) / 8` |
//! | rbp, r10 | a value to store | | r12 | `T`, which needs a SIB byte |
//! | fs base | `T` | | gs base | `T` |
//! | zmm1 | eight times `T - D` | | k1 | 1 |
//!
//! After it stands a system call. A form is confined if the guest faults at that very instruction and the host's pages
//! are as they were.

use super::snippet::Snippet;
use crate::arch::Gpr;
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, Hex, expect_equal, state_at};
use crate::conformance::outside::Outside;
use crate::{Exit, Fault, FaultKind, IsolationBackend};

/// `D` of the table above.
const PLACE: u64 = DATA + 0x800;
/// Where forms find the indices for scatters and gathers.
const INDICES: u64 = DATA + 0x100;

/// The value that forms store.
const VALUE: u64 = 0x0bad_0bad_0bad_0bad;

/// An instruction and its name in messages; the snippet's `here` is the instruction, what follows is a system call.
pub(super) type Form = (&'static str, Snippet);

/// Aims every form at `target`; `foreign_code` is what the host's code page holds.
pub(super) fn expect_confined<B: IsolationBackend>(
    fixture: &Fixture<B>,
    target: u64,
    foreign_code: &[u8],
    forms: &[Form],
) -> Finding {
    let outside = Outside::new(foreign_code).map_err(|error| format!("no canary: {error}"))?;
    let distance = target.wrapping_sub(PLACE);
    let indices: Vec<u8> = distance.to_le_bytes().repeat(8);
    let mut escapes = Vec::new();
    for (index, (name, code)) in forms.iter().enumerate() {
        let place = CODE + 0x1000 * index as u64;
        fixture.map_code(place, code.bytes)?;
        fixture.store(INDICES, &indices)?;
        let mut state = state_at(place);
        let registers = &mut state.registers;
        for register in [Gpr::Rax, Gpr::Rdi, Gpr::Rsi, Gpr::R12] {
            registers.set(register, target);
        }
        registers.set(Gpr::Rbx, PLACE);
        registers.set(Gpr::Rcx, 1);
        registers.set(Gpr::R8, distance);
        registers.set(Gpr::R9, distance / 8);
        registers.set(Gpr::Rdx, distance.wrapping_mul(8));
        registers.set(Gpr::Rbp, VALUE);
        registers.set(Gpr::R10, VALUE);
        (registers.fs_base, registers.gs_base) = (target, target);
        let mut guest = fixture.thread(state)?;
        let exit = guest.run();
        let pc = guest.registers().pc;
        let confined = match exit {
            Exit::Fault(Fault { kind, .. }) if is_refusal(kind) => {
                expect_equal("program counter", Hex(pc), Hex(place + code.here))
            }
            other => Err(format!("ended in {other:?}")),
        };
        let verdict = outside.check(foreign_code).and(confined);
        if let Err(why) = verdict {
            escapes.push(format!("{name}: {why}"));
            outside.restore(foreign_code);
        }
    }
    expect_no_escapes(escapes, forms.len())
}

/// A fault at the access itself, or an instruction that is not offered. A general-protection fault is neither: the
/// processor raises it for what it has loaded.
const fn is_refusal(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Read { .. } | FaultKind::Write { .. } | FaultKind::IllegalInstruction)
}

/// Fails with a text that tells whether all `tried` attempts escaped or only some: an attack that fails without
/// isolation, too, would prove nothing.
pub(super) fn expect_no_escapes(escapes: Vec<String>, tried: usize) -> Finding {
    let list = escapes.join("; ");
    match escapes.len() {
        0 => Ok(()),
        all if all == tried => Err(format!("all of {tried} escape: {list}")),
        some => Err(format!("{some} of {tried} escape: {list}")),
    }
}

/// A [`Form`] from its name and its instructions; those before the semicolon only prepare.
macro_rules! form {
    ($symbol:ident: $($line:literal),+) => { form!($symbol: ; $($line),+) };
    ($symbol:ident: $($before:literal),* ; $($line:literal),+) => {
        (concat!($($line, " "),+), snippet!($symbol: $($before),* ; $($line),+ , "syscall"))
    };
}
pub(super) use form;

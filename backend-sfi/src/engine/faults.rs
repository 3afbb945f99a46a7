//! Where an interrupted guest stands, and what a fault is to it.

use endo_core::{Fault, FaultKind, GuestAddr, Registers};

use super::{Engine, STUB_BYTES};
use crate::recover::{self, Spilled, Standing};
use crate::report::report;

impl Engine {
    /// Corrects the registers of a guest that was interrupted at an address in the cache, and says where it stands.
    pub fn recover(&mut self, host_pc: u64, spilled: &Spilled, registers: &mut Registers) -> Standing {
        if let Some(number) = self.index.stub_containing(host_pc, STUB_BYTES) {
            return Standing::At(self.index.exit(number).target);
        }
        let found = self.index.containing(host_pc).and_then(|fragment| {
            let code = self.cache.bytes(fragment.code..fragment.code + u64::from(fragment.length));
            recover::recover(&self.index, fragment, code, host_pc, spilled, registers)
        });
        found.unwrap_or_else(|| {
            report(format_args!("no guest state is known for {host_pc:#x} in the code cache: this is a bug"));
            Standing::At(0)
        })
    }

    /// A fault as the guest's kernel would tell it: what the host has reserved but the guest not mapped is not mapped.
    pub fn in_guest_terms(&self, fault: Fault, pc: u32) -> Fault {
        let mapped = self.pages.rights_at(fault.address.0).is_some();
        let kind = match fault.kind {
            // The instruction's own address, in the cache: what the guest knows is where it stands.
            FaultKind::Arithmetic { .. } | FaultKind::IllegalInstruction | FaultKind::Step => {
                return Fault { address: GuestAddr(u64::from(pc)), ..fault };
            }
            FaultKind::Read { .. } => FaultKind::Read { mapped },
            FaultKind::Write { .. } => FaultKind::Write { mapped },
            FaultKind::Execute { .. } => FaultKind::Execute { mapped },
            other => other,
        };
        Fault { kind, ..fault }
    }
}

/// The fault of fetching an instruction.
pub(super) fn execute_fault(guest: u32, mapped: bool) -> Fault {
    Fault { kind: FaultKind::Execute { mapped }, address: GuestAddr(u64::from(guest)) }
}

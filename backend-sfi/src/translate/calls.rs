//! Calls and returns that the processor predicts: see [`crate::returns`].
//!
//! ```text
//!         call thunk                      the processor notes where it returns to; rsp goes down by 8
//!         lea esp, [r11 + 8]              a return arrives here: r11 is rsp as it was before the return
//! entry:  mov r11, fs:[parked]            an indirect jump arrives here
//!         …
//! thunk:  mov qword [esp], address        the guest's return address, over the host's
//!         jmp target                      or: mov r11d, r11d; jmp gs:[r11 * 8]
//!
//! ret:    mov r11, [esp]                  all eight bytes, as any of them may not be there
//!         mov r11d, r11d
//!         mov r11, gs:[r11 * 8]           the entry that the dispatch table has for it
//!         lea r11, [r11 - 4]              and what is before it
//!         mov fs:[return target], r11
//!         mov r11d, esp
//!         mov rsp, fs:[return stack]      the address of the slot just written
//!         ret
//! ```
//!
//! [`crate::recover`] knows these sequences.

use iced_x86::Instruction;

use super::emit::R11;
use super::{Flow, Translator};

/// Where a call leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Callee {
    /// To a guest address.
    Known(u32),
    /// To the guest address in r11.
    InR11,
}

/// A call whose thunk is still to be emitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thunk {
    /// Offset of the call's rel32 field.
    site: u32,
    /// The guest's return address.
    back: u32,
    callee: Callee,
}

impl Translator {
    /// A call whose return is predicted.
    pub(super) fn predicted_call(&mut self, instruction: &Instruction, callee: Callee) -> Flow {
        let back = instruction.next_ip() as u32;
        let site = self.emitter.call();
        self.thunks.push(Thunk { site, back, callee });
        self.indirect_entry(back);
        Flow::Continues
    }

    /// `ret`.
    pub(super) fn predicted_return(&mut self) -> Flow {
        self.emitter.bytes(&[0x67, 0x4c, 0x8b, 0x1c, 0x24]); // mov r11, [esp]
        self.emitter.truncate(R11);
        self.emitter.return_to_entry();
        Flow::Ends
    }

    /// The thunks of the fragment's calls, out of the way of what falls through.
    pub(super) fn emit_thunks(&mut self) {
        let thunks = core::mem::take(&mut self.thunks);
        for &Thunk { site, back, callee } in &thunks {
            let address = self.emitter.address_of(self.emitter.offset());
            self.emitter.set_target(site, address);
            self.emitter.store_at_stack_pointer(back);
            match callee {
                Callee::Known(target) => {
                    self.jump(target);
                }
                Callee::InR11 => {
                    self.emitter.truncate(R11);
                    self.emitter.dispatch();
                }
            }
        }
        self.thunks = thunks;
    }
}

//! Accesses at and across the edges of the window.

use super::snippet::snippet;
use crate::arch::Gpr;
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, Fixture, Hex, expect, expect_all, expect_equal};
use crate::{DomainId, Exit, IsolationBackend};

pub(in super::super) fn accesses_across_the_edges_of_the_window_fault<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let window = fixture.backend.window(DomainId::MAIN).map_err(|error| error.to_string())?;
    let (start, end) = (window.start().0, window.end().0);
    let forms = [
        snippet!(edge_load: "mov rcx, [rax]"),
        snippet!(edge_store: "mov [rax], rcx"),
        snippet!(edge_displaced: "add rax, 0x1000" ; "mov [rax - 0x1000], rcx"),
        snippet!(edge_push: "lea rsp, [rax + 8]" ; "push rcx"),
        snippet!(edge_pop: "mov rsp, rax" ; "pop rcx"),
        snippet!(edge_vector: "movups xmm0, [rax]"),
        snippet!(edge_string: "mov rdi, rax", "mov ecx, 3" ; "rep stosq"),
        snippet!(edge_call: "lea rsp, [rax + 8]" ; "call 2f", "2: nop"),
        snippet!(edge_save: "and rax, -16" ; "fxsave [rax]"),
    ];
    for (index, code) in forms.into_iter().enumerate() {
        let place = CODE + 0x1000 * index as u64;
        fixture.map_code(place, code.bytes)?;
        // The last bytes below each edge, the edge itself, and both ends of the 64-bit space.
        let targets =
            [0, 8, start - 8, start - 4, end - 8, end - 4, end - 1, end, end + 8, 0u64.wrapping_sub(4096)];
        expect_all(&targets, |&target| {
            let mut guest = fixture.thread_at(place)?;
            guest.registers_mut().set(Gpr::Rax, target);
            let exit = guest.run();
            let named = || format!("{:x?} at {target:#x} ended in {exit:?}", code.bytes);
            expect(matches!(exit, Exit::Fault(_)), named)?;
            expect_equal("program counter", Hex(guest.registers().pc), Hex(place + code.here))
                .map_err(|why| format!("{}: {why}", named()))
        })?;
    }
    Ok(())
}

//! Attacks on the rights register and on what guards it, by a guest that runs natively. WRPKRU first
//! succeeds in code of the host, where nothing is in its way; of the others only that they fail as a guest's is shown.
//!
//! This needs a processor with keys, so `cargo test` leaves it out; `cargo xtask vm tests` runs it in the emulated machine.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "attacks/machine.rs"]
mod machine;

use endo_core::arch::Gpr;
use endo_core::conformance::Finding;
use endo_core::conformance::fixture::{self, CODE, DATA, Hex, expect, expect_equal, state_at};
use endo_core::{Exit, FaultKind, IsolationBackend, PAGE_SIZE, Rights};
use endo_mpk::MpkBackend;
use machine::{GATE_MARK, Mapping, call_natively, mappings, read_pkru};

type Fixture = fixture::Fixture<MpkBackend>;

/// The rights of a guest: ports to read, its own pages; see `keys`.
const GUEST: u64 = 0xffff_ffcb;
/// `xor ecx, ecx; rdpkru; syscall`.
const READ_PKRU: &str = "31c9 0f01ee 0f05";
/// `xor eax, eax; xor ecx, ecx; xor edx, edx; wrpkru; ret`.
const OPEN_ALL: &str = "31c0 31c9 31d2 0f01ef c3";
const READ_EXECUTE: Rights = Rights::READ.union(Rights::EXECUTE);

/// Machine code, written in hexadecimal: this executable's own must not hold any of it, as its backend would refuse to start.
fn code(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

macro_rules! attacks {
    ($($name:ident;)+) => {
        $(#[test]
        fn $name() {
            endo_core::conformance::assert_finds_nothing::<MpkBackend>(checks::$name);
        })+
    };
}

attacks! {
    wrpkru_is_an_illegal_instruction;
    wrpkru_inside_an_instruction_is_not_reached;
    wrpkru_across_two_pages_is_not_put_together;
    xrstor_loads_no_rights_and_all_the_rest;
    wrpkru_is_not_stored_into_code_that_runs;
    a_file_that_is_cut_and_written_again_changes_no_code;
    no_byte_of_the_gate_gives_a_guest_rights;
    no_byte_of_endos_signal_entry_gives_a_guest_rights;
    code_of_32_bits_does_not_decide_how_the_host_goes_on;
    the_selector_is_readable_and_not_writable;
    every_page_has_the_key_of_its_owner;
    no_executable_page_but_the_gate_loads_rights;
}

/// The tests below pass where the backend is unavailable; this does not.
#[test]
fn the_backend_can_be_used() {
    assert_eq!(MpkBackend::probe().err(), None);
}

/// The rights that a guest thread finds itself with.
fn guest_pkru(fixture: &Fixture) -> Result<u64, String> {
    const PLACE: u64 = CODE + 0x80_0000;
    fixture.map_code(PLACE, &code(READ_PKRU))?;
    let mut guest = fixture.thread_at(PLACE)?;
    guest.run_to_syscall()?;
    Ok(guest.registers().get(Gpr::Rax))
}

/// Runs from `pc` and expects that it comes to a fault, and that a guest has a guest's rights then.
fn expect_refused(fixture: &Fixture, pc: u64) -> Finding {
    let mut guest = fixture.thread(state_at(pc))?;
    let exit = guest.run();
    expect(matches!(exit, Exit::Fault(_)), || format!("from {pc:#x} to {exit:?}"))?;
    expect_equal("rights", Hex(guest_pkru(fixture)?), Hex(GUEST))
}

mod checks {
    use super::*;

    pub(super) fn wrpkru_is_an_illegal_instruction(fixture: &Fixture) -> Finding {
        call_natively(&code(OPEN_ALL));
        expect_equal("rights that the host gave itself", read_pkru(), 0)?;
        fixture.map_code(CODE, &code(OPEN_ALL))?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.run_to(FaultKind::IllegalInstruction, CODE + 6, CODE + 6)?;
        expect_equal("rights", Hex(guest_pkru(fixture)?), Hex(GUEST))
    }

    pub(super) fn wrpkru_inside_an_instruction_is_not_reached(fixture: &Fixture) -> Finding {
        // mov ebx, 0x00ef010f; mov edx, [rip - 11]; syscall: what is around it works, and the bytes read as they are.
        let code = code("bb0f01ef00 8b15f5ffffff 0f05");
        let word =
            |at: usize| u64::from(u32::from_le_bytes([code[at], code[at + 1], code[at + 2], code[at + 3]]));
        fixture.map_code(CODE, &code)?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.run_to_syscall()?;
        expect_equal("the immediate", Hex(guest.registers().get(Gpr::Rbx)), Hex(word(1)))?;
        expect_equal("the code", Hex(guest.registers().get(Gpr::Rdx)), Hex(word(0)))?;
        expect_refused(fixture, CODE + 1)
    }

    pub(super) fn wrpkru_across_two_pages_is_not_put_together(fixture: &Fixture) -> Finding {
        let border = CODE + PAGE_SIZE;
        let wrpkru = code("0f01ef");
        for (split, lower_first) in [(1, true), (2, true), (1, false), (2, false)] {
            let first = border - split as u64;
            let mut lower = vec![0x90; PAGE_SIZE as usize - split];
            lower.extend(&wrpkru[..split]);
            let upper = [&wrpkru[split..], &[0xc3]].concat();
            let map = |is_lower: bool| match is_lower {
                true => fixture.map_with(CODE, PAGE_SIZE, READ_EXECUTE, &lower),
                false => fixture.map_with(border, PAGE_SIZE, READ_EXECUTE, &upper),
            };
            // The first page has run before the other is there.
            map(lower_first)?;
            let alone = if lower_first { CODE + 16 } else { border + upper.len() as u64 - 1 };
            let mut guest = fixture.thread_at(alone)?;
            guest.run();
            map(!lower_first)?;
            expect_refused(fixture, first)?;
            fixture.unmap(CODE, 2 * PAGE_SIZE)?;
        }
        Ok(())
    }

    pub(super) fn xrstor_loads_no_rights_and_all_the_rest(fixture: &Fixture) -> Finding {
        // mov eax, 0x202; xor edx, edx; xrstor [rdi]; movq rbx, xmm3; xor ecx, ecx; rdpkru; syscall
        let plain = code("b802020000 31d2 0fae2f 66480f7edb 31c9 0f01ee 0f05");
        // The same where no setup is seen: the mask comes in registers.
        let bare = [&[0x90; 7], &plain[7..]].concat();
        for code in [plain, bare] {
            fixture.map_code(CODE, &code)?;
            let mut area = vec![0_u8; 4096];
            area[512..520].copy_from_slice(&0x202_u64.to_le_bytes());
            area[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
            area[160 + 3 * 16..][..8].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
            fixture.store(DATA, &area)?;
            let mut state = state_at(CODE);
            state.registers.set(Gpr::Rdi, DATA);
            state.registers.set(Gpr::Rax, 0x202);
            let mut guest = fixture.thread(state)?;
            guest.run_to_syscall()?;
            expect_equal("xmm3", Hex(guest.registers().get(Gpr::Rbx)), Hex(0x1122_3344_5566_7788))?;
            expect_equal("rights", Hex(guest.registers().get(Gpr::Rax)), Hex(GUEST))?;
        }
        Ok(())
    }

    pub(super) fn wrpkru_is_not_stored_into_code_that_runs(fixture: &Fixture) -> Finding {
        // A page that runs nop; nop; nop; ret, is written, and runs again.
        fixture.map_with(CODE, PAGE_SIZE, Rights::all(), &[0x90, 0x90, 0x90, 0x0f, 0x05])?;
        // mov eax, 0x0fef0100; or al, 0x0f; mov [0x10000000], eax; jmp 0x10000000, from another page.
        let store = code("b80001ef0f 0c0f 89042500000010 e9edfffeff");
        fixture.map_code(CODE + 0x1_0000, &store)?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.run_to_syscall()?;
        let mut guest = fixture.thread_at(CODE + 0x1_0000)?;
        guest.run_to(FaultKind::IllegalInstruction, CODE, CODE)?;
        expect_equal("rights", Hex(guest_pkru(fixture)?), Hex(GUEST))
    }

    pub(super) fn a_file_that_is_cut_and_written_again_changes_no_code(fixture: &Fixture) -> Finding {
        let file = machine::File::with(&[0x90, 0x90, 0x90, 0x0f, 0x05]).map_err(|error| error.to_string())?;
        fixture.map_with(CODE, PAGE_SIZE, Rights::READ, &[])?;
        file.map_at(CODE, PAGE_SIZE).map_err(|error| error.to_string())?;
        fixture.admit(CODE, PAGE_SIZE, READ_EXECUTE)?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.run_to_syscall()?;
        file.replace(&code(OPEN_ALL)[6..]).map_err(|error| error.to_string())?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.run_to_syscall()?;
        expect_equal("program counter", Hex(guest.registers().pc), Hex(CODE + 5))?;
        expect_equal("rights", Hex(guest_pkru(fixture)?), Hex(GUEST))
    }

    pub(super) fn no_byte_of_the_gate_gives_a_guest_rights(fixture: &Fixture) -> Finding {
        let gate = machine::gate().ok_or("no gate was found")?;
        // jmp rbx
        fixture.map_code(CODE, &[0xff, 0xe3])?;
        let canary = Box::new(0x5ec3_e75e_c3e7_5ec3_u64);
        let target = &raw const *canary as u64;
        for at in gate.start..gate.start + 0x140 {
            // What looks like a thread's words and port, in the guest's memory, asks for all rights.
            fixture.store(DATA, &[0_u8; 512])?;
            fixture.store(DATA + 0x10, &DATA.to_le_bytes())?;
            let mut state = state_at(CODE);
            for register in [Gpr::Rax, Gpr::Rdx, Gpr::Rcx, Gpr::R9] {
                state.registers.set(register, 0);
            }
            for register in [Gpr::Rdi, Gpr::Rsi, Gpr::R10] {
                state.registers.set(register, DATA);
            }
            state.registers.set(Gpr::R8, target);
            state.registers.set(Gpr::Rbx, at);
            let mut guest = fixture.thread(state)?;
            let exit = guest.run();
            expect(matches!(exit, Exit::Fault(_)), || format!("from {:#x} to {exit:?}", at - gate.start))?;
            expect_equal("rights", Hex(guest_pkru(fixture)?), Hex(GUEST))?;
        }
        expect_equal("canary", Hex(*canary), Hex(0x5ec3_e75e_c3e7_5ec3))
    }

    pub(super) fn no_byte_of_endos_signal_entry_gives_a_guest_rights(fixture: &Fixture) -> Finding {
        let entry = machine::signal_entry();
        fixture.map_code(CODE, &[0xff, 0xe3])?;
        for at in entry..entry + 0x80 {
            let mut state = state_at(CODE);
            state.registers.set(Gpr::Rbx, at);
            state.registers.set(Gpr::Rdi, libc::SIGSYS as u64);
            for register in [Gpr::Rsi, Gpr::Rdx, Gpr::Rax] {
                state.registers.set(register, DATA);
            }
            let mut guest = fixture.thread(state)?;
            let exit = guest.run();
            expect(matches!(exit, Exit::Fault(_)), || format!("from {:#x} to {exit:?}", at - entry))?;
            expect_equal("rights", Hex(guest_pkru(fixture)?), Hex(GUEST))?;
        }
        Ok(())
    }

    pub(super) fn code_of_32_bits_does_not_decide_how_the_host_goes_on(fixture: &Fixture) -> Finding {
        // jmp far [0x20000000], to 32-bit code at 0x10000100: int 0x80; or a fault: hlt.
        for ending in ["cd80", "f4"] {
            let mut page = code("ff2c2500000020");
            page.resize(0x100, 0x90);
            page.extend(code(ending));
            fixture.map_code(CODE, &page)?;
            fixture.store(DATA, &code("000100102300"))?;
            expect_refused(fixture, CODE)?;
        }
        Ok(())
    }

    pub(super) fn the_selector_is_readable_and_not_writable(fixture: &Fixture) -> Finding {
        // mov [rax], cl
        fixture.map_code(CODE, &[0x88, 0x08, 0x0f, 0x05])?;
        // mov cl, [rax]; syscall
        fixture.map_code(CODE + PAGE_SIZE, &[0x8a, 0x08, 0x0f, 0x05])?;
        let mut guest = fixture.thread_at(CODE)?;
        let port = mappings().into_iter().find(|mapping| mapping.key == 1).ok_or("no port was found")?;
        guest.registers_mut().set(Gpr::Rax, port.start);
        guest.run_to(FaultKind::Write { mapped: false }, port.start, CODE)?;
        let mut guest = fixture.thread_at(CODE + PAGE_SIZE)?;
        guest.registers_mut().set(Gpr::Rax, port.start);
        guest.run_to_syscall()
    }

    pub(super) fn every_page_has_the_key_of_its_owner(fixture: &Fixture) -> Finding {
        fixture.map_code(CODE, &code(READ_PKRU))?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.run_to_syscall()?;
        let window = 0x1_0000..0x2000_0000_0000_u64;
        let wrong: Vec<Mapping> = mappings()
            .into_iter()
            .filter(|mapping| match mapping.key {
                0 => window.contains(&mapping.start) && !mapping.is_inaccessible,
                1 => window.contains(&mapping.start) || mapping.end - mapping.start != PAGE_SIZE,
                2 => !window.contains(&mapping.start),
                _ => true,
            })
            .collect();
        expect(wrong.is_empty(), || format!("{wrong:x?}"))?;
        let guests = mappings().iter().filter(|mapping| mapping.key == 2).count();
        expect(guests >= 3, || format!("{guests} mappings have the guest's key"))
    }

    pub(super) fn no_executable_page_but_the_gate_loads_rights(_fixture: &Fixture) -> Finding {
        let executable =
            mappings().into_iter().filter(|mapping| mapping.is_executable && mapping.start < 1 << 47);
        let mut places = Vec::new();
        for mapping in executable {
            let bytes = machine::bytes(&mapping);
            for hit in endo_mpk::scan::hits(bytes) {
                let rest = &bytes[hit.at..];
                // What follows XRSTOR in a thunk: cmp eax, imm32; je over ud2.
                let is_thunk = rest.len() > 16 && rest[5] == 0x3d && rest[10..14] == [0x74, 2, 0x0f, 0x0b]
                    || rest.len() > 16 && rest[3] == 0x3d && rest[8..12] == [0x74, 2, 0x0f, 0x0b];
                let is_gate = bytes.starts_with(&GATE_MARK);
                if !is_thunk && !is_gate {
                    places.push(mapping.start + hit.at as u64);
                }
            }
        }
        expect(places.is_empty(), || format!("{places:x?}"))
    }
}

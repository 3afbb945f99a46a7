//! System calls as exits.

use std::io;
use std::os::fd::RawFd;

use super::registers::numbered;
use super::snippet::snippet;
use crate::arch::{Flags, Gpr};
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, Hex, STACK_POINTER, expect, expect_equal, state_at};
use crate::{Exit, IsolationBackend, PAGE_SIZE, Rights};

/// Carry, zero and overflow: a pattern that no flag-setting instruction leaves by chance.
const PATTERN: Flags = Flags(Flags::FIXED | 0x841);

pub(in super::super) fn a_system_call_exits_with_exact_registers<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    fixture.map_code(CODE, snippet!(syscall_exact: "syscall").bytes)?;
    let mut state = state_at(CODE);
    numbered(&mut state.registers);
    state.registers.flags = PATTERN;
    let before = state.registers;
    let mut guest = fixture.thread(state)?;
    guest.run_to_syscall()?;
    let mut after = *guest.registers();
    expect_equal("program counter", Hex(after.pc), Hex(CODE + 2))?;
    for clobbered in [Gpr::Rcx, Gpr::R11] {
        after.set(clobbered, before.get(clobbered));
    }
    expect_equal("registers", after.gpr.map(Hex), before.gpr.map(Hex))?;
    expect_equal("flags", after.flags, before.flags)
}

pub(in super::super) fn a_system_call_clobbers_rcx_and_r11_as_the_processor_does<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    fixture.map_code(CODE, snippet!(syscall_clobbers: "syscall").bytes)?;
    let mut state = state_at(CODE);
    state.registers.flags = PATTERN;
    let mut guest = fixture.thread(state)?;
    guest.run_to_syscall()?;
    expect_equal("rcx", Hex(guest.registers().get(Gpr::Rcx)), Hex(CODE + 2))?;
    expect_equal("r11", Hex(guest.registers().get(Gpr::R11)), Hex(PATTERN.0))
}

pub(in super::super) fn results_go_back_in<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let code = snippet!(results:
        "syscall", "mov [0x20000000], rax", "mov [0x20000008], rbx", "mov [0x20000010], rsp",
        "setc byte ptr [0x20000018]", "syscall");
    fixture.map_code(CODE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to_syscall()?;
    let registers = guest.registers_mut();
    registers.set_syscall_result(-2);
    registers.set(Gpr::Rbx, 0x1234_5678_9abc_def0);
    registers.set_stack_pointer(STACK_POINTER - 64);
    registers.flags = Flags(Flags::FIXED | 1);
    guest.run_to_syscall()?;
    let wanted = [-2_i64 as u64, 0x1234_5678_9abc_def0, STACK_POINTER - 64, 1];
    expect_equal("what the guest saw", fixture.words::<4>(DATA)?.map(Hex), wanted.map(Hex))
}

pub(in super::super) fn system_calls_never_reach_the_kernel<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // Twice the same instructions: a backend may treat the second visit to an instruction otherwise than the first.
    let code = snippet!(getpid:
        "mov r12d, 2", "2:", "mov eax, 39", "syscall", "mov [0x20000000 + r12 * 8], rax", "dec r12d", "jnz 2b",
        "mov eax, 1", "mov esi, 0x20000000", "mov edx, 1", "syscall", "ud2");
    fixture.map_code(CODE, code.bytes)?;
    let pipe = Pipe::new()?;
    let mut guest = fixture.thread_at(CODE)?;
    for _ in 0..2 {
        guest.run_to_syscall()?;
        expect_equal("number", guest.registers().syscall_number(), libc::SYS_getpid as u32)?;
        guest.registers_mut().set_syscall_result(0x5ec0);
        guest.registers_mut().set(Gpr::Rdi, pipe.writer as u64);
    }
    guest.run_to_syscall()?;
    expect_equal("pid that the guest saw", fixture.words::<2>(DATA + 8)?, [0x5ec0; 2])?;
    expect_equal("number", guest.registers().syscall_number(), libc::SYS_write as u32)?;
    pipe.expect_empty()
}

pub(in super::super) fn a_system_call_inside_another_instruction_is_caught<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    // `mov ecx, imm32` whose immediate is `nop; syscall; nop`, and a system call across two pages.
    let code = snippet!(hidden: "mov ecx, 0x90050f90" ; "syscall");
    fixture.map_with(CODE, 2 * PAGE_SIZE, Rights::READ | Rights::EXECUTE, code.bytes)?;
    let mut guest = fixture.thread_at(CODE)?;
    guest.run_to_syscall()?;
    expect_equal("program counter", Hex(guest.registers().pc), Hex(CODE + 7))?;
    guest.registers_mut().pc = CODE + 1;
    guest.run_to_syscall()?;
    expect_equal("program counter", Hex(guest.registers().pc), Hex(CODE + 4))?;

    let mut page = vec![0x90; PAGE_SIZE as usize - 1];
    page.extend_from_slice(snippet!(straddling: "syscall").bytes);
    fixture.map_with(CODE, 2 * PAGE_SIZE, Rights::READ | Rights::EXECUTE, &page)?;
    guest.registers_mut().pc = CODE + PAGE_SIZE - 1;
    guest.run_to_syscall()?;
    expect_equal("program counter", Hex(guest.registers().pc), Hex(CODE + PAGE_SIZE + 1))
}

pub(in super::super) fn calls_of_32_bit_code_never_reach_the_kernel<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let pipe = Pipe::new()?;
    // write(pipe, DATA, 1) as 32-bit code numbers it.
    let forms = [
        snippet!(int80: "mov eax, 4", "mov ecx, 0x20000000", "mov edx, 1" ; "int 0x80"),
        snippet!(sysenter: "mov eax, 4", "mov ecx, 0x20000000", "mov edx, 1", "mov ebp, 0x30008000" ; "sysenter"),
    ];
    for code in forms {
        fixture.map_code(CODE, code.bytes)?;
        let mut guest = fixture.thread_at(CODE)?;
        guest.registers_mut().set(Gpr::Rbx, pipe.writer as u64);
        let exit = guest.run();
        expect(matches!(exit, Exit::Fault(_)), || format!("{:x?} ended in {exit:?}", code.bytes))?;
        pipe.expect_empty()?;
    }
    Ok(())
}

/// A pipe into which a system call that escapes would write.
struct Pipe {
    reader: RawFd,
    writer: RawFd,
}

impl Pipe {
    fn new() -> Result<Self, String> {
        let mut ends = [-1; 2];
        // SAFETY: room for two descriptors. They are closed when the child ends.
        match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) } {
            0 => Ok(Pipe { reader: ends[0], writer: ends[1] }),
            _ => Err(format!("no pipe: {}", io::Error::last_os_error())),
        }
    }

    fn expect_empty(&self) -> Finding {
        let mut byte = 0_u8;
        // SAFETY: one writable byte.
        let length = unsafe { libc::read(self.reader, (&raw mut byte).cast(), 1) };
        expect(length < 0, || "a system call of the guest reached the kernel".to_owned())
    }
}

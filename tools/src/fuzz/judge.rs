//! Whether two outcomes of a case agree.

use endo_core::arch::{Flags, Gpr};
use endo_core::{Exit, Fault, FaultKind};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register, RflagsBits};

use super::batch::Pair;
use super::case::{Case, Change, Ending, INT3, Outcome, PAGE};
use super::encode::{LONGEST, decode};
use super::vector;

/// What a comparison says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All that can be seen is the same.
    Same,
    /// The native run touched something beyond 4 GiB, where a confined guest has nothing to compare.
    BeyondWindow,
    /// Processors of different make carry it out differently; guests get what the decoder says, which is Intel's.
    DependsOnVendor,
    /// The guest got SIGILL for an instruction that the processor has.
    NotOffered(Code),
    /// They differ: one line for each thing.
    Different(Vec<String>),
}

/// The direction flag.
const DIRECTION: u64 = 1 << 10;

/// First address that guests cannot have.
const WINDOW_END: u64 = 1 << 32;

/// Bytes of the area of `xsave` that the first eight components take, which are those that guests are offered.
const OFFERED_STATE: u64 = 2688;

/// The instructions of a case in the order of their addresses, until one is invalid.
pub fn instructions(case: &Case) -> Vec<Instruction> {
    let mut all = Vec::new();
    let mut offset = 0;
    while offset < case.length {
        let instruction = decode(&case.bytes()[offset..], case.at + offset as u64);
        if instruction.is_invalid() {
            break;
        }
        offset += instruction.len();
        all.push(instruction);
    }
    all
}

/// Compares.
pub fn judge(case: &Case, pair: &Pair) -> Verdict {
    let Pair { native, translated } = pair;
    if leaves_window(case, native) {
        return Verdict::BeyondWindow;
    }
    let at = instruction_at(case, native.registers.pc).filter(|at| at.ip() == translated.registers.pc);
    if let (Some(at), Some(one), Some(other)) = (at, native.fault(), translated.fault())
        && (at.is_privileged()
            && one.kind == FaultKind::IllegalInstruction
            && other.kind == FaultKind::Protection)
    {
        // Processors without the extension, or with it switched off, do not look at the privilege.
        return Verdict::NotOffered(at.code());
    }
    let special = |at: Instruction| {
        matches!(at.mnemonic(), Mnemonic::Mov | Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq)
    };
    if let (Some(at), Some(one), Some(Fault { kind: FaultKind::Protection, .. })) =
        (at, native.fault(), translated.fault())
        && (special(at) && one.kind != FaultKind::Protection)
    {
        // Far returns and loads of segment registers are refused before they load anything.
        return Verdict::NotOffered(at.code());
    }
    if let Some(fault) = translated.fault()
        && let Some(at) = instruction_at(case, translated.registers.pc)
        && (fault.kind == FaultKind::Protection && at.mnemonic() == Mnemonic::Mov)
        && at.op0_register().is_segment_register()
    {
        return Verdict::NotOffered(at.code());
    }
    if let (Some(at), Some(one), Some(other)) = (at, native.fault(), translated.fault())
        && (compares(&at) && one.kind == other.kind && one.address != other.address)
    {
        // Both of its places are unmapped; which one is named first is not the same everywhere.
        return Verdict::DependsOnVendor;
    }
    if let (Some(at), Some(fault)) = (instruction_at(case, native.registers.pc), native.fault())
        && is_past_offered_state(&at, fault, native)
    {
        return Verdict::NotOffered(at.code());
    }
    let cut_off = native.registers.pc == translated.registers.pc && at.is_none();
    if cut_off && native.fault().is_some_and(|fault| fault.kind == FaultKind::IllegalInstruction) {
        // Processors differ in how much of an instruction they fetch before they find that it does not exist.
        return Verdict::DependsOnVendor;
    }
    let fetches = |fault: Fault| matches!(fault.kind, FaultKind::Execute { .. });
    if translated.fault().is_some_and(fetches)
        && (case.at..case.at + case.length as u64).contains(&translated.registers.pc)
        && instruction_at(case, translated.registers.pc).is_none()
    {
        // The page ends in it; what it is, or would be, depends on its prefixes.
        return Verdict::DependsOnVendor;
    }
    if native.fault().is_some_and(|fault| fault.kind == FaultKind::Step) {
        // The trap flag has no effect on guests.
        return Verdict::NotOffered(Code::Popfq);
    }
    if instructions(case).iter().any(|at| depends_on_vendor(case, at)) {
        return Verdict::DependsOnVendor;
    }
    if let Some(Fault { kind: FaultKind::IllegalInstruction, .. }) = translated.fault() {
        let refused = instruction_at(case, translated.registers.pc);
        let natively_too = native.fault().is_some_and(|fault| fault.kind == FaultKind::IllegalInstruction);
        if let Some(refused) = refused.filter(|_| !natively_too) {
            return Verdict::NotOffered(refused.code());
        }
    }
    let interrupted = Ending::Exit(Exit::Interrupted);
    if native.ending == interrupted && translated.ending == interrupted {
        return Verdict::Same;
    }
    let different = differences(case, native, translated);
    if different.is_empty() { Verdict::Same } else { Verdict::Different(different) }
}

/// Near branches with an operand-size prefix: AMD processors take 16-bit displacements, Intel's ignore the prefix. The
/// reserved forms of `prefetch`: AMD processors do not have them, for Intel's they are `nop`. And `loop` with a repeat
/// prefix, which the manuals leave open.
fn depends_on_vendor(case: &Case, instruction: &Instruction) -> bool {
    if instruction.mnemonic() == Mnemonic::Reservednop {
        return true;
    }
    let prefixes = || {
        let start = (instruction.ip() - case.at) as usize;
        let bytes = case.bytes()[start..].iter().take(instruction.len());
        bytes.copied().take_while(|&byte| is_prefix(byte))
    };
    if instruction.is_loop() || instruction.is_loopcc() {
        return prefixes().any(|byte| matches!(byte, 0x66 | 0xf2 | 0xf3));
    }
    let near = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64
        || instruction.is_jmp_near_indirect()
        || instruction.is_call_near_indirect()
        || instruction.mnemonic() == Mnemonic::Ret;
    near && prefixes().any(|byte| byte == 0x66)
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// The instruction at an address in the case's code or in the `int3` around it, wherever the linear order has its borders.
fn instruction_at(case: &Case, pc: u64) -> Option<Instruction> {
    let page = case.at & !(PAGE - 1);
    if !(page..page + PAGE).contains(&pc) {
        return None;
    }
    let room = (page + PAGE - pc).min(LONGEST as u64);
    let bytes: Vec<u8> = (pc..pc + room)
        .map(|at| case.bytes().get(at.wrapping_sub(case.at) as usize).copied().unwrap_or(INT3))
        .collect();
    Some(decode(&bytes, pc)).filter(|instruction| !instruction.is_invalid())
}

/// Whether the native run used an address that confinement would have wrapped.
fn leaves_window(case: &Case, native: &Outcome) -> bool {
    if native.registers.stack_pointer() >= WINDOW_END || native.registers.pc >= WINDOW_END {
        return true;
    }
    let wide = |register: Gpr| native.registers.get(register) >= WINDOW_END;
    if native.fault().is_some()
        && instruction_at(case, native.registers.pc).is_some_and(|at| at.is_string_instruction())
        && [Gpr::Rcx, Gpr::Rsi, Gpr::Rdi].into_iter().any(wide)
    {
        // Its registers have been cut to 32 bits by the time it faults.
        return true;
    }
    match native.fault() {
        Some(Fault { kind: FaultKind::Read { .. } | FaultKind::Write { .. }, address }) => {
            // A string instruction has two addresses, and only one of them is the fault's.
            let string = instruction_at(case, native.registers.pc).filter(Instruction::is_string_instruction);
            // Of a new stack pointer or branch target only the half that counts is loaded.
            let half = instruction_at(case, native.registers.pc)
                .is_some_and(|at| at.mnemonic() == Mnemonic::Pop && at.op0_register() == Register::RSP);
            half || address.0 >= WINDOW_END - 64 || string.is_some_and(|at| addresses_beyond(&at, native))
        }
        Some(Fault { kind: FaultKind::Execute { .. }, address }) => address.0 >= WINDOW_END,
        Some(Fault { kind: FaultKind::Protection | FaultKind::Bus { .. }, .. }) => {
            // An unaligned gather is fine: its fault can only come from its elements' addresses.
            instruction_at(case, native.registers.pc)
                .is_some_and(|at| at.is_vsib() || addresses_beyond(&at, native))
        }
        _ => false,
    }
}

/// A register as the decoder asks for it, to compute an address.
fn value(outcome: &Outcome, register: Register) -> Option<u64> {
    use Register as R;
    let registers = &outcome.registers;
    match register {
        R::FS => Some(registers.fs_base),
        R::GS => Some(registers.gs_base),
        R::CS | R::DS | R::ES | R::SS => Some(0),
        _ if register.is_gpr64() => Some(registers.gpr[register.number()]),
        _ if register.is_gpr32() => Some(registers.gpr[register.number()] & 0xffff_ffff),
        R::AL => Some(registers.get(Gpr::Rax) & 0xff),
        _ => Some(0),
    }
}

/// Whether an `xrstor` faulted where state lies that guests are not offered: for them it does not look there.
fn is_past_offered_state(instruction: &Instruction, fault: Fault, outcome: &Outcome) -> bool {
    let area = instruction.virtual_address(0, 0, |register, _, _| value(outcome, register));
    matches!(instruction.mnemonic(), Mnemonic::Xrstor | Mnemonic::Xrstor64)
        && matches!(fault.kind, FaultKind::Read { .. })
        && area.is_some_and(|area| fault.address.0.wrapping_sub(area) >= OFFERED_STATE)
}

/// Whether a memory operand of the instruction lies beyond the window, with these registers.
fn addresses_beyond(instruction: &Instruction, outcome: &Outcome) -> bool {
    let registers = &outcome.registers;
    let lookup = |register, _, _| value(outcome, register);
    let mut beyond = (0..instruction.op_count()).any(|operand| {
        let kind = instruction.op_kind(operand);
        let memory = !matches!(kind, OpKind::Register | OpKind::Immediate8);
        memory && instruction.virtual_address(operand, 0, lookup).is_some_and(|address| address >= WINDOW_END)
    });
    let bit_string =
        matches!(instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    if bit_string && instruction.op1_kind() == OpKind::Register {
        let offset = registers.gpr[instruction.op1_register().number()] as i64 >> 3;
        beyond |= instruction
            .virtual_address(0, 0, lookup)
            .is_some_and(|address| address.wrapping_add_signed(offset) >= WINDOW_END);
    }
    beyond |= instruction.mnemonic() == Mnemonic::Leave && registers.get(Gpr::Rbp) >= WINDOW_END;
    // Branches load their target, and returns pop it; either may be anything.
    if instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect() {
        beyond |= instruction.op0_kind() == OpKind::Register
            && registers.gpr[instruction.op0_register().number()] >= WINDOW_END;
        beyond |= instruction.op0_kind() == OpKind::Memory;
    }
    beyond
        || instruction.mnemonic() == Mnemonic::Ret
        || matches!(instruction.mnemonic(), Mnemonic::Clzero | Mnemonic::Enter)
}

fn differences(case: &Case, native: &Outcome, translated: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    if native.ending != translated.ending {
        found.push(format!("ending: native {:x?}, translated {:x?}", native.ending, translated.ending));
    }
    let mut number = |name: &str, native: u64, translated: u64| {
        if native != translated {
            found.push(format!("{name}: native {native:#x}, translated {translated:#x}"));
        }
    };
    number("pc", native.registers.pc, translated.registers.pc);
    for ((name, native), translated) in
        GPR_NAMES.iter().zip(native.registers.gpr).zip(translated.registers.gpr)
    {
        number(name, native, translated);
    }
    let narrowed = if native.completed() { 0 } else { narrowed_flags(case) };
    let restored = if compares_until_fault(case, native) { !DIRECTION } else { 0 };
    let defined = !(undefined_flags(case) | narrowed | restored) & Flags::STATUS_AND_DIRECTION;
    number("flags", native.registers.flags.0 & defined, translated.registers.flags.0 & defined);
    number("fs base", native.registers.fs_base, translated.registers.fs_base);
    number("gs base", native.registers.gs_base, translated.registers.gs_base);
    let unlike = native.vector.iter().zip(&translated.vector).position(|(native, other)| native != other);
    if let Some(offset) = unlike {
        let at = offset & !7;
        let word = |outcome: &Outcome| {
            u64::from_le_bytes(outcome.vector[at..at + 8].try_into().expect("eight bytes"))
        };
        found.push(format!(
            "{} (byte {offset}): native {:#x}, translated {:#x}",
            vector::register_at(offset),
            word(native),
            word(translated)
        ));
    }
    found.extend(memory_difference(case, native, translated));
    found
}

/// Whether the native run faulted in a repeated comparison: Intel's processors restore the flags to what they were before the
/// first element (SDM volume 2, `REP`), AMD's have those of the last.
fn compares_until_fault(case: &Case, native: &Outcome) -> bool {
    let repeats = |at: Instruction| {
        let scans =
            matches!(at.mnemonic(), Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq);
        (scans || compares(&at)) && (at.has_rep_prefix() || at.has_repne_prefix())
    };
    native.fault().is_some() && instruction_at(case, native.registers.pc).is_some_and(repeats)
}

/// A `cmps` (`cmpsd` of vectors has registers).
fn compares(instruction: &Instruction) -> bool {
    instruction.is_string_instruction()
        && matches!(
            instruction.mnemonic(),
            Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq
        )
}

fn memory_difference(case: &Case, native: &Outcome, translated: &Outcome) -> Option<String> {
    if native.memory == translated.memory {
        return None;
    }
    let keeps_pointers = instructions(case).iter().any(|at| stores_x87_pointers(at.mnemonic()));
    let listed = |outcome: &Outcome| -> Vec<Change> { outcome.changes().to_vec() };
    let (native, translated) = (listed(native), listed(translated));
    let only =
        |these: &[Change], those: &[Change]| these.iter().copied().find(|change| !those.contains(change));
    let (first, second) = (only(&native, &translated), only(&translated, &native));
    if keeps_pointers {
        // Up to 24 bytes of such an image are addresses of instructions: in emitted code, other ones.
        let unlike = native.iter().filter(|change| !translated.contains(change)).count()
            + translated.iter().filter(|change| !native.contains(change)).count();
        if unlike <= 48 {
            return None;
        }
    }
    Some(format!("memory: only native changed {first:x?}, only translated changed {second:x?}"))
}

fn stores_x87_pointers(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fnstenv
            | M::Fstenv
            | M::Fnsave
            | M::Fsave
            | M::Fxsave
            | M::Fxsave64
            | M::Xsave
            | M::Xsave64
            | M::Xsavec
            | M::Xsavec64
            | M::Xsaveopt
            | M::Xsaveopt64
    )
}

/// The flags that an instruction of the case leaves undefined and none behind it defines.
fn undefined_flags(case: &Case) -> u64 {
    const NAMES: [(u32, u64); 6] = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::OF, 1 << 11),
    ];
    let instructions = instructions(case);
    // Alone, an instruction leaves them the same on the same processor.
    if instructions.len() == 1 {
        return 0;
    }
    let undefined = instructions.iter().fold(0, |undefined, at| undefined | at.rflags_undefined());
    NAMES.iter().filter(|(name, _)| undefined & name != 0).fold(0, |all, (_, bit)| all | bit)
}

/// Arithmetic on the stack pointer is done in 32 bits where its flags are overwritten before anybody reads them; a fault
/// in between shows them, and with a stack above 2 GiB these two differ.
fn narrowed_flags(case: &Case) -> u64 {
    const SIGN_AND_OVERFLOW: u64 = 1 << 7 | 1 << 11;
    let narrowed = |at: &Instruction| {
        at.op0_register() == Register::RSP
            && matches!(at.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::And)
    };
    if instructions(case).iter().any(narrowed) { SIGN_AND_OVERFLOW } else { 0 }
}

/// Names of the general registers by number.
pub const GPR_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

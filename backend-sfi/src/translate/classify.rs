//! Which lowering an instruction gets. Decided once per instruction code and then looked up.

use std::sync::atomic::{AtomicU8, Ordering};

use iced_x86::{Code, FlowControl, Instruction, Mnemonic};

/// How an instruction is lowered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// Copied; a memory operand is confined, a written stack pointer is truncated.
    Plain = 1,
    /// Dropped: it does nothing.
    Nothing,
    /// Copied: touches memory through rsp only, besides a possible memory operand.
    Stack,
    /// `lea`: computes an address and touches nothing.
    Address,
    /// `leave`.
    Leave,
    /// movs, stos, cmps, scas, lods.
    String,
    /// Direct near jump.
    Jump,
    /// Conditional near jump.
    ConditionalJump,
    /// loop, loope, loopne, jrcxz with the 64-bit counter.
    CounterJump,
    /// Near jump through a register or memory.
    IndirectJump,
    /// Direct near call.
    Call,
    /// Near call through a register or memory.
    IndirectCall,
    /// Near return.
    Return,
    /// `syscall`.
    Syscall,
    /// `xrstor`.
    RestoreState,
    /// Emulated, or refused, by the runtime.
    Special,
}

/// More than there are instruction codes; the index is checked.
const CODES: usize = 5120;

static CLASSES: [AtomicU8; CODES] = [const { AtomicU8::new(0) }; CODES];

/// The class of an instruction.
pub fn classify(instruction: &Instruction) -> Class {
    let slot = &CLASSES[instruction.code() as usize];
    let known = slot.load(Ordering::Relaxed);
    let class = if known == 0 {
        let class = decide(instruction);
        slot.store(class as u8, Ordering::Relaxed);
        class
    } else {
        ALL[known as usize - 1]
    };
    // What the code alone does not tell: 32-bit counters.
    match class {
        Class::CounterJump if counts_ecx(instruction.code()) => Class::Special,
        other => other,
    }
}

const ALL: [Class; 16] = [
    Class::Plain,
    Class::Nothing,
    Class::Stack,
    Class::Address,
    Class::Leave,
    Class::String,
    Class::Jump,
    Class::ConditionalJump,
    Class::CounterJump,
    Class::IndirectJump,
    Class::Call,
    Class::IndirectCall,
    Class::Return,
    Class::Syscall,
    Class::RestoreState,
    Class::Special,
];

fn decide(instruction: &Instruction) -> Class {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Nop | M::Endbr64 | M::Endbr32 | M::Reservednop => return Class::Nothing,
        // Without a shadow stack, which no guest gets, these leave their register as it is.
        M::Rdsspd | M::Rdsspq => return Class::Nothing,
        // Hints for instruction caches, about code that does not run where the guest has it.
        M::Prefetchit0 | M::Prefetchit1 => return Class::Nothing,
        M::Lea => return Class::Address,
        M::Leave => return Class::Leave,
        M::Movsb | M::Movsw | M::Movsq | M::Stosb | M::Stosw | M::Stosd | M::Stosq => return Class::String,
        M::Cmpsb | M::Cmpsw | M::Cmpsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq => return Class::String,
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => return Class::String,
        M::Movsd if instruction.code() == Code::Movsd_m32_m32 => return Class::String,
        M::Cmpsd if instruction.code() == Code::Cmpsd_m32_m32 => return Class::String,
        M::Push | M::Pop => {
            return if touches_segment_register(instruction) { Class::Special } else { Class::Stack };
        }
        M::Loop | M::Loope | M::Loopne | M::Jrcxz | M::Jecxz => return Class::CounterJump,
        M::Syscall => return Class::Syscall,
        M::Xrstor | M::Xrstor64 => return Class::RestoreState,
        _ => {}
    }
    match instruction.flow_control() {
        FlowControl::Next => {}
        FlowControl::UnconditionalBranch if instruction.is_jmp_short_or_near() => return Class::Jump,
        FlowControl::ConditionalBranch if instruction.is_jcc_short_or_near() => {
            return Class::ConditionalJump;
        }
        FlowControl::Call if instruction.is_call_near() => return Class::Call,
        FlowControl::IndirectBranch if instruction.is_jmp_near_indirect() => return Class::IndirectJump,
        FlowControl::IndirectCall if instruction.is_call_near_indirect() => return Class::IndirectCall,
        FlowControl::Return if instruction.mnemonic() == M::Ret => return Class::Return,
        _ => return Class::Special,
    }
    if instruction.is_privileged() || !may_be_copied(instruction) { Class::Special } else { Class::Plain }
}

fn counts_ecx(code: Code) -> bool {
    use Code as C;
    !matches!(code, C::Jrcxz_rel8_64 | C::Loop_rel8_64_RCX | C::Loope_rel8_64_RCX | C::Loopne_rel8_64_RCX)
}

fn touches_segment_register(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == iced_x86::OpKind::Register
            && instruction.op_register(operand).is_segment_register()
    })
}

/// Whether an instruction without control flow may be copied. Extensions are admitted as a whole where all of them is
/// ordinary computation; the base groups also hold system instructions, and those are named.
fn may_be_copied(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    use iced_x86::CpuidFeature as F;
    if touches_segment_register(instruction) && instruction.op0_register().is_segment_register() {
        return false;
    }
    if matches!(
        instruction.mnemonic(),
        M::Cpuid
            | M::Pushf
            | M::Pushfq
            | M::Popf
            | M::Popfq
            | M::Popfd
            | M::Xlatb
            | M::Enter
            | M::In
            | M::Out
            | M::Hlt
            | M::Rdpmc
            | M::Insb
            | M::Insw
            | M::Insd
            | M::Outsb
            | M::Outsw
            | M::Outsd
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            | M::Sgdt
            | M::Sidt
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Lfs
            | M::Lgs
            | M::Lss
            | M::Lds
            | M::Les
            | M::Salc
            | M::Bound
            | M::Arpl
            | M::Int3
            | M::Int1
            | M::Into
            | M::Iret
            | M::Iretq
            | M::Iretd
            | M::Monitor
            | M::Mwait
            | M::Xrstors
            | M::Xrstors64
            | M::Xsaves
            | M::Xsaves64
    ) {
        return false;
    }
    instruction.cpuid_features().iter().all(|feature| {
        matches!(
            feature,
            F::INTEL8086
                | F::INTEL186
                | F::INTEL286
                | F::INTEL386
                | F::INTEL486
                | F::X64
                | F::FPU
                | F::FPU287
                | F::FPU387
                | F::ADX
                | F::AES
                | F::AVX
                | F::AVX2
                | F::AVX512BW
                | F::AVX512CD
                | F::AVX512DQ
                | F::AVX512F
                | F::AVX512VL
                | F::AVX512_BF16
                | F::AVX512_BITALG
                | F::AVX512_IFMA
                | F::AVX512_VBMI
                | F::AVX512_VBMI2
                | F::AVX512_VNNI
                | F::AVX512_VP2INTERSECT
                | F::AVX512_VPOPCNTDQ
                | F::AVX512_FP16
                | F::AVX_VNNI
                | F::AVX_IFMA
                | F::BMI1
                | F::BMI2
                | F::CLFLUSHOPT
                | F::CLFSH
                | F::CLWB
                | F::CLDEMOTE
                | F::CLZERO
                | F::CMOV
                | F::CMPXCHG16B
                | F::CX8
                | F::F16C
                | F::FMA
                | F::FXSR
                | F::GFNI
                | F::LZCNT
                | F::MMX
                | F::MOVBE
                | F::MOVDIRI
                | F::PAUSE
                | F::PCLMULQDQ
                | F::POPCNT
                | F::PREFETCHW
                | F::PREFETCHWT1
                | F::RDPID
                | F::RDRAND
                | F::RDSEED
                | F::RDTSCP
                | F::TSC
                | F::SERIALIZE
                | F::SHA
                | F::SSE
                | F::SSE2
                | F::SSE3
                | F::SSE4_1
                | F::SSE4_2
                | F::SSE4A
                | F::SSSE3
                | F::TBM
                | F::VAES
                | F::VPCLMULQDQ
                | F::XSAVE
                | F::XSAVEC
                | F::XSAVEOPT
                | F::MULTIBYTENOP
                | F::CET_IBT
                | F::D3NOW
        )
    })
}

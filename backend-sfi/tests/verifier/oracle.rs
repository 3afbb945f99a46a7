//! A second opinion on admitted fragments, by other means than the verifier's: instead of matching sequences it
//! follows which registers are below 2^32 from one instruction to the next, with iced's own account of what each
//! instruction reads and writes. Slow, and content to be stricter than needed.

use endo_sfi::returns::Returns;
use endo_sfi::verify::Layout;
use iced_x86::{
    Code, CodeSize, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo,
    InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

/// Where rsp may point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stack {
    /// Below 2^32.
    Inside,
    /// At most a page outside: an access faults or proves it to be inside.
    Near,
    Unknown,
    /// At a return target that has been stored.
    AtReturnTarget,
}

/// What r11 holds on the way to a predicted return.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OnReturn {
    /// An entry of the dispatch table.
    Entry,
    /// Where a return arrives before that.
    Arrival,
}

struct State {
    /// Registers known to be below 2^32.
    narrow: Vec<Register>,
    stack: Stack,
    /// Whether rax is below 256.
    is_mask_cut: bool,
    /// The address in r11, if it was loaded as a constant.
    return_address: Option<u64>,
    on_return: Option<OnReturn>,
    /// The context's return target has been stored since the last boundary.
    is_target_stored: bool,
}

impl State {
    fn at_boundary() -> State {
        State {
            narrow: Vec::new(),
            stack: Stack::Inside,
            is_mask_cut: false,
            return_address: None,
            on_return: None,
            is_target_stored: false,
        }
    }
}

/// What is wrong with the fragment at `address`, given its boundaries and those of other fragments.
pub(crate) fn objection(
    layout: &Layout,
    address: u64,
    bytes: &[u8],
    is_boundary: &dyn Fn(u64) -> bool,
) -> Option<String> {
    let oracle = Oracle { layout, end: address + bytes.len() as u64, is_boundary };
    let mut state = State::at_boundary();
    let mut reached = true;
    for instruction in Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).iter() {
        if is_boundary(instruction.ip()) {
            if reached && state.stack != Stack::Inside {
                return Some(format!("{:#x}: a boundary with rsp {:?}", instruction.ip(), state.stack));
            }
            state = State::at_boundary();
        } else if !reached {
            return Some(format!("{:#x}: behind a jump and no boundary", instruction.ip()));
        }
        if let Err(what) = oracle.step(&mut state, &instruction) {
            return Some(format!("{:#x} {:?}: {what}", instruction.ip(), instruction.code()));
        }
        reached = !matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Call
                | FlowControl::Return
        );
        if state.return_address.take_if(|&mut back| back == instruction.next_ip()).is_some() {
            reached = true;
        }
    }
    reached.then(|| "falls off the end".into())
}

struct Oracle<'a> {
    layout: &'a Layout,
    end: u64,
    is_boundary: &'a dyn Fn(u64) -> bool,
}

type Verdict = Result<(), String>;

impl Oracle<'_> {
    fn step(&self, state: &mut State, instruction: &Instruction) -> Verdict {
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(instruction);
        self.forbidden(instruction, info)?;
        for memory in info.used_memory() {
            self.memory(state, instruction, memory)?;
        }
        let loads_state = matches!(instruction.mnemonic(), Mnemonic::Xrstor | Mnemonic::Xrstor64);
        if loads_state && !state.is_mask_cut {
            return Err("loads any state".into());
        }
        self.control(state, instruction)?;
        self.effects(state, instruction, info);
        Ok(())
    }

    fn memory(&self, state: &State, instruction: &Instruction, memory: &UsedMemory) -> Verdict {
        if matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) {
            return Ok(());
        }
        match memory.segment() {
            Register::FS => return self.context(state, instruction, memory),
            Register::GS => return dispatch_table(state, instruction, memory),
            _ => {}
        }
        if memory.address_size() == CodeSize::Code32 && memory.base() != Register::EIP {
            return Ok(());
        }
        let narrow = |register| state.narrow.contains(&register);
        let fine = match memory.base() {
            // It reads the context, or nothing that was stored there; `control` tells them apart.
            Register::RSP if instruction.mnemonic() == Mnemonic::Ret => true,
            Register::RSP => instruction.is_stack_instruction() && state.stack != Stack::Unknown,
            Register::RBP => instruction.mnemonic() == Mnemonic::Leave && narrow(Register::RBP),
            base @ (Register::RSI | Register::RDI) => instruction.is_string_instruction() && narrow(base),
            _ => false,
        };
        if fine && memory.index() == Register::None { Ok(()) } else { Err(format!("accesses {memory:?}")) }
    }

    fn context(&self, state: &State, instruction: &Instruction, memory: &UsedMemory) -> Verdict {
        let absolute = memory.base() == Register::None && memory.index() == Register::None;
        let slot = i32::try_from(memory.displacement() as i64).map_err(|_| "a far displacement from fs")?;
        let context = &self.layout.context;
        let constant = instruction.op1_kind() == OpKind::Immediate32;
        let size = memory.memory_size().size();
        let in_range =
            |range: &std::ops::Range<i32>| size == 8 && range.contains(&slot) && range.contains(&(slot + 7));
        let predicted = self.layout.returns == Returns::Predicted && size == 8;
        let fine = match memory.access() {
            OpAccess::Read if slot == context.return_stack => {
                predicted && state.is_target_stored && instruction.op0_register() == Register::RSP
            }
            OpAccess::Write if slot == context.return_target => {
                predicted
                    && state.on_return == Some(OnReturn::Arrival)
                    && instruction.op1_register() == Register::R11
            }
            OpAccess::Read => in_range(&context.spill) || in_range(&context.guest_bases),
            OpAccess::Write if constant => slot == context.exit_info && size == 4,
            OpAccess::Write => in_range(&context.spill),
            _ => false,
        };
        let wide = memory.address_size() == CodeSize::Code64;
        if absolute && fine && wide { Ok(()) } else { Err(format!("context access {memory:?}")) }
    }

    fn control(&self, state: &mut State, instruction: &Instruction) -> Verdict {
        let direct = matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
        );
        if instruction.flow_control() == FlowControl::Return {
            let fine = state.stack == Stack::AtReturnTarget;
            return if fine { Ok(()) } else { Err("returns from anywhere".into()) };
        }
        if instruction.flow_control() != FlowControl::Next && state.stack != Stack::Inside {
            return Err(format!("leaves with rsp {:?}", state.stack));
        }
        if !direct {
            return Ok(());
        }
        let target = instruction.near_branch_target();
        let gates = &self.layout.gates;
        if target == gates.syscall {
            let back = instruction.next_ip();
            let fine = state.return_address == Some(back) && back < self.end && (self.is_boundary)(back);
            return if fine { Ok(()) } else { Err("enters the system call gate".into()) };
        }
        if [gates.link, gates.special, gates.miss].contains(&target) || (self.is_boundary)(target) {
            Ok(())
        } else {
            Err(format!("branches to {target:#x}"))
        }
    }

    fn effects(&self, state: &mut State, instruction: &Instruction, info: &InstructionInfo) {
        let stack = self.stack_after(state, instruction);
        let on_return = on_return_after(state, instruction);
        let stores_target = instruction.memory_segment() == Register::FS
            && instruction.op0_kind() == OpKind::Memory
            && instruction.memory_displacement64() as i32 == self.layout.context.return_target;
        state.is_target_stored |= stores_target;
        for used in info.used_registers() {
            let register = used.register().full_register();
            if writes(used.access()) {
                state.narrow.retain(|&narrow| narrow != register);
            }
            if writes(used.access()) && register == Register::RAX {
                state.is_mask_cut = instruction.code() == Code::Movzx_r32_rm8;
            }
            if writes(used.access()) && register == Register::R11 {
                state.return_address = None;
                state.on_return = None;
            }
        }
        state.on_return = on_return.or(state.on_return);
        for operand in 0..instruction.op_count() {
            let narrow = instruction.op_kind(operand) == OpKind::Register
                && instruction.op_register(operand).is_gpr32()
                && matches!(info.op_access(operand), OpAccess::Write | OpAccess::ReadWrite);
            if narrow {
                state.narrow.push(instruction.op_register(operand).full_register());
            }
        }
        if instruction.code() == Code::Lea_r64_m
            && instruction.op0_register() == Register::R11
            && instruction.memory_base() == Register::RIP
        {
            state.return_address = Some(instruction.memory_displacement64());
        }
        state.stack = if stack == Stack::Unknown && state.narrow.contains(&Register::RSP) {
            Stack::Inside
        } else {
            stack
        };
        state.narrow.retain(|&register| register != Register::RSP);
    }
}

impl Oracle<'_> {
    /// Where rsp may point after the instruction, but for a 32-bit write that confines it.
    fn stack_after(&self, state: &State, instruction: &Instruction) -> Stack {
        let loads_target = instruction.memory_segment() == Register::FS
            && instruction.op0_register() == Register::RSP
            && instruction.memory_displacement64() as i32 == self.layout.context.return_stack;
        if loads_target { Stack::AtReturnTarget } else { stack_after(state, instruction) }
    }

    fn forbidden(&self, instruction: &Instruction, info: &InstructionInfo) -> Verdict {
        let on_return = self.layout.returns == Returns::Predicted
            && matches!(instruction.code(), Code::Call_rel32_64 | Code::Retnq);
        if on_return && instruction.len() <= 5 { Ok(()) } else { forbidden(instruction, info) }
    }
}

/// What r11 holds after the instruction, if it is one on the way to a predicted return.
fn on_return_after(state: &State, instruction: &Instruction) -> Option<OnReturn> {
    if instruction.op0_register() != Register::R11 {
        return None;
    }
    match instruction.code() {
        Code::Mov_r64_rm64 if instruction.memory_segment() == Register::GS => Some(OnReturn::Entry),
        Code::Lea_r64_m => {
            let back = instruction.memory_base() == Register::R11
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == 4u64.wrapping_neg();
            (back && state.on_return == Some(OnReturn::Entry)).then_some(OnReturn::Arrival)
        }
        _ => None,
    }
}

/// Where rsp may point after an instruction that is not part of a predicted return.
fn stack_after(state: &State, instruction: &Instruction) -> Stack {
    let register = |operand| {
        (instruction.op_kind(operand) == OpKind::Register).then(|| instruction.op_register(operand))
    };
    let mentions = |wanted| (0..instruction.op_count()).any(|operand| register(operand) == Some(wanted));
    if instruction.mnemonic() == Mnemonic::Pop && (mentions(Register::RSP) || mentions(Register::SP)) {
        return Stack::Unknown;
    }
    if instruction.is_stack_instruction() {
        // It has touched memory through rsp, or through an rbp that memory() has judged.
        return Stack::Inside;
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let written = (0..instruction.op_count())
        .any(|operand| register(operand) == Some(Register::RSP) && writes(info.op_access(operand)));
    let near = match instruction.mnemonic() {
        Mnemonic::Add | Mnemonic::Sub => {
            matches!(instruction.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64)
                && (-4096..=4096).contains(&(instruction.immediate(1) as i64))
        }
        Mnemonic::Lea => {
            instruction.memory_base() == Register::RSP
                && instruction.memory_index() == Register::None
                && (-4096..=4096).contains(&(instruction.memory_displacement64() as i64))
        }
        _ => false,
    };
    match (written, state.stack) {
        // Writes of fewer bits leave the high half of rsp zero, if it was.
        (false, Stack::Near) if mentions(Register::ESP) => Stack::Unknown,
        (false, stack) => stack,
        (true, Stack::Inside) if near => Stack::Near,
        (true, _) => Stack::Unknown,
    }
}

fn dispatch_table(state: &State, instruction: &Instruction, memory: &UsedMemory) -> Verdict {
    let into_r11 = instruction.code() == Code::Mov_r64_rm64 && instruction.op0_register() == Register::R11;
    let fine = (instruction.code() == Code::Jmp_rm64 || into_r11)
        && memory.base() == Register::None
        && memory.index() == Register::R11
        && memory.scale() == 8
        && memory.displacement() == 0
        && state.narrow.contains(&Register::R11);
    if fine { Ok(()) } else { Err(format!("gs access {memory:?}")) }
}

fn forbidden(instruction: &Instruction, info: &InstructionInfo) -> Verdict {
    let control = !matches!(
        instruction.flow_control(),
        FlowControl::Next
            | FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch
            | FlowControl::IndirectBranch
    );
    let indirect = instruction.flow_control() == FlowControl::IndirectBranch
        && instruction.memory_segment() != Register::GS;
    let segments = info
        .used_registers()
        .iter()
        .any(|used| used.register().is_segment_register() && writes(used.access()));
    let bases = matches!(
        instruction.mnemonic(),
        Mnemonic::Wrfsbase | Mnemonic::Wrgsbase | Mnemonic::Swapgs | Mnemonic::Wrpkru | Mnemonic::Popfq
    );
    if control || indirect || segments || bases || instruction.is_privileged() || instruction.is_invalid() {
        Err("forbidden".into())
    } else {
        Ok(())
    }
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

//! The allow-list as a table: one byte per iced-x86 `Code`, compiled from `instructions.rules` by `build.rs`.

use super::kind::{ALLOWED, Kind};
use iced_x86::Code;

static RULES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/verify_rules.bin"));
static REASONS: &[&str] = &include!(concat!(env!("OUT_DIR"), "/verify_reasons.rs"));

/// What the list says about one instruction encoding.
#[derive(Clone, Copy)]
pub(super) struct Rule(u8);

impl Rule {
    #[inline]
    pub(super) fn of(code: Code) -> Rule {
        Rule(RULES.get(code as usize).copied().unwrap_or(0))
    }

    /// The checks it gets, or why it is refused.
    #[inline]
    pub(super) fn kind(self) -> Result<Kind, &'static str> {
        match Kind::ALL.get(usize::from(self.0.wrapping_sub(ALLOWED) >> 2)) {
            Some(&(_, kind)) if self.0 >= ALLOWED => Ok(kind),
            _ => Err(REASONS.get(usize::from(self.0)).copied().unwrap_or("broken rule")),
        }
    }

    /// Whether it may write its first operand.
    #[inline]
    pub(super) fn writes_first(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether it may write its second operand.
    #[inline]
    pub(super) fn writes_second(self) -> bool {
        self.0 & 2 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpCodeOperandKind, Register};

    fn allowed() -> impl Iterator<Item = (Code, Kind)> {
        // Encodings of other modes never leave a 64-bit decoder.
        Code::values()
            .filter(|code| code.op_code().mode64())
            .filter_map(|code| Rule::of(code).kind().ok().map(|kind| (code, kind)))
    }

    #[test]
    fn the_table_has_one_byte_per_code() {
        assert_eq!(RULES.len(), Code::values().len());
    }

    #[test]
    fn kinds_are_listed_in_numeric_order() {
        for (index, (_, kind)) in Kind::ALL.iter().enumerate() {
            assert_eq!(index, *kind as usize);
        }
    }

    #[test]
    fn each_kind_survives_its_encoding() {
        for (code, expected) in [
            (Code::Add_rm8_r8, Kind::Plain),
            (Code::Mov_r64_imm64, Kind::Mov),
            (Code::Lea_r64_m, Kind::Lea),
            (Code::Movzx_r32_rm8, Kind::Movzx),
            (Code::Add_rm64_imm8, Kind::Adjust),
            (Code::Nop_rm32, Kind::Nop),
            (Code::Pushfq, Kind::Push),
            (Code::Pop_r64, Kind::Pop),
            (Code::Leaveq, Kind::Leave),
            (Code::Stosb_m8_AL, Kind::StringDestination),
            (Code::Lodsq_RAX_m64, Kind::StringSource),
            (Code::Cmpsd_m32_m32, Kind::StringBoth),
            (Code::Jmp_rel8_64, Kind::Jmp),
            (Code::Jg_rel32_64, Kind::Jcc),
            (Code::Jrcxz_rel8_64, Kind::Loop),
            (Code::Jmp_rm64, Kind::Dispatch),
            (Code::Clzerod, Kind::Implicit),
            (Code::Xrstor64_mem, Kind::Xrstor),
        ] {
            assert_eq!(Rule::of(code).kind(), Ok(expected), "{code:?}");
        }
    }

    #[test]
    fn write_bits_follow_the_operands() {
        let writes = |code| (Rule::of(code).writes_first(), Rule::of(code).writes_second());
        assert_eq!(writes(Code::Xchg_rm64_r64), (true, true));
        assert_eq!(writes(Code::VEX_Mulx_r64_r64_rm64), (true, true));
        assert_eq!(writes(Code::Cmovo_r64_rm64), (true, false));
        assert_eq!(writes(Code::Cmp_rm64_r64), (false, false));
        assert_eq!(writes(Code::Push_r64), (false, false));
    }

    #[test]
    fn nothing_privileged_is_allowed() {
        for (code, _) in allowed() {
            let info = code.op_code();
            assert!(!code.is_privileged(), "{code:?}");
            assert!(info.cpl3(), "{code:?}");
            assert!(!info.is_input_output() && !info.is_reserved_nop(), "{code:?}");
        }
    }

    #[test]
    fn only_direct_branches_calls_and_the_dispatch_leave_the_straight_line() {
        for (code, kind) in allowed() {
            let expected = match kind {
                Kind::Jmp => FlowControl::UnconditionalBranch,
                Kind::Jcc | Kind::Loop => FlowControl::ConditionalBranch,
                Kind::Dispatch => FlowControl::IndirectBranch,
                Kind::Call => FlowControl::Call,
                _ => FlowControl::Next,
            };
            assert_eq!(code.flow_control(), expected, "{code:?}");
        }
    }

    #[test]
    fn only_push_pop_leave_and_call_use_the_stack_implicitly() {
        for (code, kind) in allowed() {
            let expected = matches!(kind, Kind::Push | Kind::Pop | Kind::Leave | Kind::Call);
            assert_eq!(code.is_stack_instruction(), expected, "{code:?}");
        }
    }

    #[test]
    fn only_string_instructions_are_strings() {
        for (code, kind) in allowed() {
            let expected = matches!(kind, Kind::StringDestination | Kind::StringSource | Kind::StringBoth);
            assert_eq!(code.is_string_instruction(), expected, "{code:?}");
        }
    }

    #[test]
    fn no_segment_control_or_debug_register_is_written() {
        use OpCodeOperandKind::{cr_reg, dr_reg, seg_reg, tr_reg};
        for (code, _) in allowed() {
            let info = code.op_code();
            for (index, operand) in info.op_kinds().iter().enumerate() {
                assert!(!matches!(operand, cr_reg | dr_reg | tr_reg), "{code:?}");
                assert!(*operand != seg_reg || index == 1, "{code:?}");
            }
        }
    }

    /// Only the first two operands' write bits are kept: no other may be a written general register.
    #[test]
    fn a_written_general_register_is_the_first_or_second_operand() {
        for (code, _) in allowed() {
            let instruction = with_distinct_registers(code);
            let mut factory = InstructionInfoFactory::new();
            let info = factory.info(&instruction);
            for operand in 2..code.op_code().op_count() {
                let written =
                    !matches!(info.op_access(operand), OpAccess::None | OpAccess::Read | OpAccess::CondRead);
                let general = format!("{:?}", code.op_code().op_kind(operand));
                let general = ["r32", "r64", "r16", "r8"].iter().any(|name| general.starts_with(name));
                assert!(!(written && general), "{code:?} operand {operand}");
            }
        }
    }

    /// Implicit operands that name memory or rsp are confined to the kinds that check them.
    #[test]
    fn implicit_operands_are_covered_by_a_kind() {
        for (code, kind) in allowed() {
            let instruction = with_distinct_registers(code);
            let mut factory = InstructionInfoFactory::new();
            let info = factory.info(&instruction);
            let implicit = !info.used_memory().is_empty();
            let stack =
                info.used_registers().iter().any(|used| used.register().full_register() == Register::RSP);
            let covered = matches!(
                kind,
                Kind::Push
                    | Kind::Pop
                    | Kind::Call
                    | Kind::Leave
                    | Kind::StringBoth
                    | Kind::StringDestination
                    | Kind::StringSource
                    | Kind::Implicit
            );
            assert!(covered || !(implicit || stack), "{code:?} uses {:?}", info.used_memory());
        }
    }

    fn with_distinct_registers(code: Code) -> Instruction {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (operand, register) in
            [Register::RAX, Register::RDX, Register::RBX, Register::RBP].into_iter().enumerate()
        {
            instruction.set_op_register(operand as u32, register);
        }
        instruction
    }
}

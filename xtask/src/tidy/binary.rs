//! The promise of the fast paths, checked in the executable: neither a fast path of a system call nor the light gate that
//! leads to it touches a vector, x87 or mask register, because the guest's are still in them.
//!
//! The roots are the symbols that begin with one of [`PREFIXES`]; what they call or jump to directly is followed to
//! the end. An indirect call goes to an entry of the fast-path table, which is a root itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use goblin::elf::{Elf, sym};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::Finding;

/// How the fast paths, the gate that calls them, and what they share begin.
const PREFIXES: [&str; 3] = ["endo_fast_", "endo_sfi_light_", "endo_raw_copy"];

/// A function of the executable.
#[derive(Debug)]
struct Function<'a> {
    name: &'a str,
    code: &'a [u8],
}

/// Checks an executable; also says what was checked.
pub(super) fn check(path: &Path) -> anyhow::Result<(Vec<Finding>, String)> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let (objections, checked) =
        examine(&functions(&bytes)?).with_context(|| format!("could not check {}", path.display()))?;
    let name = path.to_string_lossy();
    let findings = objections.into_iter().map(|objection| Finding::new(&name, 0, objection)).collect();
    Ok((findings, format!("{checked} functions of the fast paths")))
}

/// Follows the fast paths through the functions of a program: what is wrong, and how many functions were seen.
fn examine(functions: &BTreeMap<u64, Function<'_>>) -> anyhow::Result<(Vec<String>, usize)> {
    let is_root = |function: &Function<'_>| PREFIXES.iter().any(|prefix| function.name.starts_with(prefix));
    let mut waiting: Vec<u64> =
        functions.iter().filter(|(_, function)| is_root(function)).map(|(&address, _)| address).collect();
    ensure!(!waiting.is_empty(), "there are no fast paths (no symbol {}*)", PREFIXES.join("*, "));
    let mut objections = Vec::new();
    let mut checked = BTreeSet::new();
    while let Some(address) = waiting.pop() {
        if !checked.insert(address) {
            continue;
        }
        let function = &functions[&address];
        for instruction in Decoder::with_ip(64, function.code, address, DecoderOptions::NONE) {
            if let Some(why) = objection(&instruction) {
                objections.push(format!(
                    "{}: {instruction} at {:#x}: {why}",
                    function.name,
                    instruction.ip()
                ));
            }
            if let Some(target) = leaves_to(&instruction, address, function) {
                match functions.range(..=target).next_back() {
                    Some((&start, callee)) if target < start + callee.code.len() as u64 => {
                        waiting.push(start)
                    }
                    _ => bail!("{}: {instruction} leads to no known function", function.name),
                }
            }
        }
    }
    Ok((objections, checked.len()))
}

/// The functions of an x86-64 executable by address.
fn functions(bytes: &[u8]) -> anyhow::Result<BTreeMap<u64, Function<'_>>> {
    let elf = Elf::parse(bytes).context("not an ELF file")?;
    let mut functions = BTreeMap::new();
    for symbol in elf.syms.iter().filter(|symbol| symbol.st_type() == sym::STT_FUNC && symbol.st_size > 0) {
        let segment =
            elf.program_headers.iter().find(|header| header.vm_range().contains(&(symbol.st_value as usize)));
        let offset = segment.map(|header| (symbol.st_value - header.p_vaddr + header.p_offset) as usize);
        let code = offset.and_then(|offset| bytes.get(offset..offset + symbol.st_size as usize));
        if let (Some(name), Some(code)) = (elf.strtab.get_at(symbol.st_name), code) {
            functions.insert(symbol.st_value, Function { name, code });
        }
    }
    ensure!(!functions.is_empty(), "no symbols");
    Ok(functions)
}

/// Where a direct branch out of its function leads.
fn leaves_to(instruction: &Instruction, start: u64, function: &Function<'_>) -> Option<u64> {
    let is_branch = matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    );
    let target = instruction.near_branch_target();
    let inside = start..start + function.code.len() as u64;
    (is_branch && instruction.op0_kind() == OpKind::NearBranch64 && !inside.contains(&target))
        .then_some(target)
}

/// Why an instruction may not be in a fast path.
fn objection(instruction: &Instruction) -> Option<&'static str> {
    if instruction.is_invalid() {
        return Some("no instruction");
    }
    let mut registers = (0..instruction.op_count())
        .filter(|&operand| instruction.op_kind(operand) == OpKind::Register)
        .map(|operand| instruction.op_register(operand));
    if registers.any(is_vector) {
        return Some("uses a vector register");
    }
    instruction.cpuid_features().iter().copied().any(is_vector_feature).then_some("uses vector state")
}

fn is_vector(register: Register) -> bool {
    register.is_vector_register()
        || register.is_mm()
        || register.is_st()
        || register.is_k()
        || register.is_tmm()
}

/// Features whose instructions use vector state even where no operand says so (`vzeroupper`, `emms`, `fxsave`).
fn is_vector_feature(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::FPU
            | F::FPU287
            | F::FPU387
            | F::MMX
            | F::SSE
            | F::AVX
            | F::AVX2
            | F::AVX512F
            | F::FXSR
            | F::XSAVE
            | F::XSAVEC
            | F::XSAVEOPT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection_to(bytes: &[u8]) -> Option<&'static str> {
        objection(&Decoder::new(64, bytes, DecoderOptions::NONE).decode())
    }

    #[test]
    fn general_registers_are_welcome() {
        assert_eq!(objection_to(&[0x48, 0x89, 0xc8]), None); // mov rax, rcx
        assert_eq!(objection_to(&[0xf3, 0xa4]), None); // rep movsb
        assert_eq!(objection_to(&[0x0f, 0x05]), None); // syscall
    }

    #[test]
    fn vector_registers_are_not() {
        assert!(objection_to(&[0x0f, 0x28, 0xc1]).is_some()); // movaps xmm0, xmm1
        assert!(objection_to(&[0xc5, 0xfe, 0x6f, 0x06]).is_some()); // vmovdqu ymm0, [rsi]
        assert!(objection_to(&[0xd9, 0xe8]).is_some()); // fld1
        assert!(objection_to(&[0x66, 0x48, 0x0f, 0x6e, 0xc0]).is_some()); // movq xmm0, rax
    }

    #[test]
    fn hidden_uses_of_vector_state_are_not() {
        assert!(objection_to(&[0xc5, 0xf8, 0x77]).is_some()); // vzeroupper
        assert!(objection_to(&[0x0f, 0x77]).is_some()); // emms
        assert!(objection_to(&[0x0f, 0xae, 0x07]).is_some()); // fxsave [rdi]
    }

    fn program<'a>(parts: &[(u64, &'a str, &'a [u8])]) -> BTreeMap<u64, Function<'a>> {
        parts.iter().map(|&(address, name, code)| (address, Function { name, code })).collect()
    }

    #[test]
    fn what_a_fast_path_calls_is_followed() {
        let call = [0xe8, 0xfb, 0x0f, 0, 0, 0xc3]; // call 0x2000; ret
        let clean = program(&[(0x1000, "endo_fast_read", &call), (0x2000, "helper", &[0x90, 0xc3])]);
        assert_eq!(examine(&clean).unwrap(), (vec![], 2));
        let dirty =
            program(&[(0x1000, "endo_fast_read", &call), (0x2000, "helper", &[0x0f, 0x28, 0xc1, 0xc3])]);
        let objections = examine(&dirty).unwrap().0;
        assert!(objections[0].starts_with("helper: movaps"), "{objections:?}");
    }

    #[test]
    fn what_a_fast_path_does_not_call_is_not_looked_at() {
        let other = program(&[(0x1000, "endo_fast_read", &[0xc3]), (0x2000, "main", &[0x0f, 0x28, 0xc1])]);
        assert_eq!(examine(&other).unwrap(), (vec![], 1));
    }

    #[test]
    fn a_call_to_unknown_code_is_an_error() {
        let program = program(&[(0x1000, "endo_fast_read", &[0xe8, 0, 0x10, 0, 0])]);
        assert!(examine(&program).unwrap_err().to_string().contains("no known function"));
    }

    #[test]
    fn an_executable_without_fast_paths_is_an_error() {
        let own = std::env::current_exe().unwrap();
        let error = check(&own).unwrap_err();
        assert!(error.root_cause().to_string().contains("no fast paths"), "{error:#}");
    }
}

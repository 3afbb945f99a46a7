//! Whose the vector registers are, checked in the executable.
//!
//! Three promises let Endo leave the guest's vector state in the processor while code of its own runs:
//!
//! 1. Fast paths of system calls, and the gate that calls them, use no vector, x87 or mask register at all.
//! 2. No code of the executable touches more than the lower 128 bits of a vector register, which light gates save:
//!    it has no VEX or EVEX instruction, none of x87 and none of MMX; but for the gate out of the guest, which makes the
//!    x87 unit the host's (`fninit`) when all of the guest's is saved.
//! 3. What a light gate calls reaches no function of libc that might (its `memcpy` and relatives choose AVX by CPU).
//!
//! And a fourth thing, for the backend whose guests can jump to any byte of the text: [`rights`].
//!
//! Direct calls and calls through the global offset table are followed. Calls through a pointer are not: a fast path
//! is found by its name, and a method behind a pointer falls under promise 2.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction, OpKind, Register,
};

use super::Finding;

mod program;
mod rights;

use program::{Function, Program, Slot};

/// How the symbols of code begin that uses no vector register (promise 1).
const WITHOUT_VECTORS: &[&str] =
    &["endo_fast_", "endo_raw_copy", "endo_sfi_gate_syscall", "endo_sfi_syscall_"];
/// How those of the light gates begin (promise 3).
const LIGHT: &[&str] = &["endo_sfi_gate_", "endo_sfi_light_"];
/// How the symbols of functions begin that are linked and never called: those of BLAKE3 for AVX2, which its feature `no_avx2`
/// keeps it from choosing (`avx2_detected` in its platform.rs).
const NEVER_CALLED: &[&str] = &["_ZN6blake34avx2"];
/// Where a gate leaves for the monitor or the guest: what follows saves or loads all vector state.
const LEAVING: &[&str] = &["endo_sfi_save_vector", "endo_sfi_tail", "endo_sfi_leave"];
/// In the names of functions that panic: the guest never goes on after them.
const PANICKING: &str = "9panicking";
/// Functions of libc that may use vector registers wider than the gate saves.
const VECTOR_IMPORTS: &[&str] = &[
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "bcmp",
    "memchr",
    "memrchr",
    "rawmemchr",
    "strlen",
    "strchr",
    "strrchr",
    "strcmp",
    "strncmp",
    "strcpy",
    "realloc",
    "calloc",
    "reallocarray",
];

/// Checks an executable; also says what was checked.
pub(super) fn check(path: &Path) -> anyhow::Result<(Vec<Finding>, String)> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let program = Program::parse(&bytes)?;
    let mut objections = Vec::new();
    for prefix in WITHOUT_VECTORS.iter().chain(LIGHT) {
        let is_there = program.functions.values().any(|function| function.name.starts_with(prefix));
        ensure!(is_there, "the executable has no symbol {prefix}*: there is nothing to check");
    }
    let strict = reached(&program, |name| begins_with(name, WITHOUT_VECTORS))?;
    for &address in strict.functions.keys() {
        object(&program, address, uses_vectors, &mut objections);
    }
    let calls = |reached: &Reached, (import, &caller): (&String, &u64)| {
        format!("{import} is called: {}", reached.path(&program, caller))
    };
    objections.extend(strict.imports.iter().map(|import| calls(&strict, import)));
    let light = reached(&program, |name| begins_with(name, LIGHT) && !begins_with(name, WITHOUT_VECTORS))?;
    let wide_imports = light.imports.iter().filter(|(import, _)| VECTOR_IMPORTS.contains(&import.as_str()));
    objections.extend(wide_imports.map(|import| calls(&light, import)));
    for (&address, function) in &program.functions {
        if begins_with(function.name, NEVER_CALLED) {
            continue;
        }
        let is_wrong = if is_way_out(function.name) { uses_more_than_fninit } else { uses_upper_halves };
        object(&program, address, is_wrong, &mut objections);
    }
    objections.extend(rights::objections(&bytes, &program)?);
    let name = path.to_string_lossy();
    let findings = objections.into_iter().map(|objection| Finding::new(&name, 0, objection)).collect();
    let (strict, light, all) = (strict.functions.len(), light.functions.len(), program.functions.len());
    Ok((
        findings,
        format!("{strict} parts of fast paths, {light} functions behind light gates, {all} in all"),
    ))
}

/// Whether a symbol is of the gate that saves all vector state; that which begins it spans all of it.
fn is_way_out(name: &str) -> bool {
    name == "endo_sfi_enter" || begins_with(name, LEAVING)
}

fn begins_with(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// What some functions lead to.
#[derive(Debug, Default)]
struct Reached {
    /// Each with the one that led to it; a root leads to itself.
    functions: BTreeMap<u64, u64>,
    /// Functions of other libraries, each with one that calls it.
    imports: BTreeMap<String, u64>,
}

impl Reached {
    /// The names of the functions from a root to this one.
    fn path(&self, program: &Program<'_>, mut address: u64) -> String {
        let mut names = vec![program.functions[&address].name];
        while self.functions[&address] != address {
            address = self.functions[&address];
            names.push(program.functions[&address].name);
        }
        names.reverse();
        names.join(" -> ")
    }
}

/// Follows the functions whose names are roots.
fn reached(program: &Program<'_>, is_root: impl Fn(&str) -> bool) -> anyhow::Result<Reached> {
    let named = program.functions.iter().filter(|(_, function)| is_root(function.name));
    let mut waiting: Vec<(u64, u64)> = named.map(|(&address, _)| (address, address)).collect();
    let mut reached = Reached::default();
    while let Some((address, caller)) = waiting.pop() {
        if reached.functions.contains_key(&address) {
            continue;
        }
        reached.functions.insert(address, caller);
        let function = &program.functions[&address];
        for instruction in Decoder::with_ip(64, function.code, address, DecoderOptions::NONE) {
            match leads_to(program, &instruction) {
                Some(Slot::Import(name)) => {
                    reached.imports.entry(name.to_owned()).or_insert(address);
                }
                Some(Slot::Own(target)) => match program.function_at(target) {
                    Some((_, callee))
                        if begins_with(callee.name, LEAVING) || callee.name.contains(PANICKING) => {}
                    Some((start, _)) => waiting.push((start, address)),
                    None => bail!("{}: {instruction} leads to no known function", function.name),
                },
                None => {}
            }
        }
    }
    Ok(reached)
}

/// Where a branch leads, as far as the executable tells.
fn leads_to<'a>(program: &Program<'a>, instruction: &Instruction) -> Option<Slot<'a>> {
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
            (instruction.op0_kind() == OpKind::NearBranch64)
                .then(|| Slot::Own(instruction.near_branch_target()))
        }
        FlowControl::IndirectCall | FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => {
            match program.slots.get(&instruction.ip_rel_memory_address())? {
                Slot::Import(name) => Some(Slot::Import(name)),
                Slot::Own(address) => Some(Slot::Own(*address)),
            }
        }
        _ => None,
    }
}

fn object(
    program: &Program<'_>,
    address: u64,
    is_wrong: fn(&Instruction) -> bool,
    objections: &mut Vec<String>,
) {
    let Function { name, code } = &program.functions[&address];
    let wrong = Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().find(is_wrong);
    objections.extend(wrong.map(|instruction| format!("{name}: {instruction} at {:#x}", instruction.ip())));
}

/// Whether an instruction uses vector state in any way.
fn uses_vectors(instruction: &Instruction) -> bool {
    let mut registers = (0..instruction.op_count())
        .filter(|&operand| instruction.op_kind(operand) == OpKind::Register)
        .map(|operand| instruction.op_register(operand));
    registers.any(|register| register.is_vector_register() || is_other_state(register))
        || instruction.cpuid_features().iter().any(|&feature| is_vector_feature(feature))
        || uses_upper_halves(instruction)
}

/// Whether an instruction uses state that light gates do not save. Those that save or load all of it are welcome.
fn uses_upper_halves(instruction: &Instruction) -> bool {
    let mut operands =
        (0..instruction.op_count()).filter(|&operand| instruction.op_kind(operand) == OpKind::Register);
    let is_bit_manipulation = instruction
        .cpuid_features()
        .iter()
        .any(|feature| matches!(feature, CpuidFeature::BMI1 | CpuidFeature::BMI2));
    (!is_bit_manipulation && !matches!(instruction.encoding(), EncodingKind::Legacy))
        || operands.any(|operand| is_other_state(instruction.op_register(operand)))
        || instruction
            .cpuid_features()
            .iter()
            .any(|feature| matches!(feature, CpuidFeature::FPU | CpuidFeature::MMX))
}

fn uses_more_than_fninit(instruction: &Instruction) -> bool {
    instruction.code() != Code::Fninit && uses_upper_halves(instruction)
}

fn is_other_state(register: Register) -> bool {
    register.is_mm() || register.is_st() || register.is_k() || register.is_tmm()
}

/// Features whose instructions use vector state even where no operand says so.
fn is_vector_feature(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(feature, F::SSE | F::SSE2 | F::FXSR | F::XSAVE | F::XSAVEC | F::XSAVEOPT | F::XSAVES)
}

#[cfg(test)]
mod tests;

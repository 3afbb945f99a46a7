//! Compiles the verifier's allow-list, `src/verify/instructions.rules`, into a table of one byte per
//! iced-x86 `Code` and a list of refusal reasons, and the table of common forms that follows from it.

#[expect(dead_code, reason = "the crate reads what this writes, and uses more of it")]
#[path = "src/verify/form.rs"]
mod form;
#[path = "build/forms.rs"]
mod forms;
#[path = "src/verify/kind.rs"]
mod kind;

use iced_x86::{Code, CpuidFeature, Instruction, InstructionInfoFactory, OpAccess, Register};
use kind::{ALLOWED, Kind};
use std::path::Path;
use std::{env, fs};

const RULES: &str = "src/verify/instructions.rules";
/// Index 0 is what an instruction that no line selects gets.
const UNLISTED: &str = "not on the list";

fn main() {
    for source in ["build.rs", "build", "src/verify/form.rs"] {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-changed={RULES}");
    println!("cargo::rerun-if-changed=src/verify/kind.rs");
    let text = fs::read_to_string(RULES).unwrap_or_else(|error| panic!("{RULES}: {error}"));
    let table = Table::compile(&text);
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("verify_rules.bin"), &table.bytes).expect("writing the rule table");
    fs::write(Path::new(&out).join("verify_reasons.rs"), format!("{:?}", table.reasons))
        .expect("writing the reasons");
    let forms = forms::Forms::of(&table.bytes);
    fs::write(Path::new(&out).join("verify_rows.bin"), &forms.rows).expect("writing the rows of forms");
    fs::write(Path::new(&out).join("verify_forms.bin"), &forms.forms).expect("writing the forms");
}

struct Table {
    bytes: Vec<u8>,
    reasons: Vec<String>,
    /// Features that a line has allowed so far.
    features: Vec<CpuidFeature>,
}

impl Table {
    fn compile(text: &str) -> Table {
        let mut table = Table {
            bytes: vec![0; Code::values().len()],
            reasons: vec![UNLISTED.into()],
            features: Vec::new(),
        };
        let lines =
            text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
        for (number, line) in lines {
            table.line(line).unwrap_or_else(|error| panic!("{RULES}:{}: {error}", number + 1));
        }
        table
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (selection, reason) = match line.split_once(" : ") {
            Some((selection, reason)) => (selection, Some(reason.trim())),
            None => (line, None),
        };
        let mut words = selection.split_whitespace();
        let action = words.next().ok_or("no kind")?;
        let selector = words.next().ok_or("no selector")?;
        let kind = match (action, reason) {
            ("deny", Some(_)) => None,
            ("deny", None) => return Err("a refusal needs a reason".into()),
            (name, None) => Some(kind_named(name)?),
            (_, Some(_)) => return Err("only a refusal has a reason".into()),
        };
        let reason = reason.map(|reason| self.reason(reason)).transpose()?;
        for name in words {
            let codes = self.select(selector, name)?;
            if codes.is_empty() {
                return Err(format!("{selector} {name} selects nothing"));
            }
            for code in codes {
                self.bytes[code as usize] = match (kind, reason) {
                    (Some(kind), _) => rule(code, kind),
                    (None, reason) => reason.unwrap_or(0),
                };
            }
        }
        Ok(())
    }

    fn reason(&mut self, reason: &str) -> Result<u8, String> {
        let index = self.reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
            self.reasons.push(reason.into());
            self.reasons.len() - 1
        });
        u8::try_from(index).ok().filter(|&index| index < ALLOWED).ok_or("too many reasons".into())
    }

    fn select(&mut self, selector: &str, name: &str) -> Result<Vec<Code>, String> {
        Ok(match selector {
            "code" => Code::values().filter(|code| format!("{code:?}") == name).collect(),
            "mnemonic" => Code::values().filter(|code| format!("{:?}", code.mnemonic()) == name).collect(),
            "feature" => {
                let feature = CpuidFeature::values()
                    .find(|feature| format!("{feature:?}") == name)
                    .ok_or_else(|| format!("no feature {name}"))?;
                self.features.push(feature);
                Code::values()
                    .filter(|code| code.cpuid_features().contains(&feature))
                    .filter(|code| code.cpuid_features().iter().all(|needed| self.features.contains(needed)))
                    .collect()
            }
            other => return Err(format!("no selector {other}")),
        })
    }
}

fn kind_named(name: &str) -> Result<Kind, String> {
    Kind::ALL
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, kind)| kind)
        .ok_or_else(|| format!("no kind {name}"))
}

/// The rule byte of an allowed instruction.
fn rule(code: Code, kind: Kind) -> u8 {
    // Distinct registers: iced refines the access of `xor r, r` and the like.
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    for (operand, register) in
        [Register::RAX, Register::RDX, Register::RBX, Register::RBP].into_iter().enumerate()
    {
        instruction.set_op_register(operand as u32, register);
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    let writes = u8::from(writes(info.op1_access())) << 1 | u8::from(writes(info.op0_access()));
    ALLOWED + ((kind as u8) << 2) + writes
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

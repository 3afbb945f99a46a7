use super::*;

fn instruction(bytes: &[u8]) -> Instruction {
    Decoder::new(64, bytes, DecoderOptions::NONE).decode()
}

fn program<'a>(parts: &[(u64, &'a str, &'a [u8])]) -> Program<'a> {
    let functions = parts.iter().map(|&(address, name, code)| (address, Function { name, code })).collect();
    Program { functions, ..Program::default() }
}

fn is_root(name: &str) -> bool {
    name == "root"
}

const MOV: &[u8] = &[0x48, 0x89, 0xc8]; // mov rax, rcx
const REP_MOVSB: &[u8] = &[0xf3, 0xa4];
const SYSCALL: &[u8] = &[0x0f, 0x05];
const SHLX: &[u8] = &[0xc4, 0xe2, 0xf1, 0xf7, 0xc2]; // shlx rax, rdx, rcx
const MOVAPS: &[u8] = &[0x0f, 0x28, 0xc1]; // movaps xmm0, xmm1
const MOVQ: &[u8] = &[0x66, 0x48, 0x0f, 0x6e, 0xc0]; // movq xmm0, rax
const VMOVDQU: &[u8] = &[0xc5, 0xfe, 0x6f, 0x06]; // vmovdqu ymm0, [rsi]
const VMOVAPS_XMM: &[u8] = &[0xc5, 0xf8, 0x28, 0xc1]; // vmovaps xmm0, xmm1: clears the upper half
const VZEROUPPER: &[u8] = &[0xc5, 0xf8, 0x77];
const FLD1: &[u8] = &[0xd9, 0xe8];
const EMMS: &[u8] = &[0x0f, 0x77];
const XSAVE: &[u8] = &[0x48, 0x0f, 0xae, 0x21]; // xsave64 [rcx]
const LDMXCSR: &[u8] = &[0x0f, 0xae, 0x11]; // ldmxcsr [rcx]

#[test]
fn general_instructions_use_no_vector_state() {
    for bytes in [MOV, REP_MOVSB, SYSCALL, SHLX] {
        assert!(!uses_vectors(&instruction(bytes)), "{bytes:x?}");
    }
}

#[test]
fn every_use_of_vector_state_is_seen() {
    for bytes in [MOVAPS, MOVQ, VMOVDQU, VMOVAPS_XMM, VZEROUPPER, FLD1, EMMS, XSAVE, LDMXCSR] {
        assert!(uses_vectors(&instruction(bytes)), "{bytes:x?}");
    }
}

#[test]
fn lower_halves_are_told_from_upper_ones() {
    for bytes in [MOV, SHLX, MOVAPS, MOVQ, XSAVE, LDMXCSR] {
        assert!(!uses_upper_halves(&instruction(bytes)), "{bytes:x?}");
    }
    for bytes in [VMOVDQU, VMOVAPS_XMM, VZEROUPPER, FLD1, EMMS] {
        assert!(uses_upper_halves(&instruction(bytes)), "{bytes:x?}");
    }
}

#[test]
fn direct_calls_are_followed() {
    let call = [0xe8, 0xfb, 0x0f, 0, 0, 0xc3]; // call 0x2000; ret
    let program =
        program(&[(0x1000, "root", &call), (0x2000, "helper", &[0x90, 0xc3]), (0x3000, "main", &[0xc3])]);
    assert_eq!(
        reached(&program, is_root).unwrap().functions,
        BTreeMap::from([(0x1000, 0x1000), (0x2000, 0x1000)])
    );
}

#[test]
fn calls_through_the_global_offset_table_are_followed() {
    let calls = [0xff, 0x15, 0xfa, 0x0f, 0, 0, 0xff, 0x15, 0xfc, 0x0f, 0, 0]; // call [0x2000]; call [0x2008]
    let mut program = program(&[(0x1000, "root", &calls), (0x3000, "helper", &[0xc3])]);
    program.slots.insert(0x2000, Slot::Import("memcpy"));
    program.slots.insert(0x2008, Slot::Own(0x3000));
    let reached = reached(&program, is_root).unwrap();
    assert_eq!(reached.functions, BTreeMap::from([(0x1000, 0x1000), (0x3000, 0x1000)]));
    assert_eq!(reached.imports, BTreeMap::from([("memcpy".to_owned(), 0x1000)]));
    assert_eq!(reached.path(&program, 0x3000), "root -> helper");
}

#[test]
fn the_way_out_of_a_gate_is_not_followed() {
    let jump = [0xe9, 0xfb, 0x0f, 0, 0]; // jmp 0x2000
    let program = program(&[(0x1000, "root", &jump), (0x2000, "endo_sfi_save_vector", XSAVE)]);
    assert_eq!(reached(&program, is_root).unwrap().functions, BTreeMap::from([(0x1000, 0x1000)]));
}

#[test]
fn a_panic_is_not_followed() {
    let call = [0xe8, 0xfb, 0x0f, 0, 0]; // call 0x2000
    let program =
        program(&[(0x1000, "root", &call), (0x2000, "_RNvNtC_4core9panicking9panic_fmt", VZEROUPPER)]);
    assert_eq!(reached(&program, is_root).unwrap().functions.len(), 1);
}

#[test]
fn a_call_to_unknown_code_is_an_error() {
    let program = program(&[(0x1000, "root", &[0xe8, 0, 0x10, 0, 0])]);
    assert!(reached(&program, is_root).unwrap_err().to_string().contains("no known function"));
}

#[test]
fn a_wrong_instruction_is_named_with_its_function() {
    let program = program(&[(0x1000, "root", MOVAPS)]);
    let mut objections = Vec::new();
    object(&program, 0x1000, uses_vectors, &mut objections);
    assert!(
        objections[0].starts_with("root: movaps") && objections[0].ends_with("at 0x1000"),
        "{objections:?}"
    );
}

#[test]
fn an_executable_without_gates_is_an_error() {
    let own = std::env::current_exe().unwrap();
    assert!(check(&own).unwrap_err().to_string().contains("nothing to check"));
}

#[test]
fn an_executable_knows_its_functions_and_imports() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let program = Program::parse(&bytes).unwrap();
    assert!(program.functions.values().any(|function| function.name == "main"));
    assert!(program.slots.values().any(|slot| *slot == Slot::Import("memcpy")));
}

#[test]
fn only_the_way_out_may_reset_the_x87_unit() {
    const FNINIT: &[u8] = &[0xdb, 0xe3];
    assert!(uses_vectors(&instruction(FNINIT)) && uses_upper_halves(&instruction(FNINIT)));
    assert!(!uses_more_than_fninit(&instruction(FNINIT)) && uses_more_than_fninit(&instruction(FLD1)));
    assert!(is_way_out("endo_sfi_leave") && !is_way_out("endo_sfi_gate_syscall"));
}

use std::collections::BTreeSet;
use std::ffi::CStr;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::*;

/// Every instruction that a function of the image can reach.
fn reachable(image: &[u8], base: u64, function: u64) -> Vec<Instruction> {
    let (mut waiting, mut seen, mut all) = (vec![function], BTreeSet::new(), Vec::new());
    while let Some(start) = waiting.pop() {
        let mut decoder =
            Decoder::with_ip(64, &image[(start - base) as usize..], start, DecoderOptions::NONE);
        while seen.insert(decoder.ip()) {
            let instruction = decoder.decode();
            all.push(instruction);
            if instruction.op0_kind() == OpKind::NearBranch64 {
                waiting.push(instruction.near_branch_target());
            }
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::ConditionalBranch => {}
                // The kernel's way to write "cannot be" into a system call or `rdtscp` that is patched in.
                FlowControl::Interrupt => {}
                other => {
                    let ends =
                        [FlowControl::Return, FlowControl::UnconditionalBranch, FlowControl::Exception];
                    assert!(ends.contains(&other), "{instruction} leads who knows where");
                    break;
                }
            }
        }
    }
    all
}

#[test]
fn the_functions_that_tell_the_time_are_found() {
    let functions = functions();
    // SAFETY: no precondition.
    let base = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    let inside = base..base + image().expect("the kernel gives every process a vDSO").len();
    assert!(functions.iter().all(|function| inside.contains(function)), "{functions:x?} in {inside:x?}");
}

#[test]
fn they_are_those_that_the_dynamic_linker_finds() {
    let path = c"linux-vdso.so.1";
    // SAFETY: the vDSO is loaded already: nothing is run.
    let handle = unsafe { libc::dlopen(CStr::as_ptr(path), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    assert!(!handle.is_null(), "the dynamic linker knows the vDSO");
    let found =
        [c"__vdso_clock_gettime", c"__vdso_gettimeofday", c"__vdso_time", c"__vdso_getcpu"].map(|name| {
            // SAFETY: the handle is valid, the name is a C string.
            unsafe { libc::dlsym(handle, CStr::as_ptr(name)) as usize }
        });
    assert_eq!(functions()[..4], found);
}

#[test]
fn they_use_no_vector_register_and_do_not_mind_the_direction_flag() {
    let image = image().expect("the kernel gives every process a vDSO");
    let base = image.as_ptr() as u64;
    for function in functions() {
        let instructions = reachable(image, base, function as u64);
        assert!(instructions.len() > 5, "it does something");
        for instruction in instructions {
            let mut registers = (0..instruction.op_count())
                .filter(|&operand| instruction.op_kind(operand) == OpKind::Register)
                .map(|operand| instruction.op_register(operand));
            let is_general =
                |register: iced_x86::Register| register.is_gpr() || register.is_segment_register();
            assert!(registers.all(is_general), "{instruction}");
            assert!(!instruction.is_string_instruction(), "{instruction}");
        }
    }
}

#[test]
fn what_is_no_image_has_no_functions() {
    let image = image().expect("the kernel gives every process a vDSO");
    for length in (0..image.len()).step_by(7) {
        let symbols = Symbols::of(&image[..length]);
        let _ = symbols.map(|symbols| symbols.find("__vdso_time"));
    }
    assert!(Symbols::of(&[0; 4096]).is_none());
}

#[test]
fn both_hash_tables_tell_the_same_number_of_symbols() {
    let image = &crate::loader::vdso::IMAGE;
    let symbols = Symbols::of(image).expect("our own image has symbols");
    let gnu_hash = segments(image)
        .find(|&(kind, _)| kind == program_header::PT_DYNAMIC)
        .and_then(|(_, table)| {
            (table.offset..).step_by(16).find(|&at| u64_at(image, at) == Some(dynamic::DT_GNU_HASH))
        })
        .and_then(|at| u64_at(image, at + 8));
    assert_eq!(count_by_gnu_hash(image, gnu_hash.expect("it has one")), Some(symbols.count));
}

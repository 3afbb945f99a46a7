//! Headers, good and bad.

use proptest::prelude::*;

use super::*;
use crate::loader::plan;

fn true_program() -> Vec<u8> {
    std::fs::read("/bin/true").expect("every Linux has /bin/true")
}

fn parse(bytes: &[u8]) -> Result<Image, ElfError> {
    Image::parse(bytes)
}

/// A file with these program headers right after the ELF header.
fn file(headers: &[[u64; 8]]) -> Vec<u8> {
    let mut bytes = true_program()[..HEADER_LENGTH].to_vec();
    bytes[0x20..0x28].copy_from_slice(&(HEADER_LENGTH as u64).to_le_bytes());
    bytes[0x38..0x3a].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    for [kind, flags, rest @ ..] in headers {
        bytes.extend((*kind as u32).to_le_bytes());
        bytes.extend((*flags as u32).to_le_bytes());
        rest.iter().for_each(|field| bytes.extend(field.to_le_bytes()));
    }
    bytes.resize(0x2000, 0);
    bytes
}

/// A `PT_LOAD` entry from what matters.
fn load(offset: u64, address: u64, file_bytes: u64, memory_bytes: u64) -> [u64; 8] {
    [1, 5, offset, address, address, file_bytes, memory_bytes, 0x1000]
}

#[test]
fn a_real_program_has_its_headers_in_memory_and_an_interpreter() {
    let image = parse(&true_program()).unwrap();
    assert_eq!(image.placement, Placement::Anywhere);
    assert_eq!(image.headers_address, Some(HEADER_LENGTH as u64));
    assert!(image.interpreter.unwrap().starts_with(b"/lib"));
    assert_eq!(image.executable_stack, Some(false));
}

#[test]
fn each_cut_of_the_headers_is_an_error_and_not_a_panic() {
    let program = true_program();
    let table_end =
        HEADER_LENGTH + usize::from(parse(&program).unwrap().header_count) * PROGRAM_HEADER_LENGTH;
    for length in 0..table_end {
        assert!(parse(&program[..length]).is_err(), "{length} bytes are no program");
    }
}

#[test]
fn a_segment_that_the_file_does_not_hold_is_truncated() {
    let error = parse(&file(&[load(0, 0, 0x2001, 0x2001)])).unwrap_err();
    assert_eq!(error.to_string(), "truncated ELF file: a segment ends at byte 8193, the file has 8192");
}

#[test]
fn more_file_than_memory_is_corrupt() {
    let error = parse(&file(&[load(0, 0, 0x100, 0xff)])).unwrap_err();
    assert!(matches!(error, ElfError::FileExceedsMemory { file_bytes: 0x100, memory_bytes: 0xff }));
}

#[test]
fn a_segment_at_another_page_offset_than_its_bytes_is_corrupt() {
    let error = parse(&file(&[load(1, 0x1000, 1, 1)])).unwrap_err();
    assert!(matches!(error, ElfError::Misaligned { address: 0x1000, offset: 1 }));
}

#[test]
fn a_segment_past_the_address_space_is_corrupt() {
    let error = parse(&file(&[load(0, 0x1000, 0, u64::MAX - 0x1000)])).unwrap_err();
    assert!(matches!(error, ElfError::Wraps { .. }));
}

#[test]
fn a_table_of_headers_past_any_file_is_truncated() {
    let mut bytes = file(&[load(0, 0, 1, 1)]);
    bytes[0x20..0x28].copy_from_slice(&(u64::MAX - 3).to_le_bytes());
    assert!(matches!(parse(&bytes), Err(ElfError::Truncated { what: "its program header table", .. })));
}

#[test]
fn nothing_to_load_is_corrupt() {
    assert!(matches!(parse(&file(&[load(0, 0, 0, 0)])), Err(ElfError::NothingToLoad)));
    assert!(matches!(parse(&file(&[[2; 8]])), Err(ElfError::NothingToLoad)));
}

#[test]
fn headers_of_another_size_are_corrupt() {
    let mut bytes = file(&[load(0, 0, 1, 1)]);
    bytes[0x36] = 32;
    assert!(matches!(parse(&bytes), Err(ElfError::HeaderSize { size: 32 })));
    bytes[0x36] = 56;
    bytes[0x38..0x3a].copy_from_slice(&0xffff_u16.to_le_bytes());
    assert!(matches!(parse(&bytes), Err(ElfError::HeaderCount { count: 0xffff })));
}

#[test]
fn an_interpreter_must_be_a_path_that_ends() {
    let interpreter = |offset, length| [3, 4, offset, 0, 0, length, length, 1];
    let mut bytes = file(&[interpreter(0x1000, 8), load(0, 0, 1, 1)]);
    bytes[0x1000..0x1008].copy_from_slice(b"/ld.so.1");
    assert!(matches!(parse(&bytes), Err(ElfError::BadInterpreterName)));
    bytes[0x1007] = 0;
    assert_eq!(parse(&bytes).unwrap().interpreter.as_deref(), Some(b"/ld.so.".as_slice()));
    let beyond = file(&[interpreter(0x1fff, 2), load(0, 0, 1, 1)]);
    assert!(matches!(parse(&beyond), Err(ElfError::Truncated { .. })));
    let huge = file(&[interpreter(0x1000, 5000), load(0, 0, 1, 1)]);
    assert!(matches!(parse(&huge), Err(ElfError::BadInterpreterName)));
}

#[test]
fn other_machines_and_classes_are_named() {
    let mut bytes = true_program();
    bytes[0x12] = 243;
    let message = parse(&bytes).unwrap_err().to_string();
    assert!(message.starts_with("an ELF file for risc-v; this is "), "{message}");
    bytes[0x12] = 3;
    bytes[4] = 1;
    let message = parse(&bytes).unwrap_err().to_string();
    assert!(message.starts_with("a 32-bit ELF file for x86 (i386); only 64-bit"), "{message}");
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_ignored() {
    let mut header = load(0, 0, 1, 1);
    header[7] = 0x3001;
    assert_eq!(parse(&file(&[header])).unwrap().alignment(), PAGE_SIZE);
}

/// What a parsed image promises, whatever the bytes were.
fn check_promises(image: &Image, length: u64) {
    for segment in &image.segments {
        assert!(segment.file_bytes <= segment.memory_bytes);
        assert!(segment.alignment.is_power_of_two());
        assert!(segment.file_bytes == 0 || segment.offset + segment.file_bytes <= length);
    }
    let (start, end) = image.span();
    assert!(start < end);
    for bias in [0, 0x1000_0000_u64.wrapping_sub(start)] {
        let Some(plan) = plan::plan(image, bias) else { continue };
        for step in plan.steps {
            let (plan::Step::File { range, .. }
            | plan::Step::Zero { range, .. }
            | plan::Step::Clear { range }) = step;
            assert!(plan.span.encloses(range), "{range} is part of {}", plan.span);
        }
    }
}

proptest! {
    #[test]
    fn no_change_of_the_headers_makes_the_parser_panic(
        changes in proptest::collection::vec((0_usize..1024, any::<u8>()), 1..40),
        length in 0_usize..40_000,
    ) {
        let mut bytes = true_program();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(length.max(1024));
        if let Ok(image) = parse(&bytes) {
            check_promises(&image, bytes.len() as u64);
        }
    }

    #[test]
    fn no_program_header_makes_the_parser_panic(
        headers in proptest::collection::vec(any_header(), 1..12),
    ) {
        let bytes = file(&headers);
        if let Ok(image) = parse(&bytes) {
            check_promises(&image, bytes.len() as u64);
        }
    }
}

/// Numbers that headers break at.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0_u64..0x3000,
        (0_u64..8).prop_map(|n| n << 12),
        (0_u32..64, 0_u64..3).prop_map(|(bit, n)| (1_u64 << bit).wrapping_sub(n)),
        any::<u64>(),
    ]
}

fn any_header() -> impl Strategy<Value = [u64; 8]> {
    let kind = prop_oneof![Just(1), Just(1), Just(1), Just(3), Just(6), Just(0x6474_e551)];
    (kind, 0_u64..8, edge(), edge(), edge(), edge(), edge()).prop_map(
        |(kind, flags, offset, address, file, memory, align)| {
            [kind, flags, offset, address, address, file, memory, align]
        },
    )
}

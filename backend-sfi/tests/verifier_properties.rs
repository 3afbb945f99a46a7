//! The verifier on fragments made at random: it never panics, and a second opinion agrees with what it admits.

#[path = "verifier/cases.rs"]
mod cases;
#[path = "verifier/oracle.rs"]
mod oracle;

use cases::{OTHER, PLACE, verifier};
use endo_sfi::returns::Returns;
use endo_sfi::verify::{Claims, Layout, Verifier};
use iced_x86::{Decoder, DecoderOptions};
use proptest::prelude::*;
use std::sync::LazyLock;

const PASS: &str = include_str!("verifier/pass.txt");
const FAIL: &str = include_str!("verifier/fail.txt");

/// Every instruction of the hand-written cases.
static INSTRUCTIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut all: Vec<Vec<u8>> =
        [PASS, FAIL].into_iter().flat_map(cases::parse).flat_map(|case| split(&case.bytes)).collect();
    all.sort();
    all.dedup();
    all
});

/// Instructions that admitted sequences are made of, so that random ones are often nearly right.
const PIECES: [&[u8]; 31] = [
    &[0x8b, 0xff],                                           // mov edi, edi
    &[0x8b, 0xf6],                                           // mov esi, esi
    &[0x45, 0x8b, 0xdb],                                     // mov r11d, r11d
    &[0x8b, 0xe4],                                           // mov esp, esp
    &[0x8b, 0xed],                                           // mov ebp, ebp
    &[0xf3, 0xab],                                           // rep stosd
    &[0xa4],                                                 // movsb
    &[0xac],                                                 // lodsb
    &[0xc9],                                                 // leave
    &[0x41, 0x5b],                                           // pop r11
    &[0x50],                                                 // push rax
    &[0x48, 0x83, 0xec, 0x08],                               // sub rsp, 8
    &[0x48, 0x89, 0xc4],                                     // mov rsp, rax
    &[0x48, 0x94],                                           // xchg rsp, rax
    &[0x8d, 0x64, 0x24, 0x08],                               // lea esp, [rsp+8]
    &[0x65, 0x42, 0xff, 0x24, 0xdd, 0, 0, 0, 0],             // jmp gs:[r11*8]
    &[0x64, 0x4c, 0x89, 0x1c, 0x25, 0x80, 0xff, 0xff, 0xff], // mov fs:[spill], r11
    &[0x4c, 0x8d, 0x1d, 5, 0, 0, 0],                         // lea r11, [rip+5]
    &[0x67, 0x48, 0x89, 0x07],                               // mov [edi], rax
    &[0x67, 0xc7, 0x07, 1, 0, 0, 0],                         // mov dword ptr [edi], 1
    &[0x44, 0x8b, 0xd8],                                     // mov r11d, eax
    &[0x74, 0x02],                                           // je +2
    &[0xeb, 0xfc],                                           // jmp -2
    &[0x90],                                                 // nop
    &[0x65, 0x4e, 0x8b, 0x1c, 0xdd, 0, 0, 0, 0],             // mov r11, gs:[r11*8]
    &[0x4d, 0x8d, 0x5b, 0xfc],                               // lea r11, [r11-4]
    &[0x64, 0x4c, 0x89, 0x1c, 0x25, 0xd8, 0xff, 0xff, 0xff], // mov fs:[return target], r11
    &[0x41, 0x89, 0xe3],                                     // mov r11d, esp
    &[0x64, 0x48, 0x8b, 0x24, 0x25, 0xe0, 0xff, 0xff, 0xff], // mov rsp, fs:[return stack]
    &[0xc3],                                                 // ret
    &[0xe8, 0xf6, 0xff, 0xff, 0xff],                         // call -10
];

/// With predicted returns there are more sequences to admit, and all the others.
fn layout() -> Layout {
    Layout { returns: Returns::Predicted, ..cases::layout() }
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    Decoder::with_ip(64, bytes, PLACE, DecoderOptions::NONE)
        .iter()
        .map(|instruction| {
            let at = (instruction.ip() - PLACE) as usize;
            bytes[at..at + instruction.len()].to_vec()
        })
        .collect()
}

/// `jmp target` at `at` in a fragment.
fn jump(at: usize, target: u64) -> Vec<u8> {
    let mut bytes = vec![0xe9];
    bytes.extend((target.wrapping_sub(PLACE + at as u64 + 5) as u32).to_le_bytes());
    bytes
}

/// Whether it is admitted; panics if the second opinion objects.
fn judge(verifier: &mut Verifier, bytes: &[u8]) -> bool {
    let admitted = verifier.admit(PLACE, bytes, &Claims::default()).is_ok();
    if admitted {
        let objection = oracle::objection(&layout(), PLACE, bytes, &|address| verifier.is_boundary(address));
        assert_eq!(objection, None, "{bytes:02x?}");
    }
    verifier.retire(PLACE..PLACE + bytes.len() as u64);
    admitted
}

fn fragment(parts: Vec<Vec<u8>>, target: u64) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.extend(jump(bytes.len(), target));
    bytes
}

fn target() -> impl Strategy<Value = u64> {
    let gates = layout().gates;
    prop::sample::select(vec![gates.link, gates.syscall, OTHER, PLACE])
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::sample::select(PIECES.map(<[u8]>::to_vec).to_vec()),
        1 => prop::sample::select(INSTRUCTIONS.clone()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        judge(&mut verifier(layout()), &bytes);
    }

    #[test]
    fn what_is_admitted_of_random_sequences_stays_inside(
        parts in prop::collection::vec(piece(), 0..8),
        target in target(),
    ) {
        judge(&mut verifier(layout()), &fragment(parts, target));
    }

    #[test]
    fn what_is_admitted_of_mutated_fragments_stays_inside(
        index in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let cases = &*CASES;
        let mut bytes = index.get(cases).clone();
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        judge(&mut verifier(layout()), &bytes);
    }

    #[test]
    fn what_is_admitted_with_one_bit_flipped_stays_inside(
        index in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let cases = &*CASES;
        let mut bytes = index.get(cases).clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        judge(&mut verifier(layout()), &bytes);
    }
}

static CASES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| cases::parse(PASS).into_iter().map(|case| case.bytes).collect());

#[test]
fn the_second_opinion_agrees_with_every_pass_case() {
    let mut verifier = verifier(layout());
    for bytes in &*CASES {
        assert!(judge(&mut verifier, bytes));
    }
}

/// Each of these is refused by the verifier; with the boundaries given, the second opinion refuses them too.
#[test]
fn the_second_opinion_can_object() {
    let objects = |bytes: &[u8], boundaries: &[usize]| {
        let is_boundary = |address: u64| boundaries.iter().any(|&at| PLACE + at as u64 == address);
        oracle::objection(&layout(), PLACE, bytes, &is_boundary).is_some()
    };
    let ended = |bytes: &[u8]| fragment(vec![bytes.to_vec()], layout().gates.link);
    assert!(!objects(&ended(&[0x67, 0x48, 0x89, 0x07]), &[0, 4]), "mov [edi], rax");
    assert!(objects(&ended(&[0x48, 0x89, 0x07]), &[0, 3]), "mov [rdi], rax");
    assert!(objects(&ended(&[0x0f, 0x05]), &[0, 2]), "syscall");
    assert!(objects(&ended(&[0xf3, 0xaa]), &[0, 2]), "rep stosb");
    assert!(!objects(&ended(&[0x8b, 0xff, 0xf3, 0xaa]), &[0, 4]), "mov edi, edi; rep stosb");
    assert!(objects(&ended(&[0x8b, 0xff, 0xf3, 0xaa]), &[0, 2, 4]), "a boundary on rep stosb");
    assert!(objects(&ended(&[0x48, 0x89, 0xc4]), &[0, 3]), "mov rsp, rax");
    assert!(objects(&ended(&[0x48, 0x83, 0xec, 8]), &[0, 4]), "sub rsp, 8");
    assert!(!objects(&ended(&[0x48, 0x83, 0xec, 8, 0x50]), &[0, 5]), "sub rsp, 8; push rax");
    assert!(objects(&[0x41, 0x5b, 0x65, 0x42, 0xff, 0x24, 0xdd, 0, 0, 0, 0], &[0]), "pop r11; dispatch");
    assert!(
        !objects(&[0x45, 0x8b, 0xdb, 0x65, 0x42, 0xff, 0x24, 0xdd, 0, 0, 0, 0], &[0]),
        "mov r11d, r11d; dispatch"
    );
    assert!(objects(&jump(0, layout().gates.syscall), &[0]), "jmp syscall");
    let returns: Vec<u8> = PIECES[24..30].concat();
    let returned = |index: &[u8]| objects(&[index, &returns].concat(), &[0]);
    assert!(!returned(&[0x44, 0x8b, 0xd8]), "mov r11d, eax; return");
    assert!(returned(&[0x4c, 0x8b, 0xd8]), "mov r11, rax; return");
    assert!(objects(&[&[0x44, 0x8b, 0xd8], &returns[..]].concat(), &[0, 3]), "a boundary on the return");
    // (Without `mov r11d, esp` the guest loses its stack, and nothing else.)
    for left_out in [0, 1, 2, 4, 5] {
        let mut pieces = PIECES[24..30].to_vec();
        pieces.remove(left_out);
        assert!(objects(&[&[0x44, 0x8b, 0xd8], &pieces.concat()[..]].concat(), &[0]), "without {left_out}");
    }
    assert!(!objects(&[0xe8, 0xfb, 0xff, 0xff, 0xff], &[0]), "call, to itself");
    assert!(objects(&[0xe8, 0xfc, 0xff, 0xff, 0xff], &[0]), "call, to its second byte");
    assert!(objects(&[0x90], &[0]), "falls off");
}

/// The properties say nothing if next to nothing is admitted.
#[test]
fn many_random_sequences_are_admitted() {
    let mut verifier = verifier(layout());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % bound
    };
    let admitted = (0..2000)
        .filter(|_| {
            let parts = (0..1 + next(4)).map(|_| PIECES[next(PIECES.len())].to_vec()).collect();
            judge(&mut verifier, &fragment(parts, layout().gates.link))
        })
        .count();
    assert!((200..1800).contains(&admitted), "{admitted} of 2000");
}

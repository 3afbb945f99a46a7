//! What is known by its bytes is treated as the decoder's opinion of it would be: all encodings, one by one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::verify::{ContextSlots, Gates};

const ADDRESS: u64 = 0x7f00_0000_1000;

fn layout() -> Layout {
    let start = ADDRESS - 0x1000;
    Layout {
        cache: start..start + 0x10_0000,
        context: ContextSlots {
            spill: -128..-96,
            guest_bases: -96..-80,
            return_target: -80,
            return_stack: -72,
            exit_info: -64,
        },
        gates: Gates { link: start, syscall: start + 16, special: start + 32, miss: start + 48 },
        returns: Returns::Dispatched,
    }
}

/// What a walk knows besides its findings. `before` says nothing without `latest`.
type Knowledge = (Pending, Option<Confined>, Option<Confined>, Option<usize>, bool);

/// Offset of the instruction that is looked at.
const AT: usize = 9;

/// Runs `body` on a walk that has come to [`AT`], knowing what a walk can know there.
fn walked(layout: &Layout, is_in_sequence: bool, body: impl FnOnce(&mut Walk<'_>)) -> (Findings, Knowledge) {
    let mut findings = Findings::default();
    findings.reset(0, 64);
    [0, 3, 6].into_iter().for_each(|at| findings.add(at));
    let confined = |register, at| is_in_sequence.then_some(Confined { register, at });
    let mut walk = Walk {
        layout,
        findings: &mut findings,
        end: 64,
        pending: Pending::Nothing,
        latest: confined(Register::EDI, 6),
        before: confined(Register::ESI, 3),
        index: is_in_sequence.then_some(6),
        ends: true,
    };
    body(&mut walk);
    let before = walk.latest.and(walk.before);
    let knowledge = (walk.pending, walk.latest, before, walk.index, walk.ends);
    (findings, knowledge)
}

/// Compares both ways to look at the instruction that `bytes` begin with. True if it is common.
fn is_treated_alike(layout: &Layout, bytes: &[u8]) -> bool {
    let mut is_common = false;
    for is_in_sequence in [true, false] {
        let mut length = None;
        let by_bytes = walked(layout, is_in_sequence, |walk| length = walk.common(bytes, AT, ADDRESS));
        let Some(length) = length else { continue };
        is_common = true;
        let by_decoder = walked(layout, is_in_sequence, |walk| {
            let mut decoder = Decoder::with_ip(64, bytes, ADDRESS + AT as u64, DecoderOptions::NONE);
            let instruction = decoder.decode();
            assert_eq!(instruction.len(), length, "{bytes:02x?}");
            let bytes = &bytes[..length];
            let prefixes = Prefixes::of(bytes);
            let step = Step { instruction: &instruction, bytes, at: AT, next: AT + length, prefixes };
            assert!(walk.step(&step).is_ok(), "{bytes:02x?} is refused");
        });
        assert_eq!(by_bytes, by_decoder, "{bytes:02x?}");
    }
    is_common
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

#[test]
fn every_common_encoding_is_what_the_decoder_says_it_is() {
    const PREFIXES: [&[u8]; 9] = [
        &[],
        &[0x67],
        &[0x66],
        &[0x67, 0x66],
        &[0x66, 0x67],
        &[0x67, 0xf3],
        &[0xf3],
        &[0x67, 0xf2],
        &[0xf2, 0x67],
    ];
    let layout = layout();
    let common = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for prefixes in PREFIXES {
            let (layout, common) = (&layout, &common);
            scope.spawn(move || {
                for rex in std::iter::once(None).chain((0x40..0x50).map(Some)) {
                    let mut head = prefixes.to_vec();
                    head.extend(rex);
                    common.fetch_add(compare_all(layout, &head), Ordering::Relaxed);
                }
            });
        }
    });
    // Of 20 million. A table that has next to nothing would pass for right.
    let common = common.into_inner();
    assert!(common > 2_000_000, "{common} encodings are common");
}

/// Compares all opcodes behind some prefixes, with all ModRM bytes. Returns how many are common.
fn compare_all(layout: &Layout, head: &[u8]) -> u64 {
    // One that repeats itself, ones that look like displacements, prefixes or branches.
    const REST: [u8; 11] = [0x11, 0x25, 0xe4, 0x67, 0x75, 0x0f, 0x84, 0x12, 0x34, 0x56, 0x78];
    let mut common = 0;
    let opcodes = (0..=255).filter(|&opcode| !is_prefix(opcode) && opcode != 0x0f);
    let opcodes = opcodes.map(|opcode| vec![opcode]).chain((0..=255).map(|opcode| vec![0x0f, opcode]));
    for opcode in opcodes {
        for modrm in 0..=255_u8 {
            // Behind a ModRM byte that asks for one: with and without a base.
            let sibs: &[u8] =
                if modrm < 0xc0 && modrm & 7 == 4 { &[0x00, 0x25, 0xe5, 0x88] } else { &[0x4b] };
            for &sib in sibs {
                let bytes = [head, &opcode, &[modrm, sib], &REST].concat();
                common += u64::from(is_treated_alike(layout, &bytes));
            }
        }
    }
    common
}

#[test]
fn context_slots_and_dispatches_are_what_the_decoder_says_they_are() {
    let layout = layout();
    let mut common = 0;
    for rex in 0x40..0x50_u8 {
        for opcode in [0x89, 0x8a, 0x8b, 0xc7] {
            for modrm in 0..=255_u8 {
                for displacement in [-136_i32, -128, -124, -104, -96, -88, -80, -72, -64, 0] {
                    let mut bytes = vec![0x64, rex, opcode, modrm, 0x25];
                    bytes.extend(displacement.to_le_bytes());
                    bytes.extend([0x90; 6]);
                    common += usize::from(is_treated_alike(&layout, &bytes));
                }
            }
        }
    }
    let mut dispatch = operand::DISPATCH.to_vec();
    dispatch.extend([0x90; 6]);
    assert!(is_treated_alike(&layout, &dispatch));
    assert!(common > 50, "{common} accesses of slots are common");
}

#[test]
fn an_instruction_that_the_fragment_cuts_off_is_not_common() {
    let layout = layout();
    let whole: [&[u8]; 6] = [
        &[0x67, 0x48, 0x8b, 0x84, 0x25, 1, 2, 3, 4],
        &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x75, 0x01],
        &[0x0f, 0x84, 1, 0, 0, 0],
        &[0xe9, 1, 0, 0, 0],
        &[0x67, 0x66, 0x0f, 0x6f, 0x40, 0x10],
    ];
    for bytes in whole {
        assert!(is_treated_alike(&layout, bytes), "{bytes:02x?}");
        for length in 0..bytes.len() {
            let (findings, _) = walked(&layout, true, |walk| {
                assert_eq!(walk.common(&bytes[..length], AT, ADDRESS), None, "{bytes:02x?}");
            });
            assert!(!findings.is_boundary(AT));
        }
    }
}

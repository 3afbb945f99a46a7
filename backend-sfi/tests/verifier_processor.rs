//! Admitted instructions on the processor at hand, each alone and with hostile registers: it is as long as the
//! decoder says, and what it accesses is below 4 GiB. This checks what the verifier takes on trust.

#![cfg(target_arch = "x86_64")]

#[path = "verifier_processor/probe.rs"]
mod probe;

use endo_sfi::returns::Returns;
use endo_sfi::verify::{Claims, ContextSlots, Gates, Layout, Verifier};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};
use probe::{Outcome, Probe, Registers};
use std::collections::{HashMap, HashSet};

const CACHE: u64 = 0x7f00_0000_0000;
const PLACE: u64 = CACHE + 0x2000;
const ATTEMPTS: usize = 2_000_000;
const SAMPLES_PER_ENCODING: usize = 40;

#[test]
fn admitted_instructions_are_as_long_as_decoded_and_access_only_the_window() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    let mut probe = Probe::new();
    let mut tally: HashMap<&str, usize> = HashMap::new();
    for bytes in admitted(&mut random) {
        let registers = hostile(&mut random);
        if let Outcome::Undefined = probe.run(&bytes, &registers) {
            // Not on this processor.
            continue;
        }
        if bytes.len() > 1 {
            let cut = probe.run(&bytes[..bytes.len() - 1], &registers);
            assert_eq!(cut, Outcome::NeedsMoreBytes, "shorter than decoded: {bytes:02x?}");
        }
        let kind = match probe.run(&bytes, &registers) {
            Outcome::Executed => "executed",
            Outcome::Accessed(address) if address < (1 << 32) + 0x1_0000 => "accessed the window",
            // A misaligned operand, most often. The address cannot be non-canonical under the prefix.
            Outcome::Protection => "general protection",
            Outcome::Arithmetic => "arithmetic",
            other => panic!("{other:x?} of {bytes:02x?} with {registers:x?}"),
        };
        *tally.entry(kind).or_default() += 1;
    }
    assert!(tally["executed"] > 1000, "{tally:?}");
    assert!(tally["accessed the window"] > 1000, "{tally:?}");
}

/// The probe can tell: without the prefix the same kind of instruction leaves the window.
#[test]
fn an_unguarded_store_is_seen_outside_the_window() {
    let mut probe = Probe::new();
    let mut registers = Registers { general: [0; 15] };
    registers.general[probe::RDI] = 0x2345_0000_1000;
    assert_eq!(probe.run(&[0x48, 0x89, 0x07], &registers), Outcome::Accessed(0x2345_0000_1000));
    assert_eq!(probe.run(&[0x67, 0x48, 0x89, 0x07], &registers), Outcome::Accessed(0x1000));
    assert_eq!(probe.run(&[0x67, 0x48, 0x89], &registers), Outcome::NeedsMoreBytes);
    assert_eq!(probe.run(&[0x90], &registers), Outcome::Executed);
    assert_eq!(probe.run(&[0x0f, 0x0b], &registers), Outcome::Undefined);
}

/// Distinct instructions that the verifier admits on their own.
fn admitted(random: &mut Random) -> Vec<Vec<u8>> {
    let mut verifier = Verifier::new(Layout {
        cache: CACHE..CACHE + 0x1_0000,
        context: ContextSlots {
            spill: -0x80..-0x40,
            guest_bases: -0x40..-0x30,
            return_target: -0x28,
            return_stack: -0x20,
            exit_info: -0x30,
        },
        gates: Gates { link: CACHE, syscall: CACHE + 0x40, special: CACHE + 0x80, miss: CACHE + 0xc0 },
        returns: Returns::Dispatched,
    });
    let mut samples: HashMap<Code, usize> = HashMap::new();
    let mut seen = HashSet::new();
    for _ in 0..ATTEMPTS {
        let mut bytes = random.instruction();
        let instruction = Decoder::with_ip(64, &bytes, PLACE, DecoderOptions::NONE).decode();
        if instruction.is_invalid() || instruction.flow_control() != FlowControl::Next {
            continue;
        }
        bytes.truncate(instruction.len());
        let taken = samples.entry(instruction.code()).or_default();
        if *taken < SAMPLES_PER_ENCODING && !seen.contains(&bytes) && verifies(&mut verifier, &bytes) {
            *taken += 1;
            seen.insert(bytes);
        }
    }
    seen.into_iter().collect()
}

fn verifies(verifier: &mut Verifier, instruction: &[u8]) -> bool {
    let mut bytes = instruction.to_vec();
    let behind = PLACE + bytes.len() as u64 + 5;
    bytes.push(0xe9);
    bytes.extend((CACHE.wrapping_sub(behind) as u32).to_le_bytes());
    let admitted = verifier.admit(PLACE, &bytes, &Claims::default()).is_ok();
    verifier.retire(PLACE..PLACE + 0x100);
    admitted
}

/// Addresses where nothing is mapped, with all kinds of low halves, and small negative numbers.
fn hostile(random: &mut Random) -> Registers {
    let value = |random: &mut Random| match random.below(8) {
        0 => 0_u64.wrapping_sub(8 * random.below(4096)),
        1..4 => (0x2000 + random.below(0x3000)) << 32 | random.next() & 0xffff_ffc0,
        _ => (0x2000 + random.below(0x3000)) << 32 | random.next() & 0xffff_ffff,
    };
    Registers { general: std::array::from_fn(|_| value(random)) }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// 15 bytes that begin like an instruction: legacy prefixes, then REX, VEX, EVEX or none, then an opcode map.
    fn instruction(&mut self) -> Vec<u8> {
        const PREFIXES: [u8; 11] = [0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x67, 0x67, 0x2e, 0x3e, 0x36, 0x26];
        let mut bytes = Vec::with_capacity(16);
        for _ in 0..self.below(4) {
            bytes.push(PREFIXES[self.below(11) as usize]);
        }
        match self.below(10) {
            0..4 => {}
            4 | 5 => bytes.push(0x40 + self.below(16) as u8),
            6 => bytes.push(0xc5),
            7 => bytes.extend([0xc4, (self.below(8) * 32 + 1 + self.below(7)) as u8]),
            8 => bytes.push(0x62),
            _ => bytes.push(0x0f),
        }
        match self.below(9) {
            0 => bytes.extend([0x0f, 0x38]),
            1 => bytes.extend([0x0f, 0x3a]),
            2 => bytes.push(0x0f),
            _ => {}
        }
        while bytes.len() < 15 {
            bytes.push(self.next() as u8);
        }
        bytes
    }
}

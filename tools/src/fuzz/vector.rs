//! The vector state of a case, in the XSAVE area's standard format (SDM volume 1, 13.4).

use core::arch::x86_64::__cpuid_count;
use core::ops::Range;
use std::sync::OnceLock;

use super::case::{Case, VECTOR_BYTES};
use super::random::Random;

const HEADER: usize = 512;
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
/// AVX and the three components of AVX-512.
const EXTENDED: [u32; 4] = [2, 5, 6, 7];
/// Bits of an MXCSR image.
const MXCSR: Range<usize> = 24..28;
/// The last x87 instruction's opcode and addresses. The instruction's address is that of emitted code under translation;
/// processors differ in when they keep it.
const X87_POINTERS: Range<usize> = 6..24;
/// x87 and SSE registers of the FXSAVE region.
const X87_REGISTERS: Range<usize> = 32..160;
const SSE_REGISTERS: Range<usize> = 160..416;

struct Component {
    bit: u64,
    bytes: Range<usize>,
}

/// The components that this processor has.
fn components() -> &'static [Component] {
    static FOUND: OnceLock<Vec<Component>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let enabled = u64::from(__cpuid_count(0xd, 0).eax);
        let present = EXTENDED.into_iter().filter(|&number| enabled & 1 << number != 0);
        let found = present.map(|number| {
            let leaf = __cpuid_count(0xd, number);
            let start = leaf.ebx as usize;
            Component { bit: 1 << number, bytes: start..start + leaf.eax as usize }
        });
        found.collect()
    })
}

/// Fills an area with the case's vector state.
pub fn fill(area: &mut [u8], case: &Case) {
    area.fill(0);
    let mut random = Random::new(case.vector_seed);
    area[..2].copy_from_slice(&case.x87_control.to_le_bytes());
    area[MXCSR].copy_from_slice(&case.mxcsr.to_le_bytes());
    // An empty x87 stack half of the time, so that pushes do not overflow; never a pending exception.
    let top = random.below(8) as u16;
    area[2..4].copy_from_slice(&(top << 11).to_le_bytes());
    area[4] = if random.chance(50) { 0 } else { random.byte() };
    for register in area[X87_REGISTERS].chunks_exact_mut(16) {
        register[..10].copy_from_slice(&x87_value(&mut random));
    }
    numbers(&mut area[SSE_REGISTERS], &mut random);
    let mut present = X87 | SSE;
    for component in components() {
        numbers(&mut area[component.bytes.clone()], &mut random);
        present |= component.bit;
    }
    if case.index_register < 32 {
        index_register(area, case, &mut random);
    }
    area[HEADER..HEADER + 8].copy_from_slice(&present.to_le_bytes());
}

/// Makes the elements of one register small multiples of four.
fn index_register(area: &mut [u8], case: &Case, random: &mut Random) {
    let mut bytes = Vec::with_capacity(64);
    while bytes.len() < 64 {
        let index = (random.below(64) as i64 - 32) * 4;
        bytes.extend_from_slice(&index.to_le_bytes()[..usize::from(case.index_size)]);
    }
    let number = usize::from(case.index_register);
    for component in components() {
        let start = component.bytes.start;
        match component.bit.trailing_zeros() {
            2 if number < 16 => area[start + number * 16..][..16].copy_from_slice(&bytes[16..32]),
            6 if number < 16 => area[start + number * 32..][..32].copy_from_slice(&bytes[32..]),
            7 if number >= 16 => area[start + (number - 16) * 64..][..64].copy_from_slice(&bytes),
            _ => {}
        }
    }
    if number < 16 {
        area[SSE_REGISTERS][number * 16..][..16].copy_from_slice(&bytes[..16]);
    }
}

fn x87_value(random: &mut Random) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&random.bits().to_le_bytes());
    if random.chance(80) {
        // A normal number of moderate size.
        bytes[7] |= 0x80;
        let exponent = 0x3fff - 40 + random.below(80) as u16;
        bytes[8..].copy_from_slice(&(exponent | (random.byte() as u16 & 0x80) << 8).to_le_bytes());
    } else {
        bytes[8..].copy_from_slice(&(random.bits() as u16).to_le_bytes());
    }
    bytes
}

/// Words of random bits, small numbers, and moderate floating-point numbers.
fn numbers(area: &mut [u8], random: &mut Random) {
    for word in area.chunks_exact_mut(8) {
        let value = match random.below(6) {
            0 => random.below(256),
            1 => (random.below(200) as f64 - 100.0).to_bits(),
            2 => u64::from((random.below(200) as f32 / 7.0).to_bits()) * 0x1_0000_0001,
            3 => 0_u64.wrapping_sub(random.below(256)),
            _ => random.bits(),
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// Copies the vector state in a form of which equal states have one only: absent components as what they stand for,
/// nothing that a translated run cannot know.
pub fn canonical(area: &[u8]) -> [u8; VECTOR_BYTES] {
    let mut out = [0; VECTOR_BYTES];
    let length = area.len().min(VECTOR_BYTES);
    out[..length].copy_from_slice(&area[..length]);
    let present = u64::from_le_bytes(area[HEADER..HEADER + 8].try_into().expect("eight bytes"));
    if present & X87 == 0 {
        out[..24].fill(0);
        out[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        out[X87_REGISTERS].fill(0);
    }
    if present & SSE == 0 {
        out[SSE_REGISTERS].fill(0);
    }
    for component in components().iter().filter(|component| present & component.bit == 0) {
        out[component.bytes.clone()].fill(0);
    }
    out[X87_POINTERS].fill(0);
    for register in out[X87_REGISTERS].chunks_exact_mut(16) {
        register[10..].fill(0);
    }
    // The mask of MXCSR bits, what lies between the registers and the header, and the header.
    out[28..32].fill(0);
    out[SSE_REGISTERS.end..HEADER + 64].fill(0);
    out
}

/// The name of the register that a byte of the canonical form belongs to.
pub fn register_at(offset: usize) -> String {
    let extended = components().iter().find(|component| component.bytes.contains(&offset));
    let inside = |start: usize, size: usize| (offset - start) / size;
    match (offset, extended) {
        (0..2, _) => "x87 control".to_owned(),
        (2..4, _) => "x87 status".to_owned(),
        (4..6, _) => "x87 tags".to_owned(),
        (24..28, _) => "mxcsr".to_owned(),
        (32..160, _) => format!("st{}", inside(32, 16)),
        (160..416, _) => format!("xmm{}", inside(160, 16)),
        (_, Some(component)) => {
            let start = component.bytes.start;
            match component.bit.trailing_zeros() {
                2 => format!("ymm{} upper half", inside(start, 16)),
                5 => format!("k{}", inside(start, 8)),
                6 => format!("zmm{} upper half", inside(start, 32)),
                _ => format!("zmm{}", 16 + inside(start, 64)),
            }
        }
        _ => format!("byte {offset} of the vector state"),
    }
}

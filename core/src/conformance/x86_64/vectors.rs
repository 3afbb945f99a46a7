//! Vector and floating-point state on the way in and out.
//!
//! The areas are in the standard XSAVE format (SDM volume 1, 13.4): x87 and SSE at fixed places, the others where
//! CPUID(0xD, i) says.

use core::arch::x86_64::__cpuid_count;

use super::snippet::{Snippet, snippet};
use crate::conformance::Finding;
use crate::conformance::fixture::{CODE, DATA, Fixture, expect_equal, state_at};
use crate::{FaultKind, IsolationBackend, VectorState};

/// Components of an XSAVE area, numbered as in XCR0.
const X87: u32 = 0;
const SSE: u32 = 1;
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const ZMM_HIGH: u32 = 6;
const ZMM_16_TO_31: u32 = 7;

const XSTATE_BV: usize = 512;
const MXCSR: usize = 24;

/// Where guests dump what they got, and find what they are to leave with.
const DUMP: u64 = DATA + 0x1000;
const NEW: u64 = DATA + 0x2000;

/// A slice of a register file: `count` registers of `length` bytes each at `stride` in the area.
struct Slice {
    component: u32,
    start: usize,
    stride: usize,
    length: usize,
    /// Where the slice lies within each full register of the guest's dump.
    within: usize,
    first: usize,
    count: usize,
}

pub(in super::super) fn every_sse_register_survives_a_round_trip<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(sse:
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "movups [0x20001000 + \\n * 64], xmm\\n", ".endr",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "movups xmm\\n, [0x20002000 + \\n * 64]", ".endr" ;
        "ud2");
    round_trip(fixture, code, &[sse_slice()])
}

pub(in super::super) fn every_avx_register_survives_a_round_trip<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    if !is_x86_feature_detected!("avx") {
        return Ok(());
    }
    let code = snippet!(avx:
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "vmovups [0x20001000 + \\n * 64], ymm\\n", ".endr",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "vmovups ymm\\n, [0x20002000 + \\n * 64]", ".endr" ;
        "ud2");
    round_trip(fixture, code, &[sse_slice(), avx_slice()])
}

pub(in super::super) fn every_avx512_register_survives_a_round_trip<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    if !is_x86_feature_detected!("avx512bw") {
        return Ok(());
    }
    let code = snippet!(avx512:
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovups [0x20001000 + \\n * 64], zmm\\n", ".endr",
        ".irp n, 0,1,2,3,4,5,6,7", "kmovq [0x20001000 + 32 * 64 + \\n * 64], k\\n", ".endr",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovups zmm\\n, [0x20002000 + \\n * 64]", ".endr",
        ".irp n, 0,1,2,3,4,5,6,7", "kmovq k\\n, [0x20002000 + 32 * 64 + \\n * 64]", ".endr" ;
        "ud2");
    let component = |component, stride, within, first, count| Slice {
        component,
        start: offset_of(component),
        stride,
        length: stride,
        within,
        first,
        count,
    };
    let slices = [
        sse_slice(),
        avx_slice(),
        component(OPMASK, 8, 0, 32, 8),
        component(ZMM_HIGH, 32, 32, 0, 16),
        component(ZMM_16_TO_31, 64, 0, 16, 16),
    ];
    round_trip(fixture, code, &slices)
}

pub(in super::super) fn x87_registers_and_control_words_survive_a_round_trip<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let code = snippet!(x87:
        "fnstcw [0x20001000]", "stmxcsr [0x20001008]", "fstp qword ptr [0x20001010]", "fldcw [0x20002000]",
        "ldmxcsr [0x20002008]", "fld1", "fldpi" ;
        "ud2");
    fixture.map_code(CODE, code.bytes)?;
    const CONTROL: u16 = 0x0b7f;
    const ROUND_UP: u32 = 0x1f80 | 2 << 13;
    // 1.5 in the x87's 80 bits, as st(0); its tag is valid, and the stack's top is register 7.
    let one_and_a_half = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0x3f];
    fixture.store(NEW, &0x037f_u16.to_le_bytes())?;
    fixture.store(NEW + 8, &0x1f80_u32.to_le_bytes())?;
    let mut state = state_at(CODE);
    put(&mut state.vector, 0, &CONTROL.to_le_bytes());
    put(&mut state.vector, 2, &(7_u16 << 11).to_le_bytes());
    put(&mut state.vector, 4, &[0x80]);
    put(&mut state.vector, 32, &one_and_a_half);
    put(&mut state.vector, MXCSR, &ROUND_UP.to_le_bytes());
    mark_present(&mut state.vector, &[X87, SSE]);
    let mut guest = fixture.thread(state)?;
    let end = CODE + code.here;
    guest.run_to(FaultKind::IllegalInstruction, end, end)?;
    expect_equal("control word in", fixture.word(DUMP)? as u16, CONTROL)?;
    expect_equal("MXCSR in", fixture.word(DUMP + 8)? as u32, ROUND_UP)?;
    expect_equal("st(0) in", f64::from_bits(fixture.word(DUMP + 16)?), 1.5)?;
    let area = guest.state().vector.bytes();
    expect_equal("control word out", &area[..2], &0x037f_u16.to_le_bytes())?;
    expect_equal("MXCSR out", &area[MXCSR..MXCSR + 4], &0x1f80_u32.to_le_bytes())?;
    expect_equal("tags out", area[4], 0xc0)?;
    let pi = [0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40];
    expect_equal("st(0) out", &area[32..42], &pi)
}

/// Puts a pattern into every register of the slices, lets the guest dump them and load another, and compares both.
fn round_trip<B: IsolationBackend>(fixture: &Fixture<B>, code: Snippet, slices: &[Slice]) -> Finding {
    fixture.map_code(CODE, code.bytes)?;
    let mut state = state_at(CODE);
    for slice in slices {
        for_each(slice, |register, range| {
            put(&mut state.vector, range.start, &pattern(1, register, slice.within, slice.length));
        });
    }
    mark_present(&mut state.vector, &slices.iter().map(|slice| slice.component).collect::<Vec<_>>());
    for register in 0..40 {
        fixture.store(NEW + 64 * register as u64, &pattern(2, register, 0, 64))?;
    }
    let mut guest = fixture.thread(state)?;
    let end = CODE + code.here;
    guest.run_to(FaultKind::IllegalInstruction, end, end)?;
    for slice in slices {
        let mut finding = Ok(());
        for_each(slice, |register, range| {
            let out = guest.state().vector.bytes()[range].to_vec();
            let got = dumped(fixture, register, slice).and_then(|dump| {
                let wanted = pattern(1, register, slice.within, slice.length);
                expect_equal(&format!("register {register} in, component {}", slice.component), dump, wanted)
            });
            let left = expect_equal(
                &format!("register {register} out, component {}", slice.component),
                out,
                pattern(2, register, slice.within, slice.length),
            );
            finding = finding.clone().and(got).and(left);
        });
        finding?;
    }
    Ok(())
}

/// What the guest stored of a register's slice.
fn dumped<B: IsolationBackend>(
    fixture: &Fixture<B>,
    register: usize,
    slice: &Slice,
) -> Result<Vec<u8>, String> {
    let words = fixture.words::<8>(DUMP + 64 * register as u64)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(bytes[slice.within..slice.within + slice.length].to_vec())
}

fn for_each(slice: &Slice, mut see: impl FnMut(usize, std::ops::Range<usize>)) {
    for index in 0..slice.count {
        let start = slice.start + index * slice.stride;
        see(slice.first + index, start..start + slice.length);
    }
}

/// Bytes that differ by seed, register and position.
fn pattern(seed: u8, register: usize, within: usize, length: usize) -> Vec<u8> {
    (within..within + length)
        .map(|byte| (byte as u8).wrapping_mul(3) ^ (register as u8).wrapping_mul(7) ^ seed << 7 ^ seed)
        .collect()
}

const fn sse_slice() -> Slice {
    Slice { component: SSE, start: 160, stride: 16, length: 16, within: 0, first: 0, count: 16 }
}

fn avx_slice() -> Slice {
    Slice { component: AVX, start: offset_of(AVX), stride: 16, length: 16, within: 16, first: 0, count: 16 }
}

fn offset_of(component: u32) -> usize {
    __cpuid_count(0xd, component).ebx as usize
}

fn put(vector: &mut VectorState, at: usize, bytes: &[u8]) {
    vector.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
}

fn mark_present(vector: &mut VectorState, components: &[u32]) {
    let present = components.iter().fold(0_u64, |all, component| all | 1 << component);
    put(vector, XSTATE_BV, &present.to_le_bytes());
}

//! Measures the verifier on a stream of fragments as a translator emits them.
//!
//! ```text
//! cargo run --release -p endo-sfi --example verifier_throughput
//! ```

use endo_sfi::verify::{Claims, ContextSlots, Gates, Layout, Verifier};
use iced_x86::{Decoder, DecoderOptions};
use std::time::Instant;

const CACHE: u64 = 0x7f00_0000_0000;
const CACHE_SIZE: u64 = 64 << 20;
const HEADER: u64 = 0x1000;
const ROUNDS: usize = 20;

/// A function's entry, a loop over memory with vector and string instructions, a call and a return.
const FRAGMENT: &[u8] = &[
    0x64, 0x48, 0x8b, 0x0c, 0x25, 0x80, 0xff, 0xff, 0xff, // mov rcx, fs:[spill]
    0x55, // push rbp
    0x48, 0x89, 0xe5, // mov rbp, rsp
    0x41, 0x57, // push r15
    0x53, // push rbx
    0x83, 0xec, 0x28, // sub esp, 40
    0x48, 0x89, 0xfb, // mov rbx, rdi
    0x31, 0xc0, // xor eax, eax
    0x67, 0x48, 0x8b, 0x54, 0xc3, 0x10, // mov rdx, [ebx+eax*8+16]
    0x48, 0x85, 0xd2, // test rdx, rdx
    0x74, 0x2c, // je (the stores below)
    0x67, 0x0f, 0x10, 0x02, // movups xmm0, [edx]
    0x66, 0x0f, 0xef, 0xc1, // pxor xmm0, xmm1
    0x67, 0x0f, 0x11, 0x44, 0x24, 0x10, // movups [esp+16], xmm0
    0x67, 0x0f, 0xb6, 0x4a, 0x01, // movzx ecx, byte ptr [edx+1]
    0x48, 0x8d, 0x7c, 0x88, 0x08, // lea rdi, [rax+rcx*4+8]
    0x67, 0x44, 0x01, 0x7b, 0x08, // add [ebx+8], r15d
    0x48, 0xff, 0xc0, // inc rax
    0x48, 0x39, 0xf0, // cmp rax, rsi
    0x72, 0xd0, // jb (the load above)
    0xc1, 0xe1, 0x03, // shl ecx, 3
    0x48, 0x0f, 0x44, 0xc7, // cmove rax, rdi
    0x4c, 0x8b, 0xc0, // mov r8, rax
    0x67, 0x4c, 0x89, 0x03, // mov [ebx], r8
    0x90, // nop
    0x67, 0x48, 0xc7, 0x43, 0x08, 1, 0, 0, 0, // mov qword ptr [ebx+8], 1
    0x8b, 0xff, // mov edi, edi
    0xf3, 0x48, 0xab, // rep stosq
    0x83, 0xc4, 0x28, // add esp, 40
    0x5b, // pop rbx
    0x41, 0x5f, // pop r15
    0x5d, // pop rbp
    0x64, 0x48, 0x89, 0x0c, 0x25, 0x80, 0xff, 0xff, 0xff, // mov fs:[spill], rcx
    0x59, // pop rcx
    0x8b, 0xc9, // mov ecx, ecx
    0x65, 0xff, 0x24, 0xcd, 0, 0, 0, 0, // jmp gs:[rcx*8]
];

fn main() {
    let instructions = Decoder::with_ip(64, FRAGMENT, 0, DecoderOptions::NONE).iter().count();
    let step = (FRAGMENT.len() as u64).next_multiple_of(16);
    let addresses = || (CACHE + HEADER..CACHE + CACHE_SIZE - step).step_by(step as usize).take(20_000);
    let total = (addresses().count() * instructions) as f64;
    let mut verifier = Verifier::new(Layout {
        cache: CACHE..CACHE + CACHE_SIZE,
        context: ContextSlots { spill: -0x80..-0x40, guest_bases: -0x40..-0x30, exit_info: -0x30 },
        gates: Gates { link: CACHE, syscall: CACHE + 0x40, special: CACHE + 0x80, miss: CACHE + 0xc0 },
        protection_keys: false,
    });
    let claims = Claims { indirect_entries: &[0] };
    let rounds = |verifier: &mut Verifier| {
        let start = Instant::now();
        for address in addresses() {
            verifier.admit(address, FRAGMENT, &claims).expect("a good fragment");
        }
        let elapsed = start.elapsed();
        verifier.retire(CACHE..CACHE + CACHE_SIZE);
        elapsed.as_secs_f64() * 1e9 / total
    };
    let first = rounds(&mut verifier);
    let best = (0..ROUNDS).map(|_| rounds(&mut verifier)).fold(f64::INFINITY, f64::min);
    let decode = (0..ROUNDS).map(|_| decode_only(total)).fold(f64::INFINITY, f64::min);
    println!("fragment: {} bytes, {instructions} instructions", FRAGMENT.len());
    println!("decode only        {decode:6.1} ns/instruction");
    println!("verify, fresh      {first:6.1} ns/instruction (page faults of the marks included)");
    println!("verify, steady     {best:6.1} ns/instruction");
    let rate = FRAGMENT.len() as f64 / (best * instructions as f64) * 1e3;
    println!("                   {rate:6.1} MB/s of emitted code");
}

/// What the decoder alone takes.
fn decode_only(total: f64) -> f64 {
    let start = Instant::now();
    let mut count = 0.0;
    while count < total {
        let mut decoder = Decoder::with_ip(64, FRAGMENT, CACHE, DecoderOptions::NONE);
        let mut instruction = iced_x86::Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            count += 1.0;
            std::hint::black_box(&instruction);
        }
    }
    start.elapsed().as_secs_f64() * 1e9 / count
}

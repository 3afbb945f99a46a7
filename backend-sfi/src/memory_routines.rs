//! Memory routines that use no more than SSE2.
//!
//! A light gate saves only the low halves of sixteen vector registers. glibc's `memcpy` and its kin use AVX-512 where they
//! can and would destroy the rest, which the guest still holds. These definitions take their place in every program that
//! links this crate; [`crate::heap`] takes the place of glibc's allocator. None of them is meant to be faster than the originals.

use core::arch::global_asm;

global_asm!(
    // void *memcpy(void *rdi, const void *rsi, size_t rdx)
    ".globl memcpy",
    ".type memcpy, @function",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "cmp rdx, 16",
    "ja 2f",
    "cmp rdx, 8",
    "jae 8f",
    "cmp rdx, 4",
    "jae 4f",
    "test rdx, rdx",
    "jz 9f",
    "shr rcx",
    "movzx r8d, byte ptr [rsi]",
    "movzx r9d, byte ptr [rsi + rcx]",
    "movzx r10d, byte ptr [rsi + rdx - 1]",
    "mov byte ptr [rdi], r8b",
    "mov byte ptr [rdi + rcx], r9b",
    "mov byte ptr [rdi + rdx - 1], r10b",
    "ret",
    "4: mov r8d, dword ptr [rsi]",
    "mov r9d, dword ptr [rsi + rdx - 4]",
    "mov dword ptr [rdi], r8d",
    "mov dword ptr [rdi + rdx - 4], r9d",
    "ret",
    "8: mov r8, qword ptr [rsi]",
    "mov r9, qword ptr [rsi + rdx - 8]",
    "mov qword ptr [rdi], r8",
    "mov qword ptr [rdi + rdx - 8], r9",
    "9: ret",
    "2: rep movsb",
    "ret",
    ".size memcpy, . - memcpy",
    // void *memmove(void *rdi, const void *rsi, size_t rdx): forwards unless the destination overlaps from above.
    ".globl memmove",
    ".type memmove, @function",
    "memmove:",
    "mov rax, rdi",
    "sub rax, rsi",
    "cmp rax, rdx",
    "jae memcpy",
    "mov rax, rdi",
    "3: cmp rdx, 8",
    "jb 4f",
    "mov rcx, qword ptr [rsi + rdx - 8]",
    "mov qword ptr [rdi + rdx - 8], rcx",
    "sub rdx, 8",
    "jmp 3b",
    "4: test rdx, rdx",
    "jz 5f",
    "movzx ecx, byte ptr [rsi + rdx - 1]",
    "mov byte ptr [rdi + rdx - 1], cl",
    "dec rdx",
    "jmp 4b",
    "5: ret",
    ".size memmove, . - memmove",
    // void *memset(void *rdi, int esi, size_t rdx)
    ".globl memset",
    ".type memset, @function",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".size memset, . - memset",
    // int memcmp(const void *rdi, const void *rsi, size_t rdx), and bcmp
    ".globl memcmp",
    ".type memcmp, @function",
    ".globl bcmp",
    ".type bcmp, @function",
    "memcmp:",
    "bcmp:",
    "cmp rdx, 8",
    "jb 4f",
    "mov rax, qword ptr [rdi]",
    "mov rcx, qword ptr [rsi]",
    "cmp rax, rcx",
    "jne 3f",
    "add rdi, 8",
    "add rsi, 8",
    "sub rdx, 8",
    "jmp memcmp",
    "3: bswap rax",
    "bswap rcx",
    "cmp rax, rcx",
    "sbb eax, eax",
    "or eax, 1",
    "ret",
    "4: test rdx, rdx",
    "jz 5f",
    "movzx eax, byte ptr [rdi]",
    "movzx ecx, byte ptr [rsi]",
    "sub eax, ecx",
    "jne 6f",
    "inc rdi",
    "inc rsi",
    "dec rdx",
    "jmp 4b",
    "5: xor eax, eax",
    "6: ret",
    ".size memcmp, . - memcmp",
    ".size bcmp, . - bcmp",
    // size_t strlen(const char *rdi)
    ".globl strlen",
    ".type strlen, @function",
    "strlen:",
    "xor eax, eax",
    "2: cmp byte ptr [rdi + rax], 0",
    "je 3f",
    "inc rax",
    "jmp 2b",
    "3: ret",
    ".size strlen, . - strlen",
);

#[cfg(test)]
mod tests {
    use core::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
        fn memcmp(left: *const c_void, right: *const c_void, length: usize) -> c_int;
    }

    #[test]
    fn moves_of_every_length_and_overlap_match_a_byte_loop() {
        for length in 0..80usize {
            for (from, to) in [(0, 100), (50, 40), (40, 50), (40, 41), (41, 40), (30, 30)] {
                let mut moved: Vec<u8> = (0..200u8).collect();
                let mut expected = moved.clone();
                let source = expected[from..from + length].to_vec();
                expected[to..to + length].copy_from_slice(&source);
                let base = moved.as_mut_ptr();
                let (to, from) = (base.wrapping_add(to), base.wrapping_add(from));
                // SAFETY: both ranges lie in the vector.
                unsafe { memmove(to.cast(), from.cast(), length) };
                assert_eq!(moved, expected, "{length} bytes");
            }
        }
    }

    #[test]
    fn comparison_orders_like_unsigned_bytes() {
        let order = |left: &[u8], right: &[u8]| {
            // SAFETY: both have the length of the shorter one.
            unsafe { memcmp(left.as_ptr().cast(), right.as_ptr().cast(), left.len().min(right.len())) }
                .signum()
        };
        assert_eq!(order(b"abcdefghi", b"abcdefghi"), 0);
        assert_eq!(order(b"abcdefgh\xff", b"abcdefgh\x01"), 1);
        assert_eq!(order(b"\x01bcdefgh", b"\xf0bcdefgh"), -1);
        assert_eq!(order(b"", b"x"), 0);
    }
}

/* Memory operands of every form: base, index, scale, displacement, absolute, relative to rip, negative and wrapping ones,
 * overrides of segment and address size; atomic and other instructions that read and write. */
#include "snippets.h"
START
    .irp base, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r12, r13, r15
    SNIPPET "base \base"
    lea \base, [target + 600]
    mov qword ptr [\base], rsp
    mov word ptr [\base + 0x10], 0x1234
    add dword ptr [\base - 0x20], 77
    mov r14, qword ptr [\base + 0x200]
    lea r14, [\base + \base * 2 + 5]
    END
    SNIPPET "index \base"
    mov \base, 9
    mov r10, qword ptr [source + \base * 8]
    mov r11d, dword ptr [source + \base * 4 + 3]
    movzx r14, byte ptr [rsp + \base * 2]
    mov byte ptr [rsp + \base - 40], 0x77
    END
    .endr
    SNIPPET "absolute addresses"
    mov rcx, qword ptr ds:[source + 8]
    mov dword ptr ds:[target + 8], ecx
    movabs rax, qword ptr [source + 16]
    movabs qword ptr [target + 16], rax
    movabs eax, dword ptr [source + 24]
    movabs dword ptr [target + 32], eax
    movabs ax, word ptr [source + 40]
    movabs word ptr [target + 40], ax
    movabs al, byte ptr [source + 48]
    movabs byte ptr [target + 48], al
    END
    SNIPPET "absolute 32-bit addresses"
    .byte 0x67, 0xa1
    .long source + 72
    .byte 0x67, 0x48, 0xa3
    .long target + 72
    END
    SNIPPET "relative to rip"
    mov rax, qword ptr [rip + source + 8]
    add qword ptr [rip + target + 8], rax
    mov word ptr [rip + target + 80], 0x5678
    cmp dword ptr [rip + source + 12], 0x12345678
    imul ecx, dword ptr [rip + source + 20], 1000
    lea rdx, [rip + source]
    lea ebx, [rip + source]
    test byte ptr [rip + source + 30], 0x55
    shld qword ptr [rip + target + 100], rcx, 7
    movups xmm2, xmmword ptr [rip + source + 1]
    pinsrw xmm3, word ptr [rip + source + 5], 3
    END
    SNIPPET "negative displacements and indices"
    mov rax, -5
    mov ecx, dword ptr [rsi + rax]
    mov edx, dword ptr [rsi + rax * 8 - 64]
    lea rbx, [rsi + 0x70000000]
    mov r8, qword ptr [rbx - 0x70000000 + 8]
    movabs r9, offset source + 0x7fffffff
    mov r11, qword ptr [r9 - 0x7fffffff]
    mov rbp, -0x7fffffff
    mov r13, qword ptr [r9 + rbp]
    mov r10, -8
    mov r12, qword ptr [source + 64 + r10 * 8]
    mov r14, qword ptr [source + 64 + r10]
    mov r15, -0x10000000
    mov r15, qword ptr [r15 + source + 0x10000000]
    END
    SNIPPET "addresses of 32 bits"
    mov rax, 0xff00000000
    or rax, rsi
    mov ecx, dword ptr [eax + 8]
    mov edx, 2
    mov rbx, qword ptr [eax + edx * 8]
    mov r8d, dword ptr [esp + 8]
    mov r9, qword ptr [eip + source + 16]
    lea r10d, [eax + edx]
    lea r11, [eax + 0x7fffffff]
    lea r12, [eax - 1]
    END
    SNIPPET "overrides of segments that do nothing"
    .byte 0x2e
    mov rax, qword ptr [rsi]
    .byte 0x36
    mov rcx, qword ptr [rsi + 8]
    .byte 0x3e
    mov rdx, qword ptr [rsp + 8]
    .byte 0x26
    mov qword ptr [rdi], rdx
    .byte 0x26, 0x3e, 0x2e
    mov rbx, qword ptr [rsi]
    END
    SNIPPET "superfluous and repeated prefixes"
    .byte 0x66, 0x66, 0x90
    .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
    .byte 0x48, 0x4d, 0x89, 0xc8
    .byte 0x66, 0x48, 0x89, 0xf1
    .byte 0xf2, 0x48, 0x89, 0xf2
    .byte 0x40, 0x88, 0xe3
    .byte 0x48, 0x66, 0x89, 0xf5
    .byte 0xf3, 0x90
    .byte 0x67, 0x90
    .byte 0x67, 0x48, 0x89, 0xf0
    .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
    END
    SNIPPET "an instruction of 15 bytes with a memory operand"
    xor ecx, ecx
    .byte 0x2e, 0x2e
    lock add qword ptr [rsi + rcx + 0x100], 0x12345678
    END
    SNIPPET "15 bytes that are one instruction"
    xor ecx, ecx
    .byte 0x66, 0x2e, 0x3e
    .byte 0x66, 0x81, 0x84, 0x8e, 0x80, 0, 0, 0, 0x34, 0x12
    .byte 0x3e, 0x3e, 0x3e
    .byte 0x48, 0x81, 0x84, 0x8e, 0x88, 0, 0, 0, 0x78, 0x56, 0x34, 0x12
    END
    SNIPPET "16 bytes that are none"
    .byte 0x3e, 0x3e, 0x3e, 0x3e
    .byte 0x48, 0x81, 0x84, 0x8e, 0x88, 0, 0, 0, 0x78, 0x56, 0x34, 0x12
    END
    SNIPPET "lock on what cannot be locked"
    .byte 0xf0
    mov eax, dword ptr [rsi]
    END
    SNIPPET "lock on a register"
    .byte 0xf0
    add rax, rcx
    END
    SNIPPET "atomic instructions"
    lock add qword ptr [rdi], rax
    lock sub dword ptr [rdi + 8], ecx
    lock inc byte ptr [rdi + 16]
    lock dec word ptr [rdi + 18]
    lock neg qword ptr [rdi + 24]
    lock not qword ptr [rdi + 32]
    lock and qword ptr [rdi + 40], 0x0f
    lock or dword ptr [rdi + 48], 0x10101010
    lock xor qword ptr [rdi + 56], rdx
    lock adc qword ptr [rdi + 64], 1
    lock sbb qword ptr [rdi + 72], rbx
    lock xadd qword ptr [rdi + 80], r8
    lock xadd byte ptr [rdi + 88], ah
    xchg qword ptr [rdi + 96], r9
    xchg byte ptr [rdi + 104], bl
    mov rax, qword ptr [rdi + 112]
    lock cmpxchg qword ptr [rdi + 112], r10
    lock cmpxchg dword ptr [rdi + 120], r11d
    END
    SNIPPET "cmpxchg16b and cmpxchg8b"
    mov rax, qword ptr [rdi]
    mov rdx, qword ptr [rdi + 8]
    lock cmpxchg16b xmmword ptr [rdi]
    cmpxchg16b xmmword ptr [rdi + 16]
    lock cmpxchg8b qword ptr [rdi + 32]
    cmpxchg8b qword ptr [rdi + 32]
    END
    SNIPPET "cmpxchg16b that is not aligned"
    lock cmpxchg16b xmmword ptr [rdi + 8]
    END
    SNIPPET "reads and writes of every size"
    mov al, byte ptr [rsi]
    mov ch, byte ptr [rsi + 1]
    mov dx, word ptr [rsi + 2]
    mov ebx, dword ptr [rsi + 4]
    movsx r8, byte ptr [rsi + 8]
    movsx r9d, word ptr [rsi + 10]
    movsxd r10, dword ptr [rsi + 12]
    movzx r11, word ptr [rsi + 16]
    movnti qword ptr [rdi], rax
    mov byte ptr [rdi + 8], ah
    mov dword ptr [rdi + 12], -1
    mov qword ptr [rdi + 16], -2
    not byte ptr [rdi + 24]
    neg word ptr [rdi + 26]
    rol qword ptr [rdi + 32], 13
    rcr dword ptr [rdi + 40], cl
    shl byte ptr [rdi + 44], 1
    sar word ptr [rdi + 46], 3
    shrd qword ptr [rdi + 48], rax, cl
    mul qword ptr [rsi + 64]
    imul qword ptr [rsi + 72]
    imul r12, qword ptr [rsi + 80], -7
    xor edx, edx
    div dword ptr [rsi + 88]
    xor edx, edx
    idiv qword ptr [rsi + 96]
    END
    SNIPPET "hints"
    prefetcht0 byte ptr [rsi]
    prefetchnta byte ptr [nowhere]
    prefetchw byte ptr [nowhere + 64]
    clflush byte ptr [rsi]
    clflushopt byte ptr [rsi]
    clwb byte ptr [rsi]
    nop dword ptr [nowhere]
    .byte 0xf3, 0x0f, 0x1e, 0xfa
    pause
    lfence
    sfence
    mfence
    END
    SNIPPET "flags of everything", 0x8d7
    .irp op, add, adc, sub, sbb, cmp, and, or, xor, test
    \op rax, rcx
    pushfq
    \op dl, bl
    pushfq
    \op qword ptr [rdi], r8
    pushfq
    .endr
    .irp op, inc, dec, neg, not
    \op r9
    pushfq
    \op word ptr [rdi]
    pushfq
    .endr
    .irp op, shl, shr, sar, rol, ror, rcl, rcr
    \op r10, 1
    pushfq
    \op r11d, cl
    pushfq
    \op byte ptr [rdi + 9], 3
    pushfq
    .endr
    cmc
    pushfq
    lahf
    push rax
    sahf
    pushfq
    mov cl, 0
    shl rax, cl
    pushfq
    END
    SNIPPET "conversions of registers"
    cbw
    cwde
    cdqe
    cqo
    xchg rax, rcx
    xchg eax, edx
    xchg ax, bx
    .byte 0x90
    xchg r8, rax
    mov r9b, r10b
    mov ah, ch
    movzx ebp, ah
    movabs r12, 0x123456789abcdef0
    mov r13d, -1
    mov r14, -1
    END
    SNIPPET "salc, aaa and other things that are gone"
    .byte 0x37
    END
    SNIPPET "push es"
    .byte 0x06
    END
    SNIPPET "an undefined opcode"
    .byte 0x0f, 0xff, 0xc0
    END
    SNIPPET "lea of a register"
    .byte 0x8d, 0xc0
    END
FINISH

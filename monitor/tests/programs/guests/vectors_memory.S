/* SSE, AVX and MMX with memory operands: aligned and not, masked, broadcast, streaming, conversions, state. */
#include "snippets.h"
START
    SNIPPET "sse moves"
    movups xmm0, xmmword ptr [rsi + 1]
    movaps xmm1, xmmword ptr [rsi]
    movdqu xmm2, xmmword ptr [rsi + 3]
    movdqa xmmword ptr [rdi], xmm3
    movlps xmm4, qword ptr [rsi + 5]
    movhps xmm5, qword ptr [rsi + 7]
    movss xmm6, dword ptr [rsi + 9]
    movsd xmm7, qword ptr [rsi + 11]
    movq xmm8, qword ptr [rsi]
    movd xmm9, dword ptr [rsi]
    movhpd qword ptr [rdi + 24], xmm10
    movntps xmmword ptr [rdi + 32], xmm11
    movntdq xmmword ptr [rdi + 48], xmm12
    movntdqa xmm13, xmmword ptr [rsi + 32]
    lddqu xmm14, xmmword ptr [rsi + 17]
    movddup xmm15, qword ptr [rsi + 8]
    END
    SNIPPET "sse arithmetic"
    movaps xmm0, xmmword ptr [rsi]
    addps xmm0, xmmword ptr [rsi + 16]
    mulpd xmm1, xmmword ptr [rsi + 32]
    paddd xmm2, xmmword ptr [rsi + 48]
    pshufb xmm3, xmmword ptr [rsi + 64]
    pcmpeqb xmm4, xmmword ptr [rsi + 80]
    pmovmskb eax, xmm4
    cvtsi2sd xmm5, qword ptr [rsi + 96]
    cvttsd2si rcx, qword ptr [rsi + 104]
    ucomisd xmm5, qword ptr [rsi + 112]
    pextrw edx, xmm6, 3
    pextrq qword ptr [rdi], xmm7, 1
    pextrb byte ptr [rdi + 8], xmm7, 5
    extractps dword ptr [rdi + 12], xmm8, 2
    insertps xmm9, dword ptr [rsi], 0x10
    pinsrq xmm10, qword ptr [rsi], 1
    dpps xmm11, xmmword ptr [rsi], 0xff
    aesenc xmm12, xmmword ptr [rsi]
    pclmulqdq xmm13, xmmword ptr [rsi], 0x11
    roundsd xmm14, qword ptr [rsi + 8], 3
    pcmpistri xmm15, xmmword ptr [rsi], 0x0c
    END
    SNIPPET "masked moves to rdi"
    pcmpeqb xmm1, xmm1
    psrldq xmm1, 5
    maskmovdqu xmm0, xmm1
    movq mm0, qword ptr [rsi]
    movq mm1, qword ptr [rsi + 8]
    add rdi, 64
    maskmovq mm0, mm1
    emms
    END
    SNIPPET "masked move with a 32-bit address"
    mov rax, 0x500000000
    add rdi, rax
    pcmpeqb xmm1, xmm1
    addr32 maskmovdqu xmm0, xmm1
    END
    SNIPPET "an aligned move that is not"
    movaps xmm0, xmmword ptr [rsi + 8]
    END
    SNIPPET "avx"
    vmovups ymm0, ymmword ptr [rsi + 1]
    vaddps ymm1, ymm0, ymmword ptr [rsi + 33]
    vbroadcastss ymm2, dword ptr [rsi]
    vbroadcastsd ymm3, qword ptr [rsi]
    vbroadcastf128 ymm4, xmmword ptr [rsi]
    vinsertf128 ymm5, ymm4, xmmword ptr [rsi + 16], 1
    vextractf128 xmmword ptr [rdi], ymm0, 1
    vmaskmovps ymm6, ymm0, ymmword ptr [rsi + 64]
    vmaskmovpd ymmword ptr [rdi + 64], ymm0, ymm6
    vpmaskmovd ymmword ptr [rdi + 96], ymm0, ymm1
    vperm2f128 ymm7, ymm0, ymmword ptr [rsi], 0x31
    vpsrlvq ymm8, ymm0, ymmword ptr [rsi]
    vfmadd213pd ymm9, ymm0, ymmword ptr [rsi]
    vcvtph2ps ymm10, xmmword ptr [rsi]
    vcvtps2ph xmmword ptr [rdi + 128], ymm10, 0
    vmovntps ymmword ptr [rdi + 0x100], ymm9
    vpmovzxbd ymm11, qword ptr [rsi]
    mov r12d, 3
    vmovdqu xmm12, xmmword ptr [r12 * 8 + source]
    END
    SNIPPET "avx with extended registers"
    mov r12, rsi
    mov r13, rdi
    mov r8d, 4
    vmovdqu ymm15, ymmword ptr [r12 + r8 * 8]
    vpaddq ymm14, ymm15, ymmword ptr [r12 + r8 * 4 + 0x40]
    vmovdqu ymmword ptr [r13 + r8 * 2 - 0x20], ymm14
    vmovdqu ymm13, ymmword ptr [rip + source + 9]
    vmovdqu ymmword ptr [rsp - 0x100], ymm13
    vpxor xmm12, xmm13, xmmword ptr [rsp - 0xf0]
    END
    SNIPPET "gathers"
    vpcmpeqd ymm1, ymm1, ymm1
    vpcmpeqd ymm0, ymm0, ymm0
    vpsrld ymm0, ymm0, 26
    vpgatherdd ymm2, dword ptr [rsi + ymm0 * 4], ymm1
    vpcmpeqd ymm1, ymm1, ymm1
    vpxor ymm3, ymm3, ymm3
    vpsubq ymm3, ymm3, ymmword ptr [rip + five]
    vpgatherqq ymm4, qword ptr [rsi + ymm3 * 8 + 16], ymm1
    vpcmpeqd xmm1, xmm1, xmm1
    vgatherdps xmm5, dword ptr [rip_free + xmm3 * 1], xmm1
    vpcmpeqd ymm1, ymm1, ymm1
    vgatherqpd ymm6, qword ptr [rsi + ymm3 * 2], ymm1
    vpcmpeqd ymm1, ymm1, ymm1
    vgatherdpd ymm7, qword ptr [rsi + xmm3 * 8], ymm1
    END
    SNIPPET "a gather that faults in the middle"
    vpcmpeqd ymm1, ymm1, ymm1
    vmovdqu ymm0, ymmword ptr [rip + offsets]
    lea rax, [nowhere - 8]
    vpgatherqq ymm2, qword ptr [rax + ymm0 * 8], ymm1
    END
    SNIPPET "mxcsr and state"
    stmxcsr dword ptr [rdi]
    ldmxcsr dword ptr [rdi]
    fxsave64 [rdi + 256]
    fxrstor64 [rdi + 256]
    mov qword ptr [rdi + 256 + 8], 0
    mov qword ptr [rdi + 256 + 16], 0
    END
    SNIPPET "xsave and xrstor"
    mov eax, 7
    xor edx, edx
    lea rbx, [rdi + 256]
    mov ecx, 110
1:  mov qword ptr [rbx + rcx * 8], 0
    dec rcx
    jns 1b
    and rbx, -64
    xsave64 [rbx]
    vpxor ymm1, ymm1, ymm1
    xrstor64 [rbx]
    xor eax, eax
    mov ecx, 120
1:  mov qword ptr [rdi + rcx * 8 + 192], 0
    dec rcx
    jns 1b
    END
    SNIPPET "x87 and memory"
    fninit
    fld tbyte ptr [rip + ten_bytes]
    fld qword ptr [rip + a_double]
    faddp
    fst qword ptr [rdi]
    fstp tbyte ptr [rdi + 8]
    fild word ptr [rsi]
    fild dword ptr [rsi + 4]
    fild qword ptr [rsi + 8]
    fistp qword ptr [rdi + 24]
    fisttp dword ptr [rdi + 32]
    fstp dword ptr [rdi + 36]
    fnstcw word ptr [rdi + 40]
    fldcw word ptr [rdi + 40]
    fnstsw word ptr [rdi + 44]
    fnstsw ax
    fninit
    END
    SNIPPET "an unmasked floating-point exception"
    fninit
    mov dword ptr [rdi], 0x1f80 - 0x200
    ldmxcsr dword ptr [rdi]
    xorps xmm0, xmm0
    pcmpeqd xmm1, xmm1
    psrlq xmm1, 54
    psllq xmm1, 52
    divpd xmm1, xmm0
    END
    SNIPPET "the control word back to normal"
    mov dword ptr [rdi], 0x1f80
    ldmxcsr dword ptr [rdi]
    END
FINISH
    .data
    .equ rip_free, source + 1024
five:
    .quad 5, 6, 7, 8
offsets:
    .quad 0, 1, 0, 0
ten_bytes:
    .quad 0xc90fdaa22168c235
    .short 0x4000
a_double:
    .double 1.25

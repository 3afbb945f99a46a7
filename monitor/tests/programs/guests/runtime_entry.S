/* How a snippet is entered and left: see snippets.h. */
    .intel_syntax noprefix
    .bss
    .balign 64
    .skip 65536
    .globl runtime_stack_top
runtime_stack_top:
    .globl begin_address
begin_address:
    .skip 8
    .globl next_address
next_address:
    .skip 8

    .text
/* edi: the flags; `begin_address`: where the snippet begins; `next_address`: what follows it. */
    .globl begin
begin:
    call prepare
    movups xmm0, [before + 144]
    movups xmm1, [before + 160]
    movups xmm2, [before + 176]
    movups xmm3, [before + 192]
    movups xmm4, [before + 208]
    movups xmm5, [before + 224]
    movups xmm6, [before + 240]
    movups xmm7, [before + 256]
    movups xmm8, [before + 272]
    movups xmm9, [before + 288]
    movups xmm10, [before + 304]
    movups xmm11, [before + 320]
    movups xmm12, [before + 336]
    movups xmm13, [before + 352]
    movups xmm14, [before + 368]
    movups xmm15, [before + 384]
    push qword ptr [before + 128]
    popfq
    mov rax, [before + 0]
    mov rcx, [before + 8]
    mov rdx, [before + 16]
    mov rbx, [before + 24]
    mov rsp, [before + 32]
    mov rbp, [before + 40]
    mov rsi, [before + 48]
    mov rdi, [before + 56]
    mov r8, [before + 64]
    mov r9, [before + 72]
    mov r10, [before + 80]
    mov r11, [before + 88]
    mov r12, [before + 96]
    mov r13, [before + 104]
    mov r14, [before + 112]
    mov r15, [before + 120]
    jmp qword ptr [begin_address]

/* The snippet's rax is saved already. */
    .globl finish
finish:
    mov [after + 8], rcx
    mov [after + 16], rdx
    mov [after + 24], rbx
    mov [after + 32], rsp
    mov [after + 40], rbp
    mov [after + 48], rsi
    mov [after + 56], rdi
    mov [after + 64], r8
    mov [after + 72], r9
    mov [after + 80], r10
    mov [after + 88], r11
    mov [after + 96], r12
    mov [after + 104], r13
    mov [after + 112], r14
    mov [after + 120], r15
    lea rsp, [runtime_stack_top]
    pushfq
    pop qword ptr [after + 128]
    cld
    movups [after + 144], xmm0
    movups [after + 160], xmm1
    movups [after + 176], xmm2
    movups [after + 192], xmm3
    movups [after + 208], xmm4
    movups [after + 224], xmm5
    movups [after + 240], xmm6
    movups [after + 256], xmm7
    movups [after + 272], xmm8
    movups [after + 288], xmm9
    movups [after + 304], xmm10
    movups [after + 320], xmm11
    movups [after + 336], xmm12
    movups [after + 352], xmm13
    movups [after + 368], xmm14
    movups [after + 384], xmm15
    call report
    jmp qword ptr [next_address]

/* A fault was reported already. */
    .globl after_fault
after_fault:
    lea rsp, [runtime_stack_top]
    jmp qword ptr [next_address]

    .globl return_from_signal
return_from_signal:
    mov eax, 15
    syscall
    .data
    .balign 4096
    .globl before_nowhere
before_nowhere:
    .skip 4096, 0x55
    .globl nowhere
nowhere:
    .skip 4096
    .skip 4096, 0x66
    .section .note.GNU-stack, "", @progbits

/* The stack: every form of push and pop, frames, calls and returns, and every way to write rsp. */
#include "snippets.h"
START
    SNIPPET "push forms"
    push rax
    push r15
    push rsp
    push 0x7f
    push -1
    push 0x12345678
    push -0x12345678
    push qword ptr [rsi]
    push qword ptr [rsi + 8]
    push qword ptr [rsp + 8]
    push qword ptr [rip + source + 64]
    push ax
    push word ptr [rsi + 2]
    pushw 0x1234
    END
    SNIPPET "pop forms"
    pop rax
    pop r15
    pop qword ptr [rdi]
    pop qword ptr [rsp + 8]
    pop qword ptr [rsp]
    pop qword ptr [rsp - 16]
    pop qword ptr [rip + target + 64]
    pop cx
    pop word ptr [rdi + 32]
    END
    SNIPPET "pop rsp"
    lea rbx, [stack + 512]
    mov qword ptr [rsp], rbx
    pop rsp
    push rax
    END
    SNIPPET "rsp written by forms with a prefix that REX.W overrides"
    mov rdx, rsp
    mov ebx, 0x12340040
    .byte 0x66, 0x48, 0x89, 0xdc                /* mov rsp, rbx */
    mov rcx, rsp
    .byte 0x66, 0x48, 0x81, 0xec, 0, 1, 0, 0    /* sub rsp, 0x100 */
    mov rax, rsp
    .byte 0x66, 0x48, 0x8d, 0xa4, 0x24, 0, 1, 0, 0  /* lea rsp, [rsp + 0x100] */
    mov r8, rsp
    mov rsp, rdx
    cmp rax, rax
    END
    SNIPPET "push rsp and pop it"
    push rsp
    pop rax
    push rsp
    push rsp
    pop rsp
    END
    SNIPPET "pop sp"
    lea ebx, [stack + 512]
    mov word ptr [rsp], bx
    mov rdx, rsp
    pop sp
    mov rbx, rsp
    mov rsp, rdx
    xor bx, bx
    END
    SNIPPET "pushf and popf"
    stc
    std
    pushfq
    cld
    clc
    popfq
    pushfw
    popfw
    END
    SNIPPET "popf and pushf keep the alignment check"
    push 0x40202
    popfq
    pushfq
    pop rcx
    push 0x202
    popfq
    pushfq
    pop rdx
    END
    SNIPPET "popf sets what it may", 0xed5
    pushfq
    pop rax
    push 0x202
    popfq
    pushfq
    pop rcx
    push 0x200ad5
    popfq
    pushfq
    pop rdx
    push 0x202
    popfq
    END
    SNIPPET "enter and leave"
    enter 32, 0
    mov qword ptr [rbp - 8], rax
    push rcx
    leave
    END
    SNIPPET "enter with nesting"
    lea rbp, [stack + 1536]
    enter 16, 1
    mov rax, rsp
    enter 8, 3
    mov rcx, rsp
    END
    SNIPPET "leave alone"
    lea rbp, [stack + 256]
    leave
    END
    SNIPPET "call and ret"
    call 1f
    mov rbx, 2
    jmp 2f
1:  mov rax, qword ptr [rsp]
    ret
2:
    END
    SNIPPET "call and ret with a count"
    push 1
    push 2
    call 1f
    jmp 2f
1:  pop rax
    push rax
    ret 16
2:
    END
    SNIPPET "call that is a push of the address"
    call 1f
1:  pop rax
    END
    SNIPPET "ret to an address of choice"
    lea rax, [1f]
    push rax
    ret
    ud2
1:
    END
    SNIPPET "rep ret and bnd ret"
    lea rax, [1f]
    push rax
    .byte 0xf3, 0xc3
1:  lea rax, [2f]
    push rax
    .byte 0xf2, 0xc3
2:
    END
    SNIPPET "changed return address"
    call 1f
    ud2
    jmp 2f
1:  add qword ptr [rsp], 2
    ret
2:
    END
    SNIPPET "mov rsp"
    lea rax, [stack + 128]
    mov rsp, rax
    push rcx
    mov rsp, qword ptr [rip + stored]
    push rdx
    mov esp, offset stack + 640
    push rbx
    mov rsp, offset stack + 700
    push rbp
    END
    SNIPPET "xchg rsp"
    lea rax, [stack + 128]
    xchg rsp, rax
    push rcx
    xchg rax, rsp
    push rcx
    lea rbx, [stack + 256]
    mov qword ptr [rdi], rbx
    xchg qword ptr [rdi], rsp
    push rcx
    END
    SNIPPET "arithmetic on rsp"
    add rsp, 8
    push rax
    sub rsp, 0x80
    push rcx
    and rsp, -64
    push rdx
    or rsp, 8
    push rbx
    inc rsp
    dec rsp
    xor rsp, 0x100
    push rbp
    mov ebx, 24
    add rsp, rbx
    push rsi
    sub rsp, rbx
    push rdi
    mov qword ptr [rdi], 40
    sub rsp, qword ptr [rdi]
    push r8
    push r9
    END
    SNIPPET "flags of arithmetic on rsp"
    sub rsp, 8
    pushfq
    add rsp, 8
    pushfq
    and rsp, -32
    pushfq
    xor ebx, ebx
    sub rsp, rbx
    pushfq
    cmp rsp, rsp
    pushfq
    test rsp, rsp
    pushfq
    adc rsp, 0
    pushfq
    sbb rsp, 0
    pushfq
    END
    SNIPPET "lea rsp"
    lea rsp, [rsp - 40]
    push rax
    lea rsp, [rbp + 16]
    push rcx
    mov ebx, 5
    lea rsp, [rsp + rbx * 8 + 16]
    push rdx
    lea rsp, [rip + stack + 800]
    push rdi
    lea rsp, [rsp + 0x7fffff00]
    lea rsp, [rsp - 0x7fffff00]
    push rsi
    END
    SNIPPET "cmov into rsp"
    lea rbx, [stack + 512]
    cmp rbx, rbx
    cmovne rsp, rbx
    push rax
    cmove rsp, rbx
    push rcx
    mov qword ptr [rdi], rbx
    cmove rsp, qword ptr [rdi]
    push rdx
    END
    SNIPPET "xadd and cmpxchg with rsp"
    mov ebx, 16
    xadd rsp, rbx
    push rbx
    mov rax, rsp
    lea rcx, [stack + 600]
    cmpxchg rsp, rcx
    push rdx
    END
    SNIPPET "shifts and multiplications into rsp"
    shl rsp, 1
    shr rsp, 1
    push rax
    imul rsp, rsp, 1
    push rcx
    imul rsp, qword ptr [rip + one]
    push rdx
    rol rsp, 4
    ror rsp, 4
    push rbx
    END
    SNIPPET "16-bit and 8-bit writes of rsp"
    mov rbx, rsp
    add sp, 16
    push rax
    mov sp, bx
    mov spl, 0x40
    mov rcx, rsp
    mov rsp, rbx
    END
    SNIPPET "rsp as base and source"
    mov rax, rsp
    mov rcx, qword ptr [rsp]
    mov qword ptr [rsp + 16], rcx
    mov rdx, qword ptr [rsp - 128]
    mov qword ptr [rsp - 120], rax
    mov ebx, 3
    mov r8, qword ptr [rsp + rbx * 8]
    add qword ptr [rsp + rbx * 8 + 64], rsp
    lea r9, [rsp + 0x1000]
    mov r10d, dword ptr [rsp + 0x400]
    movups xmmword ptr [rsp - 64], xmm3
    END
    SNIPPET "a push that faults"
    mov rbx, rsp
    lea rsp, [nowhere + 4096 + 8]
    push rax
    push rcx
    END
    SNIPPET "a call that faults"
    lea rsp, [nowhere + 4096]
    call 1f
1:
    END
    SNIPPET "a pop that faults"
    lea rsp, [nowhere]
    pop rax
    END
    SNIPPET "a ret that faults"
    lea rsp, [nowhere]
    ret
    END
    SNIPPET "a pop into a place that is not there"
    pop qword ptr [nowhere]
    END
    SNIPPET "a push from a place that is not there"
    push qword ptr [nowhere]
    END
    SNIPPET "leave with a bad frame"
    lea rbp, [nowhere + 16]
    leave
    END
    SNIPPET "enter into a place that is not there"
    lea rsp, [nowhere + 16]
    enter 16, 0
    END
FINISH
    .data
one:
    .quad 1
stored:
    .quad stack + 384

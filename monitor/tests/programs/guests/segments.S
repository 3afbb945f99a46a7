/* Thread-local accesses through fs in all forms, the registers of segments, and the calls that set their bases. */
#include "snippets.h"
START
    mov eax, 158
    mov edi, 0x1002
    lea rsi, [target + 2048]
    syscall
    SNIPPET "fs loads"
    mov rax, qword ptr fs:[0]
    mov ecx, dword ptr fs:[-64]
    mov rdx, -128
    mov rdx, qword ptr fs:[rdx]
    mov ebx, 5
    mov r8, qword ptr fs:[rbx * 8 + 16]
    mov r9, -16
    movzx r9d, byte ptr fs:[r9 + rbx]
    mov r10, qword ptr fs:[rbx + rbx * 2 - 100]
    movabs rax, fs:[0x40]
    END
    SNIPPET "fs stores and arithmetic"
    mov qword ptr fs:[8], rcx
    mov dword ptr fs:[-8], 0x12345678
    mov rdx, -256
    add qword ptr fs:[rdx], rax
    lock inc dword ptr fs:[-0x100]
    xchg rbx, qword ptr fs:[0x28]
    mov r8, -0x40
    cmpxchg qword ptr fs:[r8], r9
    sub rax, qword ptr fs:[0x28]
    END
    SNIPPET "fs with push, pop, call and jmp"
    push qword ptr fs:[0x10]
    pop qword ptr fs:[-0x10]
    lea rax, [1f]
    mov qword ptr fs:[0x20], rax
    jmp qword ptr fs:[0x20]
    ud2
1:  lea rax, [1f]
    mov qword ptr fs:[0x20], rax
    call qword ptr fs:[0x20]
1:
    END
    SNIPPET "fs relative to rip and rsp"
    mov rbx, rsp
    mov rsp, 64
    mov rax, qword ptr fs:[rsp]
    mov rcx, qword ptr fs:[rsp + 8]
    mov rsp, rbx
    END
    SNIPPET "fs with vector and bit instructions"
    movups xmm0, xmmword ptr fs:[-0x30]
    movups xmmword ptr fs:[0x50], xmm1
    mov rcx, -0x200
    bts dword ptr fs:[rcx], ecx
    mov edx, 77
    btc qword ptr fs:[-0x80], rdx
    END
    SNIPPET "fs with strings"
    mov rsi, -0x80
    .byte 0x64
    lodsq
    mov ecx, 5
    .byte 0x64
    rep movsb
    mov rsi, 0x40
    lea rdi, [target]
    .byte 0x64
    cmpsb
    END
    SNIPPET "fs with xlat"
    mov rbx, -0x90
    mov al, 5
    .byte 0x64
    xlatb
    END
    SNIPPET "fs in flags"
    stc
    mov rax, -8
    mov rcx, qword ptr fs:[rax]
    adc rcx, qword ptr fs:[rax + 16]
    pushfq
    cmp qword ptr fs:[rax], rcx
    pushfq
    END
    SNIPPET "a load through fs that faults"
    lea rax, [nowhere]
    lea rcx, [target + 2048]
    sub rax, rcx
    mov rdx, qword ptr fs:[rax + 8]
    END
    SNIPPET "gs loads after arch_prctl"
    mov eax, 158
    mov edi, 0x1001
    lea rsi, [source + 1024]
    syscall
    mov rbx, qword ptr gs:[0]
    mov rdx, -24
    add rdx, qword ptr gs:[rdx]
    mov dword ptr gs:[16], 0x99
    xor ecx, ecx
    xor r11d, r11d
    END
    SNIPPET "arch_prctl tells the bases"
    mov eax, 158
    mov edi, 0x1003
    lea rsi, [target]
    syscall
    mov rbx, rax
    mov eax, 158
    mov edi, 0x1004
    lea rsi, [target + 8]
    syscall
    xor ecx, ecx
    xor r11d, r11d
    END
    SNIPPET "values of segment registers"
    mov eax, ds
    mov ecx, es
    mov edx, ss
    mov ebx, cs
    mov r8d, fs
    mov r9d, gs
    mov word ptr [rdi], ss
    END
    SNIPPET "null into ds and es"
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov rcx, qword ptr [rsi]
    movsb
    END
    SNIPPET "what system calls leave alone", 0x8d7
    mov eax, 39
    syscall
    xor eax, eax
    pushfq
    pop rbx
    xor r11, rbx
    lea rdx, [rip + 0]
    sub rcx, rdx
    END
    SNIPPET "a system call that does not exist"
    mov eax, 99999
    syscall
    xor ecx, ecx
    xor r11d, r11d
    END
    SNIPPET "cpuid leaves other registers alone"
    xor eax, eax
    cpuid
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    END
    SNIPPET "rdtsc writes two registers"
    stc
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov rcx, rax
    lfence
    rdtscp
    shl rdx, 32
    or rax, rdx
    cmp rcx, rax
    seta al
    movzx eax, al
    xor edx, edx
    xor ecx, ecx
    END
    SNIPPET "xgetbv"
    xor ecx, ecx
    xgetbv
    END
FINISH

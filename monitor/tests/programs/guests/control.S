/* Control flow: conditions, loops, indirect jumps and calls of every form, jumps into the middle of instructions, code at
 * the end of a page. */
#include "snippets.h"
START
    .irp condition, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
    SNIPPET "j\condition"
    xor edx, edx
    .irp a, 0, 1, -1, 0x7f, -128
    mov al, \a
    cmp al, 1
    lea rdx, [rdx * 2]
    j\condition 1f
    lea rdx, [rdx + 1]
1:  sub al, 0x80
    lea rdx, [rdx * 2]
    j\condition 1f
    lea rdx, [rdx + 1]
1:
    .endr
    END
    SNIPPET "set\condition and cmov\condition"
    cmp al, 9
    set\condition cl
    set\condition byte ptr [rdi]
    cmov\condition rdx, qword ptr [rsi]
    cmov\condition ebx, r8d
    cmp byte ptr [rsi], 0xff
    set\condition byte ptr [rdi + 1]
    cmov\condition r9w, word ptr [rsi + 8]
    END
    .endr
    SNIPPET "loop"
    mov ecx, 5
1:  inc rax
    loop 1b
    END
    SNIPPET "loope"
    mov ecx, 50
    lea rbx, [rsi]
    mov byte ptr [rsi], 0
    mov byte ptr [rsi + 1], 0
1:  inc rbx
    cmp byte ptr [rbx - 1], 0
    loope 1b
    END
    SNIPPET "loopne"
    mov ecx, 50
    mov byte ptr [rsi + 7], 0
    lea rbx, [rsi]
1:  inc rbx
    cmp byte ptr [rbx - 1], 0
    loopne 1b
    END
    SNIPPET "loop with ecx"
    mov rcx, 0xff00000003
1:  inc rax
    .byte 0x67
    loop 1b
    END
    SNIPPET "jrcxz and jecxz"
    xor ecx, ecx
    jrcxz 1f
    inc rax
1:  jecxz 1f
    inc rbx
1:  mov rcx, 0xff00000000
    jrcxz 1f
    inc rdx
1:  jecxz 1f
    inc r8
1:
    END
    SNIPPET "jumps through registers"
    lea rax, [1f]
    jmp rax
    ud2
1:  lea r11, [1f]
    jmp r11
    ud2
1:  lea r12, [1f]
    notrack jmp r12
    ud2
1:
    END
    SNIPPET "calls through registers"
    .irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r11, r12, r13, r15
    lea \register, [returner]
    call \register
    .endr
    END
    SNIPPET "jump and call through rsp as register"
    mov rbx, rsp
    lea rsp, [1f]
    jmp rsp
    ud2
1:  mov rsp, rbx
    END
    SNIPPET "jumps through memory"
    lea rax, [1f]
    mov qword ptr [rdi], rax
    jmp qword ptr [rdi]
    ud2
1:  lea rax, [1f]
    mov qword ptr [rdi + 40], rax
    mov ebx, 5
    jmp qword ptr [rdi + rbx * 8]
    ud2
1:  lea rax, [1f]
    push rax
    jmp qword ptr [rsp]
    ud2
1:  lea rax, [1f]
    mov qword ptr [rsp + 8], rax
    mov ecx, 1
    jmp qword ptr [rsp + rcx * 8]
    ud2
1:  jmp qword ptr [rip + pointer_to_here]
    ud2
here:
    jmp qword ptr [pointer_to_there]
    ud2
there:
    END
    SNIPPET "calls through memory"
    lea rax, [returner]
    mov qword ptr [rdi], rax
    call qword ptr [rdi]
    mov ebx, 2
    mov qword ptr [rdi + 16], rax
    call qword ptr [rdi + rbx * 8]
    push rax
    call qword ptr [rsp]
    call qword ptr [rsp + 0]
    mov qword ptr [rsp - 8], rax
    call qword ptr [rsp - 8]
    call qword ptr [rip + pointer_to_returner]
    call qword ptr [pointer_to_returner]
    END
    SNIPPET "a jump table"
    xor edx, edx
    xor ecx, ecx
1:  mov eax, ecx
    and eax, 3
    jmp qword ptr [table + rax * 8]
case_0:
    add rdx, 1
    jmp 2f
case_1:
    add rdx, 10
    jmp 2f
case_2:
    add rdx, 100
case_3:
    add rdx, 1000
2:  inc ecx
    cmp ecx, 100
    jb 1b
    END
    SNIPPET "a relative jump table"
    xor edx, edx
    xor ecx, ecx
    lea r8, [rip + relative_table]
1:  mov eax, ecx
    and eax, 1
    movsxd rax, dword ptr [r8 + rax * 4]
    add rax, r8
    jmp rax
relative_0:
    add rdx, 3
relative_1:
    add rdx, 4
    inc ecx
    cmp ecx, 77
    jb 1b
    END
    SNIPPET "flags across calls, jumps and returns"
    stc
    call returner
    pushfq
    lea rax, [returner]
    cmp eax, 0
    call rax
    pushfq
    std
    sub eax, eax
    mov qword ptr [rdi], offset returner
    call qword ptr [rdi]
    pushfq
    cld
    jmp qword ptr [rip + pointer_to_flags]
    ud2
flags_here:
    pushfq
    END
    SNIPPET "into the middle of an instruction"
    xor ebx, ebx
    mov eax, 1
    jmp 1f + 1
1:  .byte 0xb8, 0xff, 0xc3, 0xff, 0xc3
    inc ebx
    lea rcx, [1b]
    cmp ebx, 10
    jb 2f
    jmp 3f
2:  jmp rcx
3:
    END
    SNIPPET "two readings of the same bytes"
    xor ebx, ebx
    xor ecx, ecx
1:  .byte 0xeb, 0xff, 0xc0
    inc ecx
    cmp ecx, 5
    jb 1b
    END
    SNIPPET "a loop into the middle"
    mov ecx, 6
    xor ebx, ebx
1:  .byte 0x48
2:  .byte 0xff, 0xc3
    dec ecx
    jz 3f
    test ecx, 1
    jnz 1b
    jmp 2b
3:
    END
    SNIPPET "code at the end of a page"
    call end_of_page
    END
    SNIPPET "code across the end of a page"
    call across_pages
    END
    SNIPPET "an instruction that runs into a page that is not there"
    mov byte ptr [nowhere - 1], 0x48
    lea rax, [nowhere - 1]
    jmp rax
    END
    SNIPPET "a call of nothing"
    xor eax, eax
    call rax
    END
    SNIPPET "a jump to data"
    lea rax, [source + 16]
    jmp rax
    END
    SNIPPET "a jump to an address that is not there"
    lea rax, [nowhere + 8]
    jmp rax
    END
    SNIPPET "ud2"
    stc
    mov eax, 5
    ud2
    END
    SNIPPET "int3"
    mov eax, 6
    int3
    END
    SNIPPET "a division by zero"
    xor ecx, ecx
    mov edx, 1
    div ecx
    END
    SNIPPET "a division that overflows"
    mov ecx, 1
    mov rdx, 5
    div rcx
    END
    SNIPPET "a privileged instruction"
    mov eax, 7
    hlt
    END
    SNIPPET "cli"
    cli
    END
    SNIPPET "in"
    in al, 0x80
    END
    SNIPPET "rdmsr"
    rdmsr
    END
    SNIPPET "mov from cr0"
    mov rax, cr0
    END
    SNIPPET "a store into code"
    mov byte ptr [returner], 0x90
    END
    SNIPPET "a load from nowhere"
    mov rbx, 0x123
    stc
    adc rax, qword ptr [nowhere + 0x123]
    END
    SNIPPET "a store to the null page"
    mov ebx, 0x10
    mov dword ptr [rbx + 8], eax
    END
    SNIPPET "a read-modify-write of nowhere"
    lea rbx, [nowhere]
    lock add qword ptr [rbx + 64], rcx
    END
    SNIPPET "a load that straddles the border to nowhere"
    mov rax, qword ptr [nowhere - 3]
    END
    SNIPPET "a store that straddles the border to nowhere"
    mov qword ptr [nowhere - 3], rax
    END
FINISH
returner:
    lea rdx, [rdx + 1]
    ret
    .section .rodata
table:
    .quad case_0, case_1, case_2, case_3
relative_table:
    .long relative_0 - relative_table, relative_1 - relative_table
pointer_to_here:
    .quad here
pointer_to_there:
    .quad there
pointer_to_returner:
    .quad returner
pointer_to_flags:
    .quad flags_here
    .section .text.pages, "ax"
    .balign 4096
    .skip 4096 - 6, 0x90
end_of_page:
    mov eax, 0x1234
    ret
    .skip 4096 - 3, 0x90
across_pages:
    mov eax, 0x5678
    ret

/* String instructions: every size, both directions, every prefix, counts of zero, overlaps, faults in the middle. */
#include "snippets.h"
START

    .macro each direction
    .irp size, b, w, d, q
    SNIPPET "movs\size \direction"
    \direction
    movs\size
    END
    SNIPPET "rep movs\size \direction"
    \direction
    mov ecx, 23
    rep movs\size
    END
    SNIPPET "rep movs\size \direction, none"
    \direction
    xor ecx, ecx
    rep movs\size
    END
    SNIPPET "rep movs\size \direction, onto itself"
    \direction
    lea rsi, [rdi + 3]
    mov ecx, 20
    rep movs\size
    END
    SNIPPET "rep movs\size \direction, spreading"
    \direction
    lea rsi, [rdi - 3]
    mov ecx, 20
    rep movs\size
    END
    SNIPPET "stos\size \direction"
    \direction
    stos\size
    END
    SNIPPET "rep stos\size \direction"
    \direction
    mov ecx, 31
    rep stos\size
    END
    SNIPPET "rep stos\size \direction, none"
    \direction
    xor ecx, ecx
    rep stos\size
    END
    SNIPPET "lods\size \direction"
    \direction
    lods\size
    END
    SNIPPET "rep lods\size \direction"
    \direction
    mov ecx, 9
    rep lods\size
    END
    SNIPPET "cmps\size \direction"
    \direction
    cmps\size
    END
    SNIPPET "repe cmps\size \direction"
    \direction
    mov rdi, rsi
    mov ecx, 29
    repe cmps\size
    END
    SNIPPET "repe cmps\size \direction, a difference"
    \direction
    lea rdi, [rsi + 256]
    mov rax, qword ptr [rsi]
    mov qword ptr [rdi], rax
    mov ecx, 29
    repe cmps\size
    END
    SNIPPET "repne cmps\size \direction"
    \direction
    mov ecx, 29
    repne cmps\size
    END
    SNIPPET "scas\size \direction"
    \direction
    scas\size
    END
    SNIPPET "repne scas\size \direction"
    \direction
    mov rax, qword ptr [rdi + 40]
    mov ecx, 100
    repne scas\size
    END
    SNIPPET "repe scas\size \direction"
    \direction
    mov rax, qword ptr [rdi]
    mov ecx, 10
    repe scas\size
    END
    SNIPPET "repne scas\size \direction, none"
    \direction
    xor ecx, ecx
    repne scas\size
    END
    .endr
    .endm
    each cld
    each std

    SNIPPET "repne scasb with rcx = -1 finds the end of a text"
    mov byte ptr [rdi + 77], 0
    lea rbx, [rdi + 5]
    mov rdi, rbx
    mov al, byte ptr [rdi + 60]
    mov byte ptr [rdi + 72], al
    mov rcx, -1
    repne scasb
    not rcx
    dec rcx
    END
    SNIPPET "repne scasb with rcx = -1 and zero flag set"
    mov byte ptr [rdi + 77], 0xee
    mov al, 0xee
    mov rcx, -1
    cmp rcx, -1
    repne scasb
    END
    SNIPPET "repe cmpsb with rcx = -1"
    mov byte ptr [rsi + 99], 1
    lea rdi, [rsi - 100]
    mov rcx, -1
    repe cmpsb
    END
    SNIPPET "rep movsb with a count of more than 32 bits and a fault"
    mov rcx, 0x100000005
    lea rdi, [nowhere - 8]
    rep movsb
    END
    SNIPPET "rep stosq runs into a page that is not there"
    mov rcx, -1
    lea rdi, [nowhere - 64]
    rep stosq
    END
    SNIPPET "rep stosq runs downwards into a page that is not there"
    std
    mov rcx, -1
    lea rdi, [nowhere + 4096 + 56]
    rep stosq
    END
    SNIPPET "rep lodsb runs into a page that is not there"
    mov rcx, -1
    lea rsi, [nowhere - 5]
    rep lodsb
    END
    SNIPPET "repe scasb runs into a page that is not there"
    lea rdi, [nowhere - 3]
    mov al, byte ptr [rdi]
    mov byte ptr [rdi + 1], al
    mov byte ptr [rdi + 2], al
    mov rcx, -1
    repe scasb
    END
    SNIPPET "repe cmpsb runs into a page that is not there"
    lea rdi, [nowhere - 3]
    lea rsi, [nowhere - 3]
    mov rcx, -1
    repe cmpsb
    END
    SNIPPET "string instructions with 32-bit addresses"
    mov rcx, 0xffffffff00000007
    lea edi, [target + 100]
    lea esi, [source + 100]
    addr32 rep movsb
    END
    SNIPPET "stos with 32-bit address and dirty upper halves"
    mov rbx, 0x7700000000
    add rdi, rbx
    addr32 stosd
    END
    SNIPPET "string instructions with superfluous prefixes"
    mov ecx, 3
    .byte 0xf2, 0xa4
    .byte 0x3e, 0xa4
    .byte 0x66, 0x48, 0xa5
    .byte 0x2e, 0xac
    .byte 0x26, 0xaa
    END
    SNIPPET "xlat"
    mov rbx, rsi
    mov eax, 0x12345699
    xlatb
    END
    SNIPPET "xlat with a 32-bit address"
    mov rbx, 0xff00000000
    or rbx, rsi
    mov al, 7
    addr32 xlatb
    END
FINISH

/* Bit instructions with a bit number in a register reach far from their operand; and the other bit instructions. */
#include "snippets.h"
START

    .macro reach op, size, number, register
    SNIPPET "\op \size [target+1024], \number"
    mov rcx, \number
    lea rbx, [target + 1024]
    \op \size ptr [rbx], \register
    END
    .endm
    .irp op, bt, bts, btr, btc
    .irp number, 0, 5, 63, 64, 1000, 8191, -1, -65, -8192
    reach \op, qword, \number, rcx
    reach \op, dword, \number, ecx
    .endr
    .irp number, 3, 500, -100, 0x7ff
    reach \op, word, \number, cx
    .endr
    SNIPPET "\op register"
    \op rdx, rcx
    \op eax, 77
    END
    SNIPPET "\op memory immediate"
    \op qword ptr [rdi], 61
    \op dword ptr [rdi + 8], 61
    \op word ptr [rdi + 16], 61
    END
    SNIPPET "\op with index and base"
    mov rcx, 333
    mov rdx, 5
    \op qword ptr [rdi + rdx * 8 + 16], rcx
    END
    SNIPPET "\op relative to rsp"
    mov rcx, -777
    \op qword ptr [rsp + 8], rcx
    END
    SNIPPET "\op relative to rip"
    mov rcx, 2000
    \op qword ptr [rip + target + 512], rcx
    END
    .endr
    .irp op, bts, btr, btc
    SNIPPET "lock \op"
    mov ecx, 1234
    lock \op dword ptr [rdi], ecx
    lock \op qword ptr [rdi + 8], 7
    END
    .endr
    SNIPPET "bsf bsr of zero and not"
    xor eax, eax
    bsf rcx, rax
    bsr rdx, qword ptr [rsi]
    bsf ebx, dword ptr [rsi + 4]
    END
    SNIPPET "popcnt lzcnt tzcnt"
    popcnt rax, qword ptr [rsi]
    lzcnt ecx, dword ptr [rsi + 8]
    tzcnt dx, word ptr [rsi + 16]
    END
    SNIPPET "bmi"
    andn rax, rcx, qword ptr [rsi]
    bextr rdx, qword ptr [rsi + 8], rcx
    blsi rbx, qword ptr [rsi + 16]
    blsmsk r8, qword ptr [rsi + 24]
    blsr r9, qword ptr [rsi + 32]
    bzhi r10, qword ptr [rsi + 40], rax
    pdep r11, rcx, qword ptr [rsi + 48]
    pext r12, rcx, qword ptr [rsi + 56]
    rorx r13, qword ptr [rsi + 64], 17
    sarx r14, qword ptr [rsi + 72], rcx
    shlx r15, qword ptr [rsi + 80], rcx
    shrx rbp, qword ptr [rsi + 88], rcx
    mulx rcx, rax, qword ptr [rsi + 96]
    END
    SNIPPET "adcx adox"
    stc
    adcx rax, qword ptr [rsi]
    adox rcx, qword ptr [rsi + 8]
    adcx rdx, rax
    adox rbx, rcx
    END
    SNIPPET "bswap movbe crc32"
    bswap rax
    bswap ecx
    movbe rdx, qword ptr [rsi]
    movbe word ptr [rdi], bx
    crc32 r8, qword ptr [rsi + 8]
    crc32 r9d, byte ptr [rsi + 16]
    END
FINISH

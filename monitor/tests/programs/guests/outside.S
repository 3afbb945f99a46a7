/* Loads, stores, jumps and system calls that aim at an address of the reader's choice: one snippet for each form of
 * instruction that reaches memory. The parent writes the addresses to standard input once it has read "ready", and
 * looks at its canaries when it has read "done". With an argument only one store is made. */
#include "snippets.h"

    .macro FORM name:req
    SNIPPET "\name"
    mov rdx, qword ptr [aim]
    .endm

    .macro KERNEL name:req, number:req, a=0, b=0, c=0, d=0
    FORM "system call \name"
    mov rdi, \a
    mov rsi, \b
    mov r10, \d
    mov r9, rdx
    mov rdx, \c
    mov eax, \number
    syscall
    xor ecx, ecx
    xor r11d, r11d
    END
    .endm

    .text
    .globl _start
_start:
    mov rax, qword ptr [rsp]
    mov qword ptr [argument_count], rax
    lea rsp, [runtime_stack_top]
    call install_handlers
    call read_aims
    cmp qword ptr [argument_count], 1
    je next_aim
    call take_aim
    FORM "one store"
    mov qword ptr [rdx], rax
    END
    jmp done
next_aim:
    lea rsp, [runtime_stack_top]
    call take_aim
    test eax, eax
    jz done

/* Loads */
    .irp register, rax, rbx, rcx, rbp, rsi, rdi, r8, r12, r13, r15
    FORM "load through \register"
    mov \register, rdx
    mov r14, qword ptr [\register]
    END
    FORM "load through \register with displacement"
    lea \register, [rdx - 0x1234]
    mov r14, qword ptr [\register + 0x1234]
    END
    .endr
    FORM "load through rdx with a negative displacement"
    add rdx, 0x7fffffff
    mov rax, qword ptr [rdx - 0x7fffffff]
    END
    FORM "load with base and index"
    mov ecx, 0x400
    sub rdx, 0x2000
    mov rax, qword ptr [rdx + rcx * 8]
    END
    FORM "load with an index alone"
    mov rcx, rdx
    shr rcx, 3
    mov rax, qword ptr [rcx * 8 + 0]
    END
    FORM "load with an index from afar"
    lea rcx, [source]
    sub rdx, rcx
    mov rax, qword ptr [rcx + rdx]
    END
    FORM "load through rsp and index"
    sub rdx, rsp
    mov rax, qword ptr [rsp + rdx]
    END
    FORM "load through rsp and index and displacement"
    sub rdx, rsp
    mov rax, qword ptr [rsp + rdx * 1 + 0x20]
    END
    FORM "load of a byte"
    mov al, byte ptr [rdx]
    END
    FORM "load of a word"
    movzx eax, word ptr [rdx]
    END
    FORM "load and compare"
    cmp qword ptr [rdx], 5
    END
    FORM "load and test"
    test byte ptr [rdx], 5
    END
    FORM "load and add"
    add rax, qword ptr [rdx]
    END
    FORM "load and multiply"
    imul rax, qword ptr [rdx], 3
    END
    FORM "load and divide"
    mov rax, 0
    xor ebx, ebx
    div dword ptr [rdx + rbx]
    END
    FORM "conditional load that does not happen"
    cmp eax, eax
    cmovne rax, qword ptr [rdx]
    END
    FORM "lods"
    mov rsi, rdx
    lodsq
    END
    FORM "rep lods"
    mov rsi, rdx
    mov ecx, 2
    rep lodsb
    END
    FORM "scas"
    mov rdi, rdx
    scasd
    END
    FORM "repne scas"
    mov rdi, rdx
    mov rcx, -1
    repne scasb
    END
    FORM "repne scas downwards"
    mov rdi, rdx
    std
    mov rcx, -1
    repne scasb
    END
    FORM "cmps from"
    mov rsi, rdx
    cmpsb
    END
    FORM "cmps with"
    mov rdi, rdx
    cmpsq
    END
    FORM "movs from"
    mov rsi, rdx
    movsq
    END
    FORM "rep movs from"
    mov rsi, rdx
    mov ecx, 8
    rep movsb
    END
    FORM "xlat"
    mov rbx, rdx
    xor eax, eax
    xlatb
    END
    FORM "push from"
    push qword ptr [rdx]
    END
    FORM "pop from"
    mov rsp, rdx
    pop rax
    END
    FORM "popf from"
    mov rsp, rdx
    popfq
    END
    FORM "leave from"
    mov rbp, rdx
    leave
    END
    FORM "ret from"
    mov rsp, rdx
    ret
    END
    FORM "ret with a count from"
    mov rsp, rdx
    ret 8
    END
    FORM "jump through"
    jmp qword ptr [rdx]
    END
    FORM "call through"
    call qword ptr [rdx]
    END
    FORM "load of xmm"
    movups xmm0, xmmword ptr [rdx]
    END
    FORM "load of xmm, aligned"
    movaps xmm0, xmmword ptr [rdx]
    END
    FORM "load of a double"
    movsd xmm0, qword ptr [rdx]
    END
    FORM "load and convert"
    cvtsi2sd xmm0, dword ptr [rdx]
    END
    FORM "load and shuffle"
    pshufd xmm0, xmmword ptr [rdx], 5
    END
    FORM "load of mm"
    movq mm0, qword ptr [rdx]
    END
    FORM "load of x87"
    fld tbyte ptr [rdx]
    END
    FORM "load of an integer into x87"
    fild qword ptr [rdx]
    END
    FORM "fldenv"
    fldenv [rdx]
    END
    FORM "frstor"
    frstor [rdx]
    END
    FORM "fldcw"
    fldcw word ptr [rdx]
    END
    FORM "ldmxcsr"
    ldmxcsr dword ptr [rdx]
    END
    FORM "fxrstor"
    fxrstor64 [rdx]
    END
    FORM "xrstor"
    mov rcx, rdx
    mov eax, 7
    xor edx, edx
    xrstor64 [rcx]
    END
    FORM "clflush"
    clflush byte ptr [rdx]
    END
    FORM "prefetch"
    prefetcht0 byte ptr [rdx]
    prefetchw byte ptr [rdx]
    END
    FORM "nop"
    nop qword ptr [rdx]
    END
    FORM "bit test from afar"
    lea rbx, [target]
    sub rdx, rbx
    shl rdx, 3
    bt qword ptr [rbx], rdx
    END
    FORM "bit test through rsp"
    sub rdx, rsp
    shl rdx, 3
    bt qword ptr [rsp], rdx
    END
    FORM "bit test relative to rip"
    lea rbx, [target]
    sub rdx, rbx
    shl rdx, 3
    bt qword ptr [rip + target], rdx
    END
#ifdef AVX2
    FORM "load of ymm"
    vmovups ymm0, ymmword ptr [rdx]
    END
    FORM "broadcast"
    vbroadcastsd ymm0, qword ptr [rdx]
    END
    FORM "masked load"
    vpcmpeqd ymm1, ymm1, ymm1
    vpmaskmovd ymm0, ymm1, ymmword ptr [rdx]
    END
    FORM "gather with the base"
    vpxor xmm0, xmm0, xmm0
    vpcmpeqd xmm1, xmm1, xmm1
    vpgatherdd xmm2, dword ptr [rdx + xmm0], xmm1
    END
    FORM "gather with the index"
    lea rbx, [source]
    sub rdx, rbx
    vmovq xmm0, rdx
    vpcmpeqd xmm1, xmm1, xmm1
    vpgatherqq xmm2, qword ptr [rbx + xmm0], xmm1
    END
    FORM "gather with the index alone"
    vmovq xmm0, rdx
    vpcmpeqd xmm1, xmm1, xmm1
    vgatherqpd xmm2, qword ptr [xmm0 * 1 + 0], xmm1
    END
#endif
#ifdef AVX512
    FORM "gather of AVX-512"
    lea rbx, [source]
    sub rdx, rbx
    vpbroadcastq zmm0, rdx
    kxnorw k1, k1, k1
    vpgatherqq zmm2 {k1}, qword ptr [rbx + zmm0]
    END
    FORM "scatter"
    lea rbx, [source]
    sub rdx, rbx
    vpbroadcastq zmm0, rdx
    kxnorw k1, k1, k1
    vpscatterqq qword ptr [rbx + zmm0] {k1}, zmm1
    END
    FORM "scatter with the base"
    vpxor xmm0, xmm0, xmm0
    kxnorw k1, k1, k1
    vpscatterdd dword ptr [rdx + xmm0] {k1}, xmm1
    END
    FORM "compressing store"
    kxnorw k1, k1, k1
    vpcompressd zmmword ptr [rdx] {k1}, zmm1
    END
    FORM "store of zmm"
    vmovdqu64 zmmword ptr [rdx], zmm1
    END
    FORM "masked store"
    mov eax, 0xff
    kmovw k1, eax
    vmovdqu32 zmmword ptr [rdx] {k1}, zmm1
    END
    FORM "masked store of nothing"
    kxorw k1, k1, k1
    vmovdqu32 zmmword ptr [rdx] {k1}, zmm1
    END
    FORM "load of a mask"
    kmovw k2, word ptr [rdx]
    END
    FORM "embedded broadcast"
    vaddpd zmm0, zmm1, qword ptr [rdx]{1to8}
    END
    FORM "embedded broadcast with a scaled displacement"
    vaddpd zmm0, zmm1, qword ptr [rdx + 0x100 - 0x100]{1to8}
    END
#endif

/* Stores */
    .irp register, rax, rbx, rcx, rbp, rsi, rdi, r8, r12, r13, r15
    FORM "store through \register"
    mov \register, rdx
    mov qword ptr [\register], rsp
    END
    .endr
    FORM "store of a byte"
    mov byte ptr [rdx], 0xcc
    END
    FORM "store of an immediate"
    mov qword ptr [rdx], -1
    END
    FORM "store with base and index"
    mov ecx, 0x400
    sub rdx, 0x2000
    mov qword ptr [rdx + rcx * 8], rax
    END
    FORM "store through rsp and index"
    sub rdx, rsp
    mov qword ptr [rsp + rdx], rax
    END
    FORM "store with an index from afar"
    lea rcx, [target]
    sub rdx, rcx
    mov qword ptr [rcx + rdx], rax
    END
    .irp op, add, sub, and, or, xor, adc, sbb
    FORM "\op to memory"
    \op dword ptr [rdx], 0x55
    END
    FORM "lock \op to memory"
    lock \op qword ptr [rdx], rax
    END
    .endr
    .irp op, inc, dec, not, neg
    FORM "\op of memory"
    \op qword ptr [rdx]
    END
    FORM "lock \op of memory"
    lock \op byte ptr [rdx]
    END
    .endr
    .irp op, shl, sar, rol, rcr
    FORM "\op of memory"
    \op qword ptr [rdx], 3
    END
    .endr
    FORM "shld"
    shld qword ptr [rdx], rax, 7
    END
    FORM "xchg"
    xchg qword ptr [rdx], rax
    END
    FORM "xadd"
    lock xadd qword ptr [rdx], rax
    END
    FORM "cmpxchg"
    lock cmpxchg qword ptr [rdx], rcx
    END
    FORM "cmpxchg16b"
    mov rsi, rdx
    lock cmpxchg16b xmmword ptr [rsi]
    END
    FORM "setcc"
    sete byte ptr [rdx]
    END
    FORM "movnti"
    movnti qword ptr [rdx], rax
    END
    FORM "movbe"
    movbe qword ptr [rdx], rax
    END
    FORM "stos"
    mov rdi, rdx
    stosq
    END
    FORM "rep stos"
    mov rdi, rdx
    mov ecx, 4
    rep stosb
    END
    FORM "rep stos without end"
    mov rdi, rdx
    mov rcx, -1
    rep stosq
    END
    FORM "rep stos downwards"
    mov rdi, rdx
    std
    mov rcx, -1
    rep stosq
    END
    FORM "movs to"
    mov rdi, rdx
    movsb
    END
    FORM "rep movs to"
    mov rdi, rdx
    mov ecx, 16
    rep movsb
    END
    FORM "rep movs to, quadwords without end"
    mov rdi, rdx
    mov rcx, -1
    rep movsq
    END
    FORM "push to"
    lea rsp, [rdx + 8]
    push rax
    END
    FORM "push to, through xchg"
    add rdx, 8
    xchg rsp, rdx
    push rax
    END
    FORM "push to, through a sum"
    lea rbx, [rdx + 8]
    sub rbx, rsp
    add rsp, rbx
    push 0x77
    END
    FORM "push to, through leave"
    mov qword ptr [rsp], rdx
    lea rbp, [rdx]
    mov rsp, rbp
    push rbp
    END
    FORM "push to, through pop rsp"
    push rdx
    pop rsp
    push rax
    END
    FORM "push to, through memory"
    mov qword ptr [rdi], rdx
    mov rsp, qword ptr [rdi]
    push rax
    END
    FORM "push to, through cmov"
    cmp eax, eax
    cmove rsp, rdx
    push rax
    END
    FORM "pushf to"
    lea rsp, [rdx + 8]
    pushfq
    END
    FORM "call with the stack at"
    lea rsp, [rdx + 8]
    call 1f
1:
    END
    FORM "call through a register with the stack at"
    lea rsp, [rdx + 8]
    lea rax, [1f]
    call rax
1:
    END
    FORM "enter with the stack at"
    lea rsp, [rdx + 8]
    enter 16, 0
    END
    FORM "store through rsp"
    mov rsp, rdx
    mov qword ptr [rsp], rax
    END
    FORM "store through rsp with displacement"
    lea rsp, [rdx + 0x80]
    mov qword ptr [rsp - 0x80], rax
    END
    FORM "pop into"
    pop qword ptr [rdx]
    END
    FORM "store of xmm"
    movups xmmword ptr [rdx], xmm0
    END
    FORM "store of xmm, streaming"
    and rdx, -16
    movntdq xmmword ptr [rdx], xmm0
    END
    FORM "store of a half"
    movhps qword ptr [rdx], xmm0
    END
    FORM "store of an element"
    pextrd dword ptr [rdx], xmm0, 1
    END
    FORM "store of mm"
    movq qword ptr [rdx], mm0
    END
    FORM "masked store of bytes"
    mov rdi, rdx
    pcmpeqb xmm1, xmm1
    maskmovdqu xmm0, xmm1
    END
    FORM "masked store of mm"
    mov rdi, rdx
    pcmpeqb mm1, mm1
    maskmovq mm0, mm1
    END
    FORM "store of x87"
    fldz
    fstp tbyte ptr [rdx]
    END
    FORM "store of an integer of x87"
    fninit
    fldz
    fistp word ptr [rdx]
    END
    FORM "fnstenv"
    fnstenv [rdx]
    END
    FORM "fnsave"
    fnsave [rdx]
    END
    FORM "fnstcw"
    fnstcw word ptr [rdx]
    END
    FORM "fnstsw"
    fnstsw word ptr [rdx]
    END
    FORM "stmxcsr"
    stmxcsr dword ptr [rdx]
    END
    FORM "fxsave"
    fxsave64 [rdx]
    END
    FORM "xsave"
    mov rcx, rdx
    mov eax, 7
    xor edx, edx
    xsave64 [rcx]
    END
    FORM "xsavec"
    mov rcx, rdx
    mov eax, 7
    xor edx, edx
    xsavec [rcx]
    END
    .irp op, bts, btr, btc
    FORM "\op from afar"
    lea rbx, [target]
    sub rdx, rbx
    shl rdx, 3
    \op qword ptr [rbx], rdx
    END
    FORM "lock \op from afar"
    lea rbx, [target]
    sub rdx, rbx
    shl rdx, 3
    lock \op qword ptr [rbx + 8], rdx
    END
    FORM "\op through rsp"
    sub rdx, rsp
    shl rdx, 3
    \op qword ptr [rsp], rdx
    END
    FORM "\op at"
    \op dword ptr [rdx], 5
    END
    .endr
#ifdef AVX2
    FORM "store of ymm"
    vmovdqu ymmword ptr [rdx], ymm0
    END
    FORM "masked store of ymm"
    vpcmpeqd ymm1, ymm1, ymm1
    vmaskmovps ymmword ptr [rdx], ymm1, ymm0
    END
    FORM "extracting store"
    vextracti128 xmmword ptr [rdx], ymm0, 1
    END
#endif

/* Jumps */
    FORM "jump to"
    jmp rdx
    END
    FORM "call to"
    call rdx
    END
    FORM "return to"
    push rdx
    ret
    END
    FORM "return with a count to"
    push rdx
    ret 8
    END
    FORM "jump through memory to"
    mov qword ptr [rdi], rdx
    jmp qword ptr [rdi]
    END
    FORM "call through memory to"
    mov qword ptr [rdi], rdx
    call qword ptr [rdi]
    END
    FORM "jump into the middle of"
    inc rdx
    jmp rdx
    END

/* Pointers for the kernel */
    KERNEL "write", 1, 1, r9, 8
    KERNEL "open", 2, r9
    KERNEL "stat into", 4, "offset slash", r9
    KERNEL "stat of", 4, r9, "offset target"
    KERNEL "poll", 7, r9, 1, 0
    KERNEL "rt_sigaction from", 13, 10, r9, 0, 8
    KERNEL "rt_sigaction into", 13, 10, 0, r9, 8
    KERNEL "rt_sigprocmask from", 14, 0, r9, 0, 8
    KERNEL "rt_sigprocmask into", 14, 0, 0, r9, 8
    KERNEL "pipe", 22, r9
    KERNEL "nanosleep", 35, r9
    KERNEL "socketpair", 53, 1, 1, 0, r9
    KERNEL "uname", 63, r9
    KERNEL "getcwd", 79, r9, 100
    KERNEL "readlink", 89, "offset link", r9, 50
    KERNEL "gettimeofday", 96, r9
    KERNEL "getrlimit", 97, 7, r9
    KERNEL "getrusage", 98, 0, r9
    KERNEL "sysinfo", 99, r9
    KERNEL "times", 100, r9
    KERNEL "sigaltstack from", 131, r9
    KERNEL "sigaltstack into", 131, 0, r9
    KERNEL "statfs", 137, "offset slash", r9
    KERNEL "arch_prctl into", 158, 0x1003, r9
    KERNEL "time", 201, r9
    KERNEL "clock_gettime", 228, 1, r9
    KERNEL "openat", 257, -100, r9
    KERNEL "newfstatat", 262, -100, "offset slash", r9
    KERNEL "getrandom", 318, r9, 8
    KERNEL "prlimit64", 302, 0, 7, 0, r9
    FORM "system call writev of"
    mov rdi, 1
    mov rsi, rdx
    mov edx, 1
    mov eax, 20
    syscall
    xor ecx, ecx
    xor r11d, r11d
    END
    FORM "system call writev that leads to"
    mov qword ptr [rdi], rdx
    mov qword ptr [rdi + 8], 8
    mov rsi, rdi
    mov edi, 1
    mov edx, 1
    mov eax, 20
    syscall
    xor ecx, ecx
    xor r11d, r11d
    END
    jmp next_aim

done:
    lea rsp, [runtime_stack_top]
    call wait_for_the_end
FINISH
    .section .rodata
slash:
    .asciz "/"
link:
    .asciz "/bin"
    .bss
argument_count:
    .skip 8

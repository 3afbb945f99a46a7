/* Registers and modes of a program around system calls: set to all sorts of values before, looked at after. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* rax rbx rcx rdx rsi rdi rbp r8 … r15 */
uint64_t before[15], after[15], flags_before, flags_after, saved_stack;
unsigned char vectors_before[16][16], vectors_after[16][16];
uint32_t mxcsr_before = 0x7f80, mxcsr_after, default_mxcsr = 0x1f80;
uint16_t control_before = 0xc7f, control_after;
extern char returned_here[];

asm(".text\n.globl around\naround:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, saved_stack(%rip)\n"
    "fldcw control_before(%rip); ldmxcsr mxcsr_before(%rip)\n"
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu vectors_before+16*\\n(%rip), %xmm\\n\n .endr\n"
    "mov before+0(%rip), %rax; mov before+8(%rip), %rbx; mov before+16(%rip), %rcx; mov before+24(%rip), %rdx\n"
    "mov before+32(%rip), %rsi; mov before+40(%rip), %rdi; mov before+48(%rip), %rbp; mov before+56(%rip), %r8\n"
    "mov before+64(%rip), %r9; mov before+72(%rip), %r10; mov before+80(%rip), %r11; mov before+88(%rip), %r12\n"
    "mov before+96(%rip), %r13; mov before+104(%rip), %r14; mov before+112(%rip), %r15\n"
    "pushq flags_before(%rip); popfq\n"
    "syscall\n.globl returned_here\nreturned_here:\n"
    "mov %rax, after+0(%rip); mov %rbx, after+8(%rip); mov %rcx, after+16(%rip); mov %rdx, after+24(%rip)\n"
    "mov %rsi, after+32(%rip); mov %rdi, after+40(%rip); mov %rbp, after+48(%rip); mov %r8, after+56(%rip)\n"
    "mov %r9, after+64(%rip); mov %r10, after+72(%rip); mov %r11, after+80(%rip); mov %r12, after+88(%rip)\n"
    "mov %r13, after+96(%rip); mov %r14, after+104(%rip); mov %r15, after+112(%rip)\n"
    "pushfq; popq flags_after(%rip)\n"
    "pushq $0x202; popfq\n"
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu %xmm\\n, vectors_after+16*\\n(%rip)\n .endr\n"
    "stmxcsr mxcsr_after(%rip); fnstcw control_after(%rip); ldmxcsr default_mxcsr(%rip); fninit\n"
    "cmp %rsp, saved_stack(%rip); jne 1f\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n1: ud2\n");
void around(void);

int main(void) {
    static char buffer[64] __attribute__((aligned(64)));
    static const char *names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    struct { const char *name; long number, first, second, third, fourth, fifth, sixth; } calls[] = {
        {"getpid", SYS_getpid}, {"read", SYS_read, -1, 0, 0}, {"clock_gettime", SYS_clock_gettime, 0, (long)buffer},
        {"openat", SYS_openat, -100, (long)"/nonexistent", 0}, {"mmap", SYS_mmap, 0, 4096, 3, 0x22, -1, 0}, {"nothing", 9999},
        {"bad pointer", SYS_uname, 1}, {"sigprocmask", SYS_rt_sigprocmask, 0, 0, (long)buffer, 8}, {"getcpu", SYS_getcpu, (long)buffer, 0, 0},
        {"denied", SYS_io_uring_setup, 1, (long)buffer}};
    /* Carry, parity, adjust, zero, sign, direction, overflow; then alignment check and identification too. */
    uint64_t flags[] = {0x202, 0x202 | 0xcd5, 0x202 | 0x40cd5 | 0x200000};
    for (int setting = 0; setting < 3; setting++)
        for (unsigned call = 0; call < sizeof calls / sizeof *calls; call++) {
            for (int i = 0; i < 15; i++) before[i] = 0xa5a5a5a500000000ul + i * 0x0101010101010101ul;
            for (int i = 0; i < 256; i++) vectors_before[i / 16][i % 16] = i * 37 + setting;
            before[0] = calls[call].number, before[5] = calls[call].first, before[4] = calls[call].second, before[3] = calls[call].third;
            before[9] = calls[call].fourth, before[7] = calls[call].fifth, before[8] = calls[call].sixth;
            flags_before = flags[setting];
            /* In the last setting an exception of the vector unit is pending as well, masked. */
            mxcsr_before = setting == 2 ? 0x7fbf : 0x7f80;
            around();
            printf("%s %d:", calls[call].name, setting);
            for (int i = 1; i < 15; i++) if (i != 2 && i != 10 && before[i] != after[i]) printf(" %s", names[i]);
            if (after[2] != (uint64_t)returned_here) printf(" rcx %lx", after[2] - (uint64_t)returned_here);
            /* Alignment checks are a matter of the flags alone: the copy may lack them. */
            if ((after[10] ^ flags_before) & ~0x40000ul) printf(" r11 %lx", after[10]);
            if (flags_after != flags_before) printf(" flags %lx", flags_after);
            if (memcmp(vectors_before, vectors_after, 256)) printf(" vectors");
            if (mxcsr_after != mxcsr_before) printf(" mxcsr %x", mxcsr_after);
            if (control_after != control_before) printf(" x87 %x", control_after);
            printf("\n");
        }
    return 0;
}

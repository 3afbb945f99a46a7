/* The functions that the kernel, or who stands in for it, maps into a program: their own system calls, used for another. */
#include "whereabouts.h"
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <time.h>

static sigjmp_buf back;
static void give_up(int signal) { siglongjmp(back, signal); }
static void *sled[4096];
extern char landed[];

/* Jumps at a system call instruction with the number and arguments of an mmap. What follows, down to a return, finds nothing but
   the address of `landed` on its stack. */
static __attribute__((noinline)) long at(char *site) {
    static long saved_stack, saved_frame, result;
    for (int i = 0; i < 4096; i++) sled[i] = landed;
    asm volatile("push %%rbx; push %%r12; push %%r13; push %%r14; push %%r15\n mov %%rsp, %0; mov %%rbp, %1\n"
                 "mov $0x22, %%r10d; mov $-1, %%r8; xor %%r9d, %%r9d\n"
                 "lea 16384+%3, %%rsp; mov %%rsp, %%rbp; jmp *%%rcx\n"
                 ".globl landed\nlanded: mov %0, %%rsp; mov %1, %%rbp; mov %%rax, %2\n pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbx"
                 : "=m"(saved_stack), "=m"(saved_frame), "=m"(result), "+m"(sled[0])
                 : "a"(SYS_mmap), "D"(0l), "S"(4096l), "d"(1l), "c"(site) : "r8", "r9", "r10", "r11", "memory");
    return result;
}

int main(void) {
    char *image = (char *)getauxval(AT_SYSINFO_EHDR);
    if (!image) return 1;
    stack_t other = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&other, 0);
    for (int fault = 0; fault < 4; fault++)
        sigaction((int[]){SIGSEGV, SIGBUS, SIGTRAP, SIGILL}[fault], &(struct sigaction){.sa_handler = give_up, .sa_flags = SA_ONSTACK | SA_NODEFER}, 0);
    Elf64_Ehdr *header = (void *)image;
    Elf64_Phdr *segments = (void *)(image + header->e_phoff);
    int got_away = 0;
    for (int i = 0; i < header->e_phnum; i++)
        for (unsigned long byte = 0; segments[i].p_type == PT_LOAD && byte + 1 < segments[i].p_memsz; byte++) {
            char *site = image + segments[i].p_vaddr + byte;
            if (memcmp(site, "\x0f\x05", 2) != 0 || sigsetjmp(back, 1) != 0) continue;
            long result = at(site);
            if (result > 0 && result >> 32) got_away = 1;
        }
    printf("its instructions: %s\n", got_away ? "free" : "confined");
    /* What they cannot answer themselves they ask the kernel. */
    struct timespec time;
    printf("no clock: %d %d\n", clock_gettime(99, &time), errno);
    printf("a clock: %d\n", clock_gettime(CLOCK_MONOTONIC, &time));
    return 0;
}

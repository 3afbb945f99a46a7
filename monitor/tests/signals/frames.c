// Frames: vector state of every kind in them, edits that the return carries out, programs that live on faults.
#include "guest.h"

#include <cpuid.h>

static sigjmp_buf escape;
static volatile int count;

// Sixteen or thirty-two vector registers, mask registers and the x87 stack, under signals at any instruction.
static volatile int ticks;

static void destroy(int signal, siginfo_t *info, void *context) {
    ticks++;
    asm volatile("vzeroall\n\tfninit\n\tfldl2e\n\tfldl2e" ::: "memory");
    if (__builtin_cpu_supports("avx512f"))
        asm volatile("vpternlogd $0xff, %%zmm20, %%zmm20, %%zmm20\n\tvpxorq %%zmm31, %%zmm31, %%zmm31\n\t"
                     "kxnorw %%k1, %%k1, %%k1\n\tkxnorw %%k7, %%k7, %%k7" ::
                         : "memory");
    (void)signal, (void)info, (void)context;
}

struct vectors {
    unsigned char z[4][64];
    uint16_t k[2];
    long double x;
};

static void all_vectors_survive(void) {
    if (!__builtin_cpu_supports("avx512f"))
        return;
    struct vectors in = {.x = 3.25L, .k = {0xa5a5, 0x1234}}, out;
    for (int i = 0; i < 256; i++)
        in.z[i / 64][i % 64] = i * 7 + 1;
    handle_with(SIGALRM, destroy, 0);
    unsigned long bad = 0;
    for (int round = 0; round < 3; round++) {
        ticks = 0;
        set_timer(1, 1);
        asm volatile("vmovdqu64 (%[in]), %%zmm0\n\t"
                     "vmovdqu64 64(%[in]), %%zmm9\n\t"
                     "vmovdqu64 128(%[in]), %%zmm20\n\t"
                     "vmovdqu64 192(%[in]), %%zmm31\n\t"
                     "kmovw 256(%[in]), %%k1\n\t"
                     "kmovw 258(%[in]), %%k7\n\t"
                     "fldt %[x]\n\t"
                     "1: cmpl $10, %[ticks]\n\t"
                     "jl 1b\n\t"
                     "vmovdqu64 %%zmm0, (%[out])\n\t"
                     "vmovdqu64 %%zmm9, 64(%[out])\n\t"
                     "vmovdqu64 %%zmm20, 128(%[out])\n\t"
                     "vmovdqu64 %%zmm31, 192(%[out])\n\t"
                     "kmovw %%k1, 256(%[out])\n\t"
                     "kmovw %%k7, 258(%[out])\n\t"
                     "fstpt %[y]\n\t"
                     : [y] "=m"(out.x)
                     : [in] "r"(&in), [out] "r"(&out), [ticks] "m"(ticks), [x] "m"(in.x)
                     : "memory", "cc", "xmm0", "xmm9");
        set_timer(0, 0);
        bad += memcmp(in.z, out.z, 260) != 0 || in.x != out.x;
    }
    printf("bad %lu\n", bad);
}

// Where each component of the frame's area lies, and what is in it.
static void look(int signal, siginfo_t *info, void *context) {
    char *fp = (char *)((ucontext_t *)context)->uc_mcontext.fpregs;
    uint64_t in_use = *(uint64_t *)(fp + 512);
    // Beyond the first eight there may be components (tiles) that guests are not offered.
    uint64_t components = *(uint64_t *)(fp + 472);
    uint32_t size, offset, end, none;
    __cpuid_count(0xd, 63 - __builtin_clzl(components), size, offset, none, none);
    end = *(uint32_t *)(fp + 480);
    printf("components %lx ends where the last does %d extended %u more\n", components & 0xff, end == offset + size,
           *(uint32_t *)(fp + 468) - end);
    printf("xmm1 %x ymm1 high %x avx in use %d\n", *(uint32_t *)(fp + 160 + 16), *(uint32_t *)(fp + 576 + 16), (int)(in_use >> 2 & 1));
    *(uint32_t *)(fp + 160 + 16) = 0x99999999;
    *(uint32_t *)(fp + 576 + 16) = 0x88888888;
    *(uint16_t *)fp = 0x27f; // the x87 control word: double precision
    *(uint32_t *)(fp + 24) |= 0x6000;
    (void)signal, (void)info;
}

static void edits_of_vectors_are_loaded(void) {
    unsigned in[8] = {1, 2, 3, 4, 0x55555555, 6, 7, 8}, out[8], mxcsr;
    uint16_t control;
    handle_with(SIGSEGV, look, SA_RESETHAND);
    handle_with(SIGTRAP, look, 0);
    asm volatile("vmovdqu %2, %%ymm1\n\tint3\n\tvmovdqu %%ymm1, %0\n\tstmxcsr %1\n\tfnstcw %3"
                 : "=m"(out), "=m"(mxcsr)
                 : "m"(in), "m"(control)
                 : "xmm1", "memory");
    for (int i = 0; i < 8; i++)
        printf("%x ", out[i]);
    printf("mxcsr %x control %x\n", mxcsr, control);
    asm volatile("fninit");
}

// A handler starts with the x87 and SSE state of a new program, whatever was interrupted.
static void fresh_state(int signal, siginfo_t *info, void *context) {
    unsigned mxcsr;
    uint16_t control;
    asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control));
    printf("mxcsr %x control %x\n", mxcsr, control);
    (void)signal, (void)info, (void)context;
}

static void handlers_start_fresh(void) {
    unsigned mxcsr = 0x7f80;
    uint16_t control = 0x0c3f;
    handle_with(SIGUSR1, fresh_state, 0);
    asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(mxcsr), "m"(control));
    raise(SIGUSR1);
    asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control));
    printf("mxcsr %x control %x\n", mxcsr, control);
}

// Null checks as the Java machine does them: the load faults, the handler goes on at another place.
static void *load(void *object);
extern char load_instruction[], load_is_null[];
asm("load: \nload_instruction: mov 8(%rdi), %rax\n ret\n load_is_null: mov $-1, %rax\n ret\n");

static void null_check(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    count++;
    if (regs[REG_RIP] != (greg_t)load_instruction || info->si_addr != (void *)8)
        _exit(9);
    regs[REG_RIP] = (greg_t)load_is_null;
    (void)signal;
}

static void null_checks(void) {
    handle_with(SIGSEGV, null_check, 0);
    void *object[2] = {0, (void *)7};
    long sum = 0;
    for (int i = 0; i < 300; i++)
        sum += (long)load(i % 3 ? object : NULL);
    printf("sum %ld faults %d\n", sum, count);
}

// A safepoint poll: a page that is closed at times, and whose faults are resumed at the same instruction.
static char *poll_page;

static void open_page(int signal, siginfo_t *info, void *context) {
    count++;
    mprotect(poll_page, 4096, PROT_READ);
    (void)signal, (void)info, (void)context;
}

static void safepoints(void) {
    poll_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle_with(SIGSEGV, open_page, 0);
    unsigned long flags = 0, sum = 0;
    for (int i = 0; i < 1000; i++) {
        if (i % 10 == 0)
            mprotect(poll_page, 4096, PROT_NONE);
        // `test` writes the flags only once it has loaded.
        asm volatile("stc\n\ttestl %%eax, (%1)\n\tsetc %b0" : "+r"(flags) : "r"(poll_page) : "cc", "memory");
        sum += flags;
    }
    printf("faults %d sum %lu\n", count, sum);
}

// Guard pages at the end of growing memory, opened one after the other, stores of every size.
static char *heap;

static void grow(int signal, siginfo_t *info, void *context) {
    count++;
    mprotect((void *)((uintptr_t)info->si_addr & -4096), 4096, PROT_READ | PROT_WRITE);
    (void)signal, (void)context;
}

static void memory_on_demand(void) {
    heap = mmap(NULL, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle_with(SIGSEGV, grow, 0);
    memset(heap + 100, 'x', 10 * 4096);
    asm volatile("movups %%xmm0, (%0)\n\tpush %0\n\taddl $5, (%1)\n\tlock xaddl %%eax, 4(%1)\n\tpop %0" ::"r"(heap + 20 * 4096 - 8),
                 "r"(heap + 30 * 4096)
                 : "eax", "memory");
    asm volatile("rep movsb" ::"D"(heap + 40 * 4096 - 50), "S"(heap + 200), "c"(100L) : "memory");
    asm volatile("rep stosq" ::"D"(heap + 50 * 4096), "a"(7L), "c"(1000L) : "memory");
    unsigned long sum = 0;
    for (int i = 0; i < 10 * 4096; i++)
        sum += heap[100 + i];
    printf("faults %d sum %lu %d %c %d\n", count, sum, heap[30 * 4096], heap[40 * 4096 + 20], heap[50 * 4096 + 7992]);
}

static void leave(int signal) { siglongjmp(escape, signal); }

// Jumps out of handlers on the alternate stack, again and again: it is free afterwards.
static void jumps_out(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = leave, .sa_flags = SA_ONSTACK};
    int signals[] = {SIGSEGV, SIGFPE, SIGUSR1, SIGILL, SIGALRM};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    int seen[65] = {0};
    for (volatile int i = 0; i < 500; i++) {
        int signal = sigsetjmp(escape, 1);
        if (signal) {
            seen[signal]++;
            continue;
        }
        switch (i % 5) {
        case 0: *(volatile int *)8 = 1; break;
        case 1: asm volatile("xor %%ecx, %%ecx\n\tdiv %%ecx" ::: "rax", "rcx", "rdx"); break;
        case 2: raise(SIGUSR1); break;
        case 3: asm volatile("ud2"); break;
        case 4: set_timer(1, 0); for (;;);
        }
    }
    for (int i = 0; i < 65; i++)
        if (seen[i])
            printf("%d: %d\n", i, seen[i]);
}

// A disarming stack: a handler inside a handler uses the stack anew, the way back arms it again.
static stack_t disarming;

static void nested_on_it(int signal, siginfo_t *info, void *context) {
    stack_t now;
    char here;
    sigaltstack(NULL, &now);
    printf("%d: flags %x on it %d saved flags %x\n", signal, now.ss_flags,
           &here >= (char *)disarming.ss_sp && &here < (char *)disarming.ss_sp + disarming.ss_size,
           ((ucontext_t *)context)->uc_stack.ss_flags);
    if (signal == SIGUSR1) {
        static char other[65536];
        stack_t second = {.ss_sp = other, .ss_size = sizeof other, .ss_flags = 1U << 31};
        say(sigaltstack(&second, NULL));
        raise(SIGUSR2);
        sigaltstack(NULL, &now);
        printf("still the second %d\n", now.ss_sp == other);
    }
    (void)info;
}

static void disarmed_stacks_nest(void) {
    disarming = (stack_t){.ss_sp = malloc(65536), .ss_size = 65536, .ss_flags = 1U << 31};
    sigaltstack(&disarming, NULL);
    handle_with(SIGUSR1, nested_on_it, SA_ONSTACK);
    handle_with(SIGUSR2, nested_on_it, SA_ONSTACK);
    raise(SIGUSR1);
    stack_t now;
    sigaltstack(NULL, &now);
    printf("the first again %d flags %x\n", now.ss_sp == disarming.ss_sp, now.ss_flags);
    // Too small for a frame: the handler cannot be entered.
    stack_t small = {.ss_sp = malloc(65536), .ss_size = 2048};
    fflush(stdout);
    if (!fork()) {
        sigaltstack(&small, NULL);
        handle_with(SIGUSR1, nested_on_it, SA_ONSTACK);
        raise(SIGUSR1);
        _exit(0);
    }
    int status;
    wait(&status);
    printf("killed by %d\n", WTERMSIG(status));
}

// Coroutines that handlers switch between: each frame is returned through in another order than it was made.
static ucontext_t main_context, others[3];
static char stacks[3][65536];
static volatile int current, turns;

static void switch_on_alarm(int signal, siginfo_t *info, void *context) {
    int from = current;
    current = (current + 1) % 3;
    if (++turns > 60)
        setcontext(&main_context);
    swapcontext(&others[from], &others[current]);
    (void)signal, (void)info, (void)context;
}

static volatile unsigned long progress[3];

static void spin(int which) {
    double sum = which;
    for (;;) {
        for (int i = 0; i < 1000; i++)
            sum = sum * 0.5 + which;
        if (sum != which * 2.0 && progress[which] > 1)
            printf("disturbed: %g\n", sum);
        progress[which]++;
    }
}

static void preempted_coroutines(void) {
    handle_with(SIGALRM, switch_on_alarm, SA_NODEFER);
    for (int i = 0; i < 3; i++) {
        getcontext(&others[i]);
        others[i].uc_stack.ss_sp = stacks[i];
        others[i].uc_stack.ss_size = sizeof stacks[i];
        makecontext(&others[i], (void (*)(void))spin, 1, i);
    }
    set_timer(1, 1);
    swapcontext(&main_context, &others[0]);
    set_timer(0, 0);
    printf("all ran %d\n", progress[0] > 0 && progress[1] > 0 && progress[2] > 0);
}

// A stack pointer or program counter that the handler moves.
static char new_stack[65536] __attribute__((aligned(16)));

static void finish(void) {
    char here;
    printf("on the new stack %d\n", &here > new_stack && &here < new_stack + sizeof new_stack);
    fflush(stdout);
    _exit(0);
}

static void move(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    regs[REG_RSP] = (greg_t)(new_stack + sizeof new_stack - 8);
    regs[REG_RIP] = (greg_t)finish;
    (void)signal, (void)info;
}

static void moved_stack(void) {
    handle_with(SIGTRAP, move, 0);
    asm volatile("int3");
}

static const struct guest_case cases[] = {{"all_vectors", all_vectors_survive},
                                          {"edits_of_vectors", edits_of_vectors_are_loaded},
                                          {"fresh", handlers_start_fresh},
                                          {"null_checks", null_checks},
                                          {"safepoints", safepoints},
                                          {"memory_on_demand", memory_on_demand},
                                          {"jumps_out", jumps_out},
                                          {"disarmed_stacks", disarmed_stacks_nest},
                                          {"preempted_coroutines", preempted_coroutines},
                                          {"moved_stack", moved_stack},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

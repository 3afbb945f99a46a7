// Faults: what a handler finds, and how it can go on.
#include "guest.h"

static sigjmp_buf escape;
static char *page;
static volatile int count;

static void print_fault(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    long offset = page ? (char *)info->si_addr - page : (long)info->si_addr;
    int at_pc = (greg_t)info->si_addr == regs[REG_RIP];
    if (signal == SIGBUS)
        regs[REG_ERR] &= ~2; // whether it was a store, which no fault of a backend tells
    printf("signal %d code %d trap %lld err %llx address %s%lx cr2 %s\n", signal, info->si_code, regs[REG_TRAPNO],
           regs[REG_ERR], at_pc ? "pc " : "", at_pc ? 0 : offset, (greg_t)info->si_addr == regs[REG_CR2] ? "same" : "other");
    printf("segments %llx flags %lx\n", regs[REG_CSGSFS], uc->uc_flags);
}

static void print_and_jump(int signal, siginfo_t *info, void *context) {
    print_fault(signal, info, context);
    siglongjmp(escape, 1);
}

static void null_read(void) {
    handle_with(SIGSEGV, print_and_jump, 0);
    if (!sigsetjmp(escape, 1))
        *(volatile int *)16;
    puts("still here");
    if (!sigsetjmp(escape, 1))
        *(volatile int *)24 = 1;
    puts("and here");
}

static void protected_page(void) {
    handle_with(SIGSEGV, print_and_jump, 0);
    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)page;
    if (!sigsetjmp(escape, 1))
        page[4095] = 1;
    mprotect(page, 4096, PROT_NONE);
    if (!sigsetjmp(escape, 1))
        *(volatile char *)(page + 7);
    munmap(page, 8192);
    if (!sigsetjmp(escape, 1))
        *(volatile char *)(page + 4097);
}

static void lost_file(void) {
    handle_with(SIGBUS, print_and_jump, 0);
    int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    ftruncate(fd, 4096);
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    page[0] = 1;
    if (!sigsetjmp(escape, 1))
        page[4100] = 1;
}

// Registers with a pattern; the handler checks them, repairs rbx and goes on.
static void check_registers(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    printf("rax %llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx rbp %llx\n", regs[REG_RAX], regs[REG_RBX], regs[REG_RCX],
           regs[REG_RDX], regs[REG_RSI], regs[REG_RDI], regs[REG_RBP]);
    printf("r8 %llx r9 %llx r10 %llx r11 %llx r12 %llx r13 %llx r14 %llx r15 %llx\n", regs[REG_R8], regs[REG_R9],
           regs[REG_R10], regs[REG_R11], regs[REG_R12], regs[REG_R13], regs[REG_R14], regs[REG_R15]);
    printf("flags %llx address %lx\n", regs[REG_EFL] & 0xcd5, (long)info->si_addr);
    regs[REG_RBX] = (greg_t)&count;
    regs[REG_R12] = 0x5555;
    regs[REG_EFL] |= 1;
    (void)signal;
}

static void exact_registers(void) {
    handle_with(SIGSEGV, check_registers, 0);
    unsigned long carry;
    asm volatile("push %%rbp\n\t"
                 "mov $0x77, %%ebp\n\t"
                 "mov $0x11, %%eax\n\t"
                 "mov $0x2220, %%ebx\n\t"
                 "mov $0x33, %%ecx\n\t"
                 "mov $0x44, %%edx\n\t"
                 "mov $0x55, %%esi\n\t"
                 "mov $0x66, %%edi\n\t"
                 "mov $0x88, %%r8d\n\t"
                 "mov $0x99, %%r9d\n\t"
                 "mov $0x1010, %%r10d\n\t"
                 "mov $0x1111, %%r11d\n\t"
                 "mov $0x1212, %%r12d\n\t"
                 "mov $0x1313, %%r13d\n\t"
                 "movabs $0x1414141414141414, %%r14\n\t"
                 "mov $0x1515, %%r15d\n\t"
                 "cmp %%eax, %%eax\n\t" // ZF and PF, no CF
                 "movl $42, 8(%%rbx)\n\t"
                 "setc %%al\n\t"
                 "movzbl %%al, %%eax\n\t"
                 "pop %%rbp\n\t"
                 : "=a"(carry)
                 :
                 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    printf("stored %d carry %lu\n", ((volatile int *)&count)[2] == 42, carry);
}

static void skip_two(int signal, siginfo_t *info, void *context) {
    print_fault(signal, info, context);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void illegal(void) {
    handle_with(SIGILL, skip_two, 0);
    asm volatile("ud2");
    puts("after ud2");
}

static void division(void) {
    handle_with(SIGFPE, skip_two, 0);
    asm volatile("xor %%ecx, %%ecx\n\tmov $1, %%eax\n\tcltd\n\tidiv %%ecx" ::: "rax", "rcx", "rdx", "cc");
    puts("after division by zero");
    asm volatile("mov $-1, %%ecx\n\tmov $0x80000000, %%eax\n\tcltd\n\tidiv %%ecx" ::: "rax", "rcx", "rdx", "cc");
    puts("after overflow");
}

static void print_trap(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    printf("signal %d code %d trap %lld before %x\n", signal, info->si_code, regs[REG_TRAPNO],
           *((unsigned char *)regs[REG_RIP] - 1));
}

static void breakpoint(void) {
    handle_with(SIGTRAP, print_trap, 0);
    asm volatile("int3");
    puts("after int3");
}

static void general_protection(void) {
    handle_with(SIGSEGV, print_and_jump, 0);
    if (!sigsetjmp(escape, 1))
        asm volatile("hlt");
    if (!sigsetjmp(escape, 1))
        asm volatile("xor %%eax, %%eax\n\tmov %%rax, %%cr3" ::: "rax");
    puts("done");
}

static void wild_jump(void) {
    handle_with(SIGSEGV, print_and_jump, 0);
    if (!sigsetjmp(escape, 1))
        ((void (*)(void))0x1008)();
    puts("back from nowhere");
}

static void on_alternate_stack(int signal, siginfo_t *info, void *context) {
    stack_t now;
    char here;
    sigaltstack(NULL, &now);
    stack_t saved = ((ucontext_t *)context)->uc_stack;
    printf("on it: %d %d saved flags %d size %zu\n", now.ss_flags, &here >= (char *)now.ss_sp && &here < (char *)now.ss_sp + now.ss_size,
           saved.ss_flags, saved.ss_size);
    stack_t none = {.ss_flags = SS_DISABLE};
    printf("change while on it: %d", sigaltstack(&none, NULL));
    printf(" %s\n", strerror(errno));
    siglongjmp(escape, 1);
    (void)signal, (void)info;
}

static int recurse(int depth) {
    volatile char block[4096];
    block[0] = depth;
    return recurse(depth + 1) + block[0];
}

static void stack_overflow(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    handle_with(SIGSEGV, on_alternate_stack, SA_ONSTACK);
    if (!sigsetjmp(escape, 1))
        recurse(0);
    stack_t after;
    sigaltstack(NULL, &after);
    printf("after: flags %d\n", after.ss_flags);
    if (!sigsetjmp(escape, 1))
        recurse(0);
    puts("twice");
}

static void fault_again(int signal, siginfo_t *info, void *context) {
    printf("fault %d\n", ++count);
    *(volatile int *)8 = 1; // SIGSEGV is blocked: this kills
    (void)signal, (void)info, (void)context;
}

static void fault_in_handler(void) {
    handle_with(SIGSEGV, fault_again, 0);
    *(volatile int *)8 = 1;
}

static void fault_nested(int signal, siginfo_t *info, void *context) {
    printf("in %d\n", ++count);
    if (count < 3)
        *(volatile int *)8 = 1;
    printf("out %d\n", count);
    siglongjmp(escape, 1);
    (void)signal, (void)info, (void)context;
}

static void nodefer_faults(void) {
    handle_with(SIGSEGV, fault_nested, SA_NODEFER);
    if (!sigsetjmp(escape, 1))
        *(volatile int *)8 = 1;
    printf("ended with %d\n", count);
}

static void ignored_fault(void) {
    signal(SIGSEGV, SIG_IGN);
    raise(SIGSEGV);
    puts("a sent one is ignored");
    *(volatile int *)8 = 1;
}

static void blocked_fault(void) {
    handle_with(SIGSEGV, print_fault, 0);
    mask(SIG_BLOCK, SIGSEGV);
    *(volatile int *)8 = 1;
}

static void no_stack_for_the_handler(void) {
    handle_with(SIGUSR1, print_fault, 0);
    asm volatile("mov $39, %%eax\n\tsyscall\n\tmov %%eax, %%edi\n\tmov $10, %%esi\n\tmov $62, %%eax\n\tmov $64, %%rsp\n\tsyscall" ::
                     : "memory");
}

static void kill_default(void) { *(volatile int *)8 = 1; }
static void kill_abort(void) { abort(); }
static void kill_illegal(void) { asm volatile("ud2"); }
static void kill_division(void) { asm volatile("xor %%ecx, %%ecx\n\tdiv %%ecx" ::: "rax", "rcx", "rdx"); }
static void kill_breakpoint(void) { asm volatile("int3"); }

static const struct guest_case cases[] = {{"null_read", null_read},
                                    {"protected_page", protected_page},
                                    {"lost_file", lost_file},
                                    {"exact_registers", exact_registers},
                                    {"illegal", illegal},
                                    {"division", division},
                                    {"breakpoint", breakpoint},
                                    {"general_protection", general_protection},
                                    {"wild_jump", wild_jump},
                                    {"stack_overflow", stack_overflow},
                                    {"fault_in_handler", fault_in_handler},
                                    {"nodefer_faults", nodefer_faults},
                                    {"ignored_fault", ignored_fault},
                                    {"blocked_fault", blocked_fault},
                                    {"no_stack_for_the_handler", no_stack_for_the_handler},
                                    {"kill_default", kill_default},
                                    {"kill_abort", kill_abort},
                                    {"kill_illegal", kill_illegal},
                                    {"kill_division", kill_division},
                                    {"kill_breakpoint", kill_breakpoint},
                                    {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

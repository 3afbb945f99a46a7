/* A signal frame that another thread edits while the handler sleeps; a program that steps through its own system calls. */
#include "whereabouts.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <ucontext.h>

/* Far above what a guest has, and where a monitor may well lie. */
static const long far_addresses[] = {0x7f0000001000, 0x555555554000, -4096, 0x100000000, (long)1 << 63};
static ucontext_t *volatile frame;
static sigjmp_buf back;
static volatile int is_over, kind;

/* Nothing but frames lies there, so a late edit hits nothing else. */
static char *frames;
enum { FRAMES_SIZE = 1 << 16 };

static void *edit(void *unused) {
    for (unsigned i = 0; !is_over; i++) {
        ucontext_t *context = frame;
        if (!context) continue;
        char *vectors = (char *)context->uc_mcontext.fpregs;
        int is_vectors = vectors > frames && vectors + 576 < frames + FRAMES_SIZE;
        long far = far_addresses[i % 5];
        greg_t *registers = context->uc_mcontext.gregs;
        switch (kind) {
        case 0: registers[REG_RIP] = far; break;
        case 1: registers[REG_RSP] = far; break;
        /* Trap, input and output privilege, nested task, virtual 8086 mode. */
        case 2: registers[REG_EFL] = 0x23302; break;
        case 3: registers[REG_CSGSFS] = i & 1 ? 0x2b0000000023 : 0x10; break;
        case 4: context->uc_mcontext.fpregs = (void *)far; break;
        /* The header of the vector state: which parts there are, and how they lie. */
        case 5: if (is_vectors) memset(vectors + 512, 0xff, 64); break;
        case 6: if (is_vectors) memset(vectors + 464, i, 48); break;
        }
    }
    return 0;
}
static void sleep_in_handler(int signal, siginfo_t *info, void *context) {
    struct timespec while_edited = {0, 300000};
    frame = context;
    nanosleep(&while_edited, 0);
    frame = 0;
}
static void give_up(int signal) { siglongjmp(back, signal); }

static volatile int steps, steps_elsewhere;
static void count(int signal, siginfo_t *info, void *context) {
    steps++;
    /* Where the program itself is, and not what runs on its behalf. */
    if ((uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] >> 32) steps_elsewhere++;
}

int main(void) {
    frames = malloc(FRAMES_SIZE);
    sigaltstack(&(stack_t){.ss_sp = frames, .ss_size = FRAMES_SIZE}, 0);
    struct sigaction sleeper = {.sa_sigaction = sleep_in_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &sleeper, 0);
    for (int fault = 0; fault < 4; fault++)
        sigaction((int[]){SIGSEGV, SIGBUS, SIGTRAP, SIGILL}[fault], &(struct sigaction){.sa_handler = give_up, .sa_flags = SA_ONSTACK | SA_NODEFER}, 0);
    pthread_t editor;
    pthread_create(&editor, 0, edit, 0);
    for (kind = 0; kind < 7; kind++) {
        for (int round = 0; round < 20; round++)
            if (sigsetjmp(back, 1) == 0) raise(SIGUSR1);
        frame = 0;
        char what[32];
        snprintf(what, sizeof what, "edited %d", kind);
        say(what);
    }
    is_over = 1;
    pthread_join(editor, 0);
    struct sigaction counter = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGTRAP, &counter, 0);
    long result = SYS_getppid;
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq\n nop\n syscall\n nop\n pushfq; andq $-257, (%%rsp); popfq" : "+a"(result) : : "rcx", "r11", "memory", "cc");
    say(result == getppid() ? "stepped" : "stepped astray");
    /* In a fixed place natively, a program would be below 4 GiB too. */
    printf("steps %d elsewhere %d\n", steps, steps_elsewhere);
    return 0;
}

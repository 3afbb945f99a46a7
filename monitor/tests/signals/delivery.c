// Delivery: masks, queues, interrupted calls, frames.
#include "guest.h"

static volatile int count;
static volatile sig_atomic_t order[32];
static int pipes[2];

static void tick(int signal, siginfo_t *info, void *context) {
    count++;
    (void)signal, (void)info, (void)context;
}

static void note(int signal, siginfo_t *info, void *context) {
    order[count++] = signal;
    (void)info, (void)context;
}

static void print_info(int signal, siginfo_t *info, void *context) {
    printf("signal %d code %d value %d from %s\n", signal, info->si_code, info->si_value.sival_int,
           info->si_pid == getpid() ? "self" : "elsewhere");
    (void)context;
}

static void print_order(void) {
    for (int i = 0; i < count; i++)
        printf("%d ", order[i]);
    puts("");
}

static void alarm_in_a_loop(void) {
    handle_with(SIGALRM, tick, 0);
    set_timer(5, 5);
    unsigned long spins = 0;
    while (count < 5)
        spins++;
    set_timer(0, 0);
    printf("%d %d\n", count >= 5, spins > 0);
}

// Arithmetic whose result says if a handler that uses every register disturbed it.
static void clobber(int signal, siginfo_t *info, void *context) {
    count++;
    asm volatile("pxor %%xmm0, %%xmm0\n\tpcmpeqd %%xmm1, %%xmm1\n\tpxor %%xmm2, %%xmm2\n\tpxor %%xmm15, %%xmm15\n\t"
                 "fninit\n\tfldpi\n\tstd\n\tcld" ::
                     : "xmm0", "xmm1", "xmm2", "xmm15");
    if (__builtin_cpu_supports("avx2"))
        asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n\tvpcmpeqd %%ymm3, %%ymm3, %%ymm3\n\tvzeroall" ::: "xmm0", "xmm3");
    (void)signal, (void)info, (void)context;
}

static void vectors_survive(void) {
    handle_with(SIGALRM, clobber, 0);
    set_timer(1, 1);
    double a = 1, b = 1, sum = 0;
    long double x = 1;
    for (long i = 0; count < 20; i++) {
        a = 1, b = 1, sum = 0, x = 1;
        for (int k = 0; k < 200; k++) {
            sum += a * b, a = a * 0.5 + 1, b = b + 0.25;
            x = x * 0.5L + 1;
        }
    }
    set_timer(0, 0);
    printf("%.17g %.17g %.17g %.20Lg\n", a, b, sum, x);
    if (!__builtin_cpu_supports("avx2"))
        return;
    count = 0;
    set_timer(1, 1);
    unsigned long bad = 0;
    unsigned pattern[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
    asm volatile("vmovdqu %0, %%ymm3\n\tvmovdqu %0, %%ymm11" ::"m"(pattern) : "xmm3", "xmm11");
    while (count < 20)
        asm volatile("" ::: "memory");
    asm volatile("vmovdqu %%ymm3, %0" : "=m"(out));
    bad += memcmp(out, pattern, 32) != 0;
    asm volatile("vmovdqu %%ymm11, %0" : "=m"(out));
    bad += memcmp(out, pattern, 32) != 0;
    set_timer(0, 0);
    printf("bad %lu\n", bad);
}

static void read_without_restart(void) {
    char byte;
    pipe(pipes);
    handle_with(SIGALRM, tick, 0);
    set_timer(30, 0);
    long got = read(pipes[0], &byte, 1);
    printf("%ld %s ticks %d\n", got, strerror(errno), count);
}

static void write_on_tick(int signal, siginfo_t *info, void *context) {
    if (++count == 3)
        write(pipes[1], "x", 1);
    (void)signal, (void)info, (void)context;
}

static void read_with_restart(void) {
    char byte = 0;
    pipe(pipes);
    handle_with(SIGALRM, write_on_tick, SA_RESTART);
    set_timer(20, 20);
    long got = read(pipes[0], &byte, 1);
    set_timer(0, 0);
    printf("%ld %c ticks %d\n", got, byte, count);
}

// Signals all the time, while bytes go through a pipe to a child and back, in calls that restart and calls that don't.
static void storm(void) {
    int there[2], back[2];
    pipe(there), pipe(back);
    pid_t child = fork();
    if (!child) {
        unsigned char byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            write(back[1], &byte, 1);
        _exit(0);
    }
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        handle_with(SIGALRM, tick, flags);
        struct itimerval often = {{0, 150}, {0, 150}};
        setitimer(ITIMER_REAL, &often, NULL);
        unsigned long sum = 0, pids = 0, failed = 0;
        count = 0;
        for (int i = 0; i < 3000; i++) {
            unsigned char byte = i;
            while (write(there[1], &byte, 1) != 1)
                failed += errno != EINTR || flags;
            while (read(back[0], &byte, 1) != 1)
                failed += errno != EINTR || flags;
            sum += byte;
            pids += getppid() > 0;
        }
        while (count < 10)
            ;
        set_timer(0, 0);
        printf("sum %lu pids %lu failed %lu\n", sum, pids, failed);
    }
    close(there[1]);
    printf("%d\n", waitpid(child, NULL, 0) == child);
}

static void sleep_is_never_restarted(void) {
    handle_with(SIGALRM, tick, SA_RESTART);
    set_timer(20, 0);
    struct timespec wanted = {5, 0}, left = {0, 0};
    int result = nanosleep(&wanted, &left);
    printf("%d %s left %ld ticks %d\n", result, strerror(errno), (long)left.tv_sec, count);
    set_timer(20, 0);
    struct pollfd none = {.fd = -1};
    result = poll(&none, 1, 5000);
    printf("%d %s ticks %d\n", result, strerror(errno), count);
    set_timer(20, 0);
    result = pause();
    printf("%d %s ticks %d\n", result, strerror(errno), count);
}

static void wait_with_restart(void) {
    handle_with(SIGALRM, tick, SA_RESTART);
    pid_t child = fork();
    if (!child) {
        usleep(80000);
        _exit(7);
    }
    set_timer(20, 0);
    int status = 0;
    pid_t got = wait(&status);
    printf("%d %d ticks %d\n", got == child, WEXITSTATUS(status), count);
}

static void nested(int signal, siginfo_t *info, void *context) {
    printf("enter %d\n", signal);
    if (signal == SIGUSR1)
        raise(SIGUSR2);
    printf("leave %d\n", signal);
    (void)info, (void)context;
}

static void nested_handlers(void) {
    handle_with(SIGUSR1, nested, 0);
    handle_with(SIGUSR2, nested, 0);
    raise(SIGUSR1);
    struct sigaction action = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    puts("now with SIGUSR2 blocked");
    raise(SIGUSR1);
}

static void blocked_stay_pending(void) {
    sigset_t set;
    handle_with(SIGUSR1, note, 0);
    handle_with(SIGUSR2, note, 0);
    mask(SIG_BLOCK, SIGUSR1);
    mask(SIG_BLOCK, SIGUSR2);
    raise(SIGUSR2);
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigpending(&set);
    printf("pending %d %d, handled %d\n", sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2), count);
    mask(SIG_UNBLOCK, SIGUSR1);
    print_order();
    mask(SIG_UNBLOCK, SIGUSR2);
    print_order();
    sigpending(&set);
    printf("pending %d %d\n", sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2));
}

static void many_at_once(void) {
    sigset_t set, old;
    sigemptyset(&set);
    int all[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGRTMIN, SIGRTMIN + 1, SIGSEGV, SIGBUS};
    for (int i = 0; i < 7; i++) {
        handle_with(all[i], note, 0);
        sigaddset(&set, all[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int i = 0; i < 7; i++) {
        raise(all[6 - i]);
        raise(all[6 - i]);
    }
    sigset_t pending;
    sigpending(&pending);
    for (int i = 0; i < 7; i++)
        printf("%d", sigismember(&pending, all[i]));
    puts(" pending");
    sigprocmask(SIG_SETMASK, &old, NULL);
    // Handlers nest, so that the last one entered notes first; only the sets are compared.
    int seen[65] = {0};
    for (int i = 0; i < count; i++)
        seen[order[i]]++;
    for (int i = 0; i < 65; i++)
        if (seen[i])
            printf("%d: %d\n", i, seen[i]);
}

static void real_time_queue(void) {
    handle_with(SIGRTMIN + 2, print_info, 0);
    mask(SIG_BLOCK, SIGRTMIN + 2);
    for (int i = 1; i <= 4; i++)
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i * 11});
    mask(SIG_UNBLOCK, SIGRTMIN + 2);
    handle_with(SIGUSR1, print_info, 0);
    kill(getpid(), SIGUSR1);
    raise(SIGUSR1);
}

static void suspend(void) {
    handle_with(SIGUSR1, note, 0);
    handle_with(SIGALRM, note, 0);
    mask(SIG_BLOCK, SIGUSR1);
    mask(SIG_BLOCK, SIGALRM);
    raise(SIGUSR1);
    sigset_t all_but;
    sigfillset(&all_but);
    sigdelset(&all_but, SIGUSR1);
    say(sigsuspend(&all_but));
    print_order();
    set_timer(20, 0);
    sigdelset(&all_but, SIGALRM);
    say(sigsuspend(&all_but));
    print_order();
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    printf("mask %d %d\n", sigismember(&now, SIGUSR1), sigismember(&now, SIGALRM));
}

static void masks_of_calls(void) {
    handle_with(SIGALRM, note, 0);
    mask(SIG_BLOCK, SIGALRM);
    sigset_t none;
    sigemptyset(&none);
    set_timer(20, 0);
    say(ppoll(NULL, 0, NULL, &none));
    set_timer(20, 0);
    say(pselect(0, NULL, NULL, NULL, NULL, &none));
    raise(SIGALRM);
    struct timespec soon = {0, 20000000};
    printf("%d\n", ppoll(NULL, 0, &soon, NULL));
    print_order();
    say(ppoll(NULL, 0, NULL, &none));
    print_order();
}

static void timed_wait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct timespec now = {0, 1000000};
    siginfo_t info;
    say(sigtimedwait(&set, &info, &now));
    raise(SIGUSR1);
    printf("%d", sigwaitinfo(&set, &info));
    printf(" code %d\n", info.si_code);
    raise(SIGSEGV);
    printf("%d", sigtimedwait(&set, &info, &now));
    printf(" code %d\n", info.si_code);
    handle_with(SIGALRM, tick, 0);
    set_timer(20, 0);
    say(sigwaitinfo(&set, &info));
}

static void descriptor(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    raise(SIGUSR1);
    struct signalfd_siginfo info;
    printf("%zd", read(fd, &info, sizeof info));
    printf(" signal %u code %d\n", info.ssi_signo, info.ssi_code);
}

static void reset_and_flags(void) {
    handle_with(SIGUSR1, tick, SA_RESETHAND | SA_ONSTACK | 0x400);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    printf("flags %x\n", now.sa_flags & ~0x04000000);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &now);
    printf("count %d default %d flags %x\n", count, now.sa_handler == SIG_DFL, now.sa_flags & ~0x04000000);
    say(sigaction(SIGKILL, &now, NULL));
    say(syscall(SYS_rt_sigaction, 65, NULL, &now, 8));
    say(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 4));
    say(syscall(SYS_rt_sigprocmask, 77, &(uint64_t){0}, NULL, 8));
    raise(SIGUSR1);
}

static void broken_pipe(void) {
    pipe(pipes);
    close(pipes[0]);
    signal(SIGPIPE, SIG_IGN);
    say(write(pipes[1], "x", 1));
    handle_with(SIGPIPE, tick, 0);
    printf("%zd", write(pipes[1], "x", 1));
    printf(" %s ticks %d\n", strerror(errno), count);
    signal(SIGPIPE, SIG_DFL);
    write(pipes[1], "x", 1);
}

static void ignored_are_gone(void) {
    handle_with(SIGUSR1, tick, 0);
    mask(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    handle_with(SIGUSR1, tick, 0);
    mask(SIG_UNBLOCK, SIGUSR1);
    signal(SIGUSR2, SIG_IGN);
    raise(SIGUSR2);
    raise(SIGCHLD);
    raise(SIGCONT);
    printf("ticks %d\n", count);
}

static void alternate_stack(int signal, siginfo_t *info, void *context) {
    stack_t now;
    sigaltstack(NULL, &now);
    printf("flags %x\n", now.ss_flags);
    (void)signal, (void)info, (void)context;
}

static void alternate_stacks(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536}, old;
    sigaltstack(&stack, &old);
    printf("before %x %zu\n", old.ss_flags, old.ss_size);
    handle_with(SIGUSR1, alternate_stack, SA_ONSTACK);
    handle_with(SIGUSR2, alternate_stack, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    stack.ss_flags = 1U << 31;
    sigaltstack(&stack, NULL);
    raise(SIGUSR1);
    sigaltstack(NULL, &old);
    printf("disarmed and back: %x %d\n", old.ss_flags, old.ss_sp == stack.ss_sp);
    stack.ss_flags = 0, stack.ss_size = 100;
    say(sigaltstack(&stack, NULL));
    stack.ss_flags = 99, stack.ss_size = 65536;
    say(sigaltstack(&stack, NULL));
}

static void switch_mask(int signal, siginfo_t *info, void *context) {
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    printf("in handler: itself %d other %d\n", sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR2);
    (void)signal, (void)info;
}

static void mask_in_frame(void) {
    handle_with(SIGUSR1, switch_mask, 0);
    raise(SIGUSR1);
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    printf("after: itself %d other %d\n", sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
}

static ucontext_t main_context, contexts[2];
static char stacks[2][65536];

static void hop(int which) {
    for (int i = 0; i < 3; i++) {
        printf("context %d step %d\n", which, i);
        swapcontext(&contexts[which], &contexts[1 - which]);
    }
}

static void contexts_switch(void) {
    for (int i = 0; i < 2; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = sizeof stacks[i];
        contexts[i].uc_link = &main_context;
        makecontext(&contexts[i], (void (*)(void))hop, 1, i);
    }
    swapcontext(&main_context, &contexts[0]);
    puts("back in main");
}

static void frame_shape(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    char *frame = (char *)uc - 8;
    char *fp = (char *)uc->uc_mcontext.fpregs;
    uint32_t *software = (uint32_t *)(fp + 464);
    printf("aligned %d info at %td fp aligned %d flags %lx\n", (int)((uintptr_t)frame % 16), (char *)info - frame,
           (int)((uintptr_t)fp % 64), uc->uc_flags);
    printf("red zone %d\n", (char *)uc->uc_mcontext.gregs[REG_RSP] - 128 >= fp + software[1]);
    printf("magic %x extended %d magic2 %x\n", software[0], (int)(software[1] - software[4]),
           *(uint32_t *)(fp + software[4]));
    printf("fcw %x mxcsr %x x87 and sse in use %d\n", *(uint16_t *)fp, *(uint32_t *)(fp + 24),
           (int)(*(uint64_t *)(fp + 512) & 3));
    printf("segments %llx\n", uc->uc_mcontext.gregs[REG_CSGSFS]);
    (void)signal;
}

static void frame(void) {
    handle_with(SIGUSR1, frame_shape, 0);
    raise(SIGUSR1);
}

static int tampering;

static void tamper(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    char *fp = (char *)uc->uc_mcontext.fpregs;
    uint32_t *software = (uint32_t *)(fp + 464);
    uint64_t *header = (uint64_t *)(fp + 512);
    switch (tampering) {
    case 0: regs[REG_CSGSFS] = 0x0010002000080000 ^ 0x33; break;
    case 1: regs[REG_EFL] = 0x3000 | 1 << 17 | 1 << 14 | 1; break;     // IOPL, VM, NT
    case 2: header[0] = ~0UL; break;                                   // components that do not exist
    case 3: header[1] = 1UL << 63; break;                              // compacted
    case 4: memset(header + 2, 0xff, 48); break;                       // reserved
    case 5: *(uint32_t *)(fp + 24) = 0xffffffff; break;                // MXCSR
    case 6: software[0] = 0; break;                                    // no magic: 512 bytes count
    case 7: software[4] = 0xffffff, software[1] = 0xffffff + 4; break; // size
    case 8: *(uint32_t *)(fp + software[4]) = 0; break;                // no second magic
    case 9: uc->uc_mcontext.fpregs = (void *)(fp + 8); break;          // misaligned
    case 10: uc->uc_mcontext.fpregs = (void *)16; break;               // unmapped
    case 11: uc->uc_mcontext.fpregs = NULL; break;                     // initial state
    case 12: regs[REG_RIP] = 0x10; break;
    case 13: regs[REG_RIP] = 0x4141414141414141; break;
    case 14: uc->uc_mcontext.fpregs = (void *)0x7fffffffffff0000; break;
    case 15: memset(&uc->uc_sigmask, 0xff, 8), regs[REG_RIP] = 0x10; break;
    case 16: header[0] = 0; break; // everything initial
    case 17: *(uint64_t *)&software[2] = 1; break;
    }
    (void)signal, (void)info;
}

static void tampered(int signal, siginfo_t *info, void *context) {
    printf("fault %d code %d\n", signal, info->si_code);
    fflush(stdout);
    _exit(3);
    (void)context;
}

// Each in a child, so that all of them are seen.
static void tampered_frames(void) {
    for (tampering = 0; tampering < 18; tampering++) {
        fflush(stdout);
        pid_t child = fork();
        if (!child) {
            double x = 1.5, y;
            handle_with(SIGSEGV, tampered, 0);
            handle_with(SIGBUS, tampered, 0);
            handle_with(SIGUSR1, tamper, 0);
            raise(SIGUSR1);
            y = x * 2;
            printf("survived with %g\n", y);
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        printf("%d: exited %d with %d, signal %d\n", tampering, WIFEXITED(status), WEXITSTATUS(status),
               WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

static void bare_sigreturn(void) {
    handle_with(SIGSEGV, tampered, 0);
    asm volatile("mov $15, %%eax\n\tmov $0x18, %%rsp\n\tsyscall" ::: "memory");
}

static void no_restorer(void) {
    struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } action = {tick, SA_SIGINFO, 0, 0};
    handle_with(SIGSEGV, tampered, 0);
    syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
    raise(SIGUSR1);
}

static void forged_info(void) {
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE, .si_value = {.sival_int = 5}};
    say(syscall(SYS_rt_sigqueueinfo, getppid(), SIGCONT, &(siginfo_t){.si_code = SI_USER}));
    handle_with(SIGUSR1, print_info, 0);
    syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info);
    handle_with(SIGSEGV, print_info, 0);
    info.si_code = SEGV_MAPERR;
    printf("%ld\n", syscall(SYS_rt_sigqueueinfo, getpid(), SIGSEGV, &info));
    info.si_code = 77;
    printf("%ld\n", syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGSEGV, &info));
    handle_with(SIGSYS, print_info, 0);
    info.si_code = 2; // SYS_USER_DISPATCH
    info.si_call_addr = (void *)0x1234;
    printf("%ld\n", syscall(SYS_rt_sigqueueinfo, getpid(), SIGSYS, &info));
    kill(getpid(), SIGSYS);
    say(kill(getpid(), 65));
}

static void foreign_alternate_stack(void) {
    stack_t stack = {.ss_sp = (void *)0x7ffffff00000, .ss_size = 65536};
    printf("%d\n", sigaltstack(&stack, NULL));
    handle_with(SIGUSR1, tick, SA_ONSTACK);
    raise(SIGUSR1);
}

// Whatever a program blocks, ignores or waits for: a bad pointer is EFAULT, and a fault is a fault.
static void bad_pointers(void) {
    sigset_t all;
    struct timespec soon = {0, 1000000};
    sigfillset(&all);
    int signals[] = {SIGSEGV, SIGBUS, SIGSYS, SIGTRAP, SIGILL};
    for (int i = 0; i < 5; i++)
        signal(signals[i], SIG_IGN);
    sigprocmask(SIG_SETMASK, &all, NULL);
    say(write(1, (void *)16, 1));
    say(syscall(SYS_rt_sigaction, SIGUSR1, 16, NULL, 8));
    say(syscall(SYS_clock_gettime, 0, 16));
    say(syscall(SYS_sigaltstack, 16, NULL));
    say(sigtimedwait(&all, NULL, &soon));
    say(syscall(SYS_rt_sigpending, 16, 8));
    *(volatile int *)16 = 1;
}

// A signal that reaches a child in its first moment is its own, and not lost.
static void signals_to_new_children(void) {
    handle_with(SIGUSR1, tick, 0);
    mask(SIG_BLOCK, SIGUSR1);
    int good = 0;
    for (int i = 0; i < 40; i++) {
        raise(SIGUSR1); // pending in the parent only
        pid_t child = fork();
        if (!child) {
            sigset_t none;
            sigemptyset(&none);
            while (count < 1)
                sigsuspend(&none);
            _exit(count);
        }
        int status;
        kill(child, SIGUSR1);
        waitpid(child, &status, 0);
        good += WIFEXITED(status) && WEXITSTATUS(status) == 1;
    }
    printf("good %d, own %d", good, count);
    mask(SIG_UNBLOCK, SIGUSR1);
    printf(" then %d\n", count);
}

static void stop_and_continue(void) {
    pid_t child = fork();
    if (!child) {
        raise(SIGSTOP);
        _exit(4);
    }
    int status;
    waitpid(child, &status, WUNTRACED);
    printf("stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    printf("then exited with %d\n", WEXITSTATUS(status));
}

static void died(const char *what, int signal_number, void (*body)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        body();
        raise(signal_number);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    printf("%s: signalled %d by %d\n", what, WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void nothing(void) {}
static void default_again(void) {
    handle_with(SIGTERM, tick, 0);
    signal(SIGTERM, SIG_DFL);
}

static void default_deaths(void) {
    int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV, SIGPIPE, SIGALRM,
                     SIGTERM, SIGXCPU, SIGVTALRM, SIGPROF, SIGIO, SIGSYS, SIGRTMIN, SIGRTMAX};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        died("by default", signals[i], nothing);
    died("after a handler", SIGTERM, default_again);
}

static void child_tells(int signal, siginfo_t *info, void *context) {
    printf("child: code %d status %d\n", info->si_code, info->si_status);
    count++;
    (void)signal, (void)context;
}

static void children(void) {
    handle_with(SIGCHLD, child_tells, SA_RESTART);
    mask(SIG_BLOCK, SIGCHLD);
    sigset_t none;
    sigemptyset(&none);
    pid_t child = fork();
    if (!child)
        _exit(9);
    sigsuspend(&none);
    printf("%d\n", waitpid(child, NULL, 0) == child);
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (!child)
        _exit(9);
    say(waitpid(child, NULL, 0));
}

static const struct guest_case cases[] = {{"alarm_in_a_loop", alarm_in_a_loop},
                                    {"vectors_survive", vectors_survive},
                                    {"read_without_restart", read_without_restart},
                                    {"read_with_restart", read_with_restart},
                                    {"storm", storm},
                                    {"sleep_is_never_restarted", sleep_is_never_restarted},
                                    {"wait_with_restart", wait_with_restart},
                                    {"nested_handlers", nested_handlers},
                                    {"blocked_stay_pending", blocked_stay_pending},
                                    {"many_at_once", many_at_once},
                                    {"real_time_queue", real_time_queue},
                                    {"suspend", suspend},
                                    {"masks_of_calls", masks_of_calls},
                                    {"timed_wait", timed_wait},
                                    {"descriptor", descriptor},
                                    {"reset_and_flags", reset_and_flags},
                                    {"broken_pipe", broken_pipe},
                                    {"ignored_are_gone", ignored_are_gone},
                                    {"alternate_stacks", alternate_stacks},
                                    {"mask_in_frame", mask_in_frame},
                                    {"contexts_switch", contexts_switch},
                                    {"frame", frame},
                                    {"tampered_frames", tampered_frames},
                                    {"bare_sigreturn", bare_sigreturn},
                                    {"no_restorer", no_restorer},
                                    {"forged_info", forged_info},
                                    {"foreign_alternate_stack", foreign_alternate_stack},
                                    {"bad_pointers", bad_pointers},
                                    {"signals_to_new_children", signals_to_new_children},
                                    {"stop_and_continue", stop_and_continue},
                                    {"default_deaths", default_deaths},
                                    {"children", children},
                                    {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

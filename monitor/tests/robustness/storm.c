// Signals at 10 kHz into a program that computes, calls, forks and changes its code: each queued one arrives once and in
// order, and nothing that it interrupts goes wrong. argv[1] is how many are sent.
#include "../signals/guest.h"
#include "soak.h"

static long wanted;
static volatile long received, disorder, alarms, others, nested;
static volatile int depth;

static void take(int signal, siginfo_t *info, void *context) {
    nested += ++depth > 1;
    disorder += info->si_code != SI_QUEUE || info->si_value.sival_int != (int)received;
    received++;
    depth--;
    (void)signal, (void)context;
}

static void note_alarm(int signal, siginfo_t *info, void *context) {
    alarms++;
    asm volatile("pxor %%xmm0, %%xmm0\n\tpxor %%xmm7, %%xmm7\n\tpcmpeqd %%xmm8, %%xmm8" ::: "xmm0", "xmm7", "xmm8");
    (void)signal, (void)info, (void)context;
}

static void note_other(int signal, siginfo_t *info, void *context) {
    others++;
    (void)signal, (void)info, (void)context;
}

static void send_all(pid_t to) {
    for (long i = 0; i < wanted; i++) {
        while (sigqueue(to, SIGRTMIN, (union sigval){.sival_int = (int)i}) && errno == EAGAIN)
            usleep(1000);
        if (i % 4 == 0)
            kill(to, SIGUSR1);
        usleep(50);
    }
    _exit(0);
}

// Integer and floating-point work whose result is known.
static int computes(void) {
    double sum = 0, x = 1;
    unsigned hash = 2166136261u;
    for (int i = 0; i < 2000; i++) {
        sum += x, x *= 0.5;
        hash = (hash ^ (i & 255)) * 16777619u;
    }
    return sum == 2.0 && hash == 0x62f183d5u;
}

static int calls(const int *ends, int round) {
    unsigned char byte = round, got = 0;
    while (write(ends[1], &byte, 1) != 1)
        if (errno != EINTR)
            return 0;
    while (read(ends[0], &got, 1) != 1)
        if (errno != EINTR)
            return 0;
    return got == byte && getppid() > 0;
}

static int changes_code(unsigned char *code, int round) {
    // mov $round, %eax; ret
    code[0] = 0xb8, memcpy(code + 1, &round, 4), code[5] = 0xc3;
    return ((int (*)(void))code)() == round;
}

static int forks(int round) {
    int status;
    pid_t child = fork();
    if (!child)
        _exit(round & 63);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == (round & 63);
}

// Blocks for a moment what is sent, as locks in libraries do.
static int blocks(void) {
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    long before = received;
    for (volatile int i = 0; i < 300; i++)
        ;
    int is_quiet = before == received;
    sigprocmask(SIG_SETMASK, &old, NULL);
    return is_quiet;
}

static void run(int flags, long taken_before) {
    int ends[2];
    long failed[5] = {0};
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pipe(ends);
    struct sigaction action = {.sa_sigaction = take, .sa_flags = SA_SIGINFO | flags};
    sigaction(SIGRTMIN, &action, NULL);
    handle_with(SIGALRM, note_alarm, flags);
    handle_with(SIGUSR1, note_other, flags);
    received = disorder = alarms = others = nested = 0;
    fflush(stdout);
    pid_t self = getpid(), sender = fork();
    if (!sender)
        send_all(self);
    struct itimerval often = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &often, NULL);
    int round = 0;
    for (; received < wanted; round++) {
        checkpoint(taken_before + received, 2 * wanted);
        failed[0] += !computes();
        failed[1] += !calls(ends, round);
        failed[2] += round % 8 == 0 && !changes_code(code, round);
        failed[3] += round % 64 == 0 && !forks(round);
        failed[4] += !blocks();
    }
    set_timer(0, 0);
    munmap(code, 4096), close(ends[0]), close(ends[1]);
    while (waitpid(sender, NULL, 0) < 0 && errno == EINTR)
        ;
    printf("received %ld disorder %ld nested %ld alarms %d others %d\n", received, disorder, nested, alarms > 0,
           others > 0 && others <= (wanted + 3) / 4);
    printf("failed: computing %ld calling %ld changing %ld forking %ld blocking %ld\n", failed[0], failed[1], failed[2],
           failed[3], failed[4]);
}

int main(int argc, char **argv) {
    wanted = argc > 1 ? atol(argv[1]) : 2000;
    run(SA_RESTART, 0);
    run(0, wanted);
    checkpoint(2 * wanted, 2 * wanted);
    return 0;
}

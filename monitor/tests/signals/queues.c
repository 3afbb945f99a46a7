// What is pending: order, values, limits, and whom a signal was sent to.
#include "guest.h"
#include <sys/resource.h>

static volatile int count;
static volatile int order[64], values[64];

static void note(int signal, siginfo_t *info, void *context) {
    order[count & 63] = signal;
    values[count++ & 63] = info->si_value.sival_int;
    (void)context;
}

static void print_notes(void) {
    for (int i = 0; i < count; i++)
        printf("%d/%d ", order[i], values[i]);
    puts("");
    count = 0;
}

static void handle_blocking_all(int signal) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

static void block_all(sigset_t *old) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, old);
}

static void send(int signal, int value) {
    if (sigqueue(getpid(), signal, (union sigval){.sival_int = value}))
        perror("sigqueue");
}

// Lower numbers first, those of one number in the order in which they were sent (signal(7)).
static void real_time_order(void) {
    sigset_t old;
    block_all(&old);
    for (int signal = SIGRTMIN; signal < SIGRTMIN + 4; signal++)
        handle_blocking_all(signal);
    for (int i = 0; i < 12; i++)
        send(SIGRTMIN + (i * 7 + 3) % 4, i);
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
}

// The same with handlers that do not block each other: the last one entered runs first.
static void real_time_nesting(void) {
    sigset_t old;
    block_all(&old);
    for (int signal = SIGRTMIN; signal < SIGRTMIN + 4; signal++)
        handle_with(signal, note, 0);
    for (int i = 0; i < 12; i++)
        send(SIGRTMIN + (i * 7 + 3) % 4, i);
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
}

// Many more than any buffer of a monitor's holds, handlers that nest without end.
static void nodefer_flood(void) {
    sigset_t old;
    block_all(&old);
    handle_with(SIGRTMIN, note, SA_NODEFER);
    for (int i = 0; i < 60; i++)
        send(SIGRTMIN, i);
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
}

static void standard_order(void) {
    int signals[] = {SIGTERM, SIGHUP, SIGUSR2, SIGCHLD, SIGINT, SIGUSR1, SIGALRM, SIGWINCH};
    sigset_t old;
    block_all(&old);
    for (int i = 0; i < 8; i++)
        handle_blocking_all(signals[i]);
    for (int i = 0; i < 8; i++)
        kill(getpid(), signals[i]);
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
}

// What was sent to the thread comes before what was sent to the process.
static void thread_before_process(void) {
    sigset_t old;
    block_all(&old);
    handle_blocking_all(SIGRTMIN);
    handle_blocking_all(SIGRTMIN + 1);
    handle_blocking_all(SIGUSR1);
    send(SIGRTMIN, 1);
    siginfo_t info = {.si_code = SI_QUEUE, .si_value = {.sival_int = 2}};
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGRTMIN + 1, &info);
    info.si_value.sival_int = 3;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGUSR1, &info);
    sigset_t pending;
    sigpending(&pending);
    printf("%d%d%d\n", sigismember(&pending, SIGRTMIN), sigismember(&pending, SIGRTMIN + 1), sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
}

static void limit(void) {
    sigset_t old;
    block_all(&old);
    handle_blocking_all(SIGRTMIN);
    handle_blocking_all(SIGUSR1);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_SIGPENDING, &none);
    say(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}));
    say(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 1}));
    say(kill(getpid(), SIGUSR1));
    say(kill(getpid(), SIGRTMIN));
    say(kill(getpid(), SIGRTMIN));
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
    // One at a time is never lost, whatever the limit.
    say(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 2}));
    raise(SIGUSR1);
    print_notes();
}

static void waits_take_in_order(void) {
    sigset_t set;
    siginfo_t info;
    block_all(&set);
    send(SIGRTMIN + 1, 10);
    send(SIGRTMIN, 20);
    send(SIGRTMIN + 1, 11);
    kill(getpid(), SIGUSR1);
    sigfillset(&set);
    struct timespec now = {0, 0};
    while (sigtimedwait(&set, &info, &now) > 0)
        printf("%d/%d code %d ", info.si_signo, info.si_code == SI_QUEUE ? info.si_value.sival_int : 0, info.si_code);
    say(-1);
    struct timespec bad = {0, 1000000000}, negative = {-1, 0};
    say(sigtimedwait(&set, &info, &bad));
    say(sigtimedwait(&set, &info, &negative));
    say(syscall(SYS_rt_sigtimedwait, &set, &info, &now, 4));
    say(syscall(SYS_rt_sigtimedwait, (void *)16, &info, &now, 8));
    send(SIGUSR1, 5);
    say(syscall(SYS_rt_sigtimedwait, &set, (void *)16, &now, 8));
    say(sigtimedwait(&set, &info, &now));
}

// sigwaitinfo takes a signal that has a handler, also one that is not blocked and only comes during the wait.
static void wait_beats_handler(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    handle_with(SIGALRM, note, 0);
    set_timer(20, 0);
    printf("%d handled %d\n", sigwaitinfo(&set, &info), count);
    sigprocmask(SIG_BLOCK, &set, NULL);
    set_timer(20, 0);
    printf("%d handled %d\n", sigwaitinfo(&set, &info), count);
    mask(SIG_UNBLOCK, SIGALRM);
    set_timer(20, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    say(sigwaitinfo(&set, &info));
    printf("handled %d\n", count);
}

// The signals that instructions raise, sent by somebody, while they are blocked.
static void sent_faults(void) {
    int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t old, pending, set;
    siginfo_t info;
    block_all(&old);
    for (int i = 0; i < 6; i++) {
        handle_blocking_all(signals[i]);
        send(signals[i], i);
        send(signals[i], 10 + i);
    }
    sigpending(&pending);
    for (int i = 0; i < 6; i++)
        printf("%d", sigismember(&pending, signals[i]));
    puts(" pending");
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    printf("waited for %d", sigwaitinfo(&set, &info));
    printf(" value %d\n", info.si_value.sival_int);
    sigprocmask(SIG_SETMASK, &old, NULL);
    print_notes();
}

// Nothing that is pending is the child's; everything blocked stays blocked.
static void fork_inherits_masks_alone(void) {
    sigset_t old, pending, blocked;
    block_all(&old);
    send(SIGRTMIN, 1);
    raise(SIGUSR1);
    raise(SIGSEGV);
    if (!fork()) {
        sigpending(&pending);
        sigprocmask(SIG_BLOCK, NULL, &blocked);
        printf("child: %d%d%d blocked %d\n", sigismember(&pending, SIGRTMIN), sigismember(&pending, SIGUSR1),
               sigismember(&pending, SIGSEGV), sigismember(&blocked, SIGUSR1));
        exit(0);
    }
    wait(NULL);
    sigpending(&pending);
    printf("parent: %d%d%d\n", sigismember(&pending, SIGRTMIN), sigismember(&pending, SIGUSR1), sigismember(&pending, SIGSEGV));
}

// A child queues many values; each arrives once and in order.
static void every_value_arrives(void) {
    enum { MANY = 2000 };
    static volatile int received[MANY];
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t parent = getpid();
    if (!fork()) {
        for (int i = 0; i < MANY; i++)
            while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = i}) && errno == EAGAIN)
                usleep(100);
        _exit(0);
    }
    int disorder = 0, last = -1;
    for (int i = 0; i < MANY; i++) {
        sigwaitinfo(&set, &info);
        received[info.si_value.sival_int]++;
        disorder += info.si_value.sival_int != last + 1;
        last = info.si_value.sival_int;
    }
    int wrong = 0;
    for (int i = 0; i < MANY; i++)
        wrong += received[i] != 1;
    printf("wrong %d disorder %d\n", wrong, disorder);
}

static const struct guest_case cases[] = {{"real_time_order", real_time_order},
                                          {"real_time_nesting", real_time_nesting},
                                          {"nodefer_flood", nodefer_flood},
                                          {"standard_order", standard_order},
                                          {"thread_before_process", thread_before_process},
                                          {"limit", limit},
                                          {"waits_take_in_order", waits_take_in_order},
                                          {"wait_beats_handler", wait_beats_handler},
                                          {"sent_faults", sent_faults},
                                          {"fork", fork_inherits_masks_alone},
                                          {"every_value_arrives", every_value_arrives},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

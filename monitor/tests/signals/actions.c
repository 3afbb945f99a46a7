// What a process does about signals: the flags of sigaction, and what they change.
#include "guest.h"

#define RESTORER 0x04000000
#define UNSUPPORTED 0x400
#define EXPOSE_TAGBITS 0x800

static volatile int count, depth, deepest;

static void tick(int signal, siginfo_t *info, void *context) {
    count++;
    (void)signal, (void)info, (void)context;
}

static void print_action(int signal) {
    struct sigaction now;
    sigaction(signal, NULL, &now);
    printf("flags %x default %d ignored %d blocks USR1 %d USR2 %d KILL %d\n", now.sa_flags & ~RESTORER,
           now.sa_handler == SIG_DFL, now.sa_handler == SIG_IGN, sigismember(&now.sa_mask, SIGUSR1),
           sigismember(&now.sa_mask, SIGUSR2), sigismember(&now.sa_mask, SIGKILL));
}

// A program finds out what a kernel knows by setting SA_UNSUPPORTED, which none does (sigaction(2)).
static void flags_are_probed(void) {
    handle_with(SIGUSR1, tick, UNSUPPORTED | EXPOSE_TAGBITS);
    print_action(SIGUSR1);
    handle_with(SIGUSR1, tick, ~(RESTORER | SA_RESETHAND));
    print_action(SIGUSR1);
    struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } raw = {SIG_IGN, ~0UL & ~(unsigned long)RESTORER, 0, ~0UL}, now = {0};
    say(syscall(SYS_rt_sigaction, SIGUSR2, &raw, NULL, 8));
    say(syscall(SYS_rt_sigaction, SIGUSR2, NULL, &now, 8));
    printf("flags %lx mask %lx\n", now.flags, now.mask);
    say(syscall(SYS_rt_sigaction, SIGKILL, NULL, &now, 8));
    say(syscall(SYS_rt_sigaction, SIGSTOP, &raw, NULL, 8));
    say(syscall(SYS_rt_sigaction, 0, NULL, &now, 8));
    say(syscall(SYS_rt_sigaction, SIGUSR2, (void *)16, NULL, 8));
    // The action changes even if the old one cannot be told.
    raw.handler = SIG_DFL;
    say(syscall(SYS_rt_sigaction, SIGUSR2, &raw, (void *)16, 8));
    print_action(SIGUSR2);
}

static void again(int signal, siginfo_t *info, void *context) {
    if (++depth > deepest)
        deepest = depth;
    if (++count < 5)
        raise(signal);
    depth--;
    (void)info, (void)context;
}

static void nodefer_nests(void) {
    handle_with(SIGUSR1, again, SA_NODEFER);
    raise(SIGUSR1);
    printf("count %d deepest %d\n", count, deepest);
    count = deepest = 0;
    handle_with(SIGUSR1, again, 0);
    raise(SIGUSR1);
    printf("count %d deepest %d\n", count, deepest);
    // A handler that blocks its own signal in spite of SA_NODEFER.
    count = deepest = 0;
    struct sigaction action = {.sa_sigaction = again, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("count %d deepest %d\n", count, deepest);
}

static void once(int signal) {
    count++;
    print_action(signal);
}

static void resethand_resets_before_the_handler(void) {
    struct sigaction action = {.sa_handler = once, .sa_flags = SA_RESETHAND | SA_NODEFER | SA_RESTART};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    raise(SIGUSR1);
}

// Installing again what is installed, asking, and what differs in one word.
static void the_same_again(void) {
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_NODEFER}, old;
    sigaddset(&action.sa_mask, SIGUSR2);
    for (int i = 0; i < 3; i++) {
        memset(&old, 0x55, sizeof old);
        sigaction(SIGUSR1, &action, &old);
        printf("was ours %d flags %x blocks USR2 %d\n", old.sa_sigaction == tick, old.sa_flags & ~RESTORER,
               sigismember(&old.sa_mask, SIGUSR2));
        raise(SIGUSR1);
    }
    action.sa_flags |= SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    print_action(SIGUSR1);
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    print_action(SIGUSR1);
    action.sa_sigaction = again;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("count %d\n", count);
    // A handler that resets itself is not there any more.
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    for (int i = 0; i < 3; i++) {
        sigaction(SIGUSR1, &action, &old);
        printf("was default %d\n", old.sa_handler == SIG_DFL);
        raise(SIGUSR1);
    }
    pid_t child = vfork();
    if (!child) {
        signal(SIGUSR1, SIG_IGN);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    print_action(SIGUSR1);
    say(syscall(SYS_rt_sigaction, SIGUSR1, (void *)16, NULL, 8));
    say(syscall(SYS_rt_sigaction, SIGUSR1, NULL, (void *)16, 8));
    say(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
}

static void plain(int signal) {
    printf("plain handler: %d\n", signal);
}

static void handlers_without_siginfo(void) {
    signal(SIGUSR1, plain);
    raise(SIGUSR1);
    printf("was ours: %d\n", signal(SIGUSR1, SIG_IGN) == plain);
    printf("was ignored: %d\n", signal(SIGUSR1, SIG_DFL) == SIG_IGN);
}

static volatile int codes[8];

static void note_code(int signal, siginfo_t *info, void *context) {
    codes[count++ & 7] = info->si_code;
    (void)signal, (void)context;
}

static int go_on[2];

// A child that stops, and ends when it may go on.
static pid_t stopping_child(void) {
    char byte;
    pipe(go_on);
    pid_t child = fork();
    if (!child) {
        raise(SIGSTOP);
        read(go_on[0], &byte, 1);
        _exit(3);
    }
    return child;
}

// Stops and continues a child, and prints the codes of the SIGCHLDs that came.
static void child_stops(const char *what) {
    int status;
    count = 0;
    pid_t child = stopping_child();
    while (waitpid(child, &status, WUNTRACED) < 0)
        ;
    printf("%s: stopped %d", what, WIFSTOPPED(status));
    kill(child, SIGCONT);
    while (waitpid(child, &status, WCONTINUED) < 0)
        ;
    printf(" continued %d", WIFCONTINUED(status));
    write(go_on[1], "x", 1);
    while (waitpid(child, &status, 0) < 0)
        ;
    printf(" exited %d:", WEXITSTATUS(status));
    for (int i = 0; i < count; i++)
        printf(" %d", codes[i]);
    puts("");
}

static void nocldstop_hides_stops(void) {
    handle_with(SIGCHLD, note_code, SA_NOCLDSTOP);
    child_stops("hidden");
    handle_with(SIGCHLD, note_code, 0);
    count = 0;
    pid_t child = stopping_child();
    while (count < 1)
        usleep(1000);
    kill(child, SIGCONT);
    while (count < 2)
        usleep(1000);
    write(go_on[1], "x", 1);
    while (count < 3)
        usleep(1000);
    printf("codes %d %d %d\n", codes[0], codes[1], codes[2]);
}

static void nocldwait_leaves_no_zombies(void) {
    handle_with(SIGCHLD, note_code, SA_NOCLDWAIT | SA_RESTART);
    for (int i = 0; i < 3; i++) {
        if (!fork())
            _exit(i);
        say(wait(NULL));
    }
    printf("signals came: %d\n", count > 0);
    signal(SIGCHLD, SIG_DFL);
    if (!fork())
        _exit(7);
    int status;
    wait(&status);
    printf("%d\n", WEXITSTATUS(status));
}

// An ignored disposition and a blocked signal go through exec, a handler does not.
static void exec_keeps_what_is_ignored_or_blocked(void) {
    signal(SIGUSR1, SIG_IGN);
    handle_with(SIGUSR2, tick, 0);
    signal(SIGSEGV, SIG_IGN);
    handle_with(SIGBUS, tick, 0);
    mask(SIG_BLOCK, SIGHUP);
    mask(SIG_BLOCK, SIGTRAP);
    raise(SIGHUP);
    execl("/proc/self/exe", "again", "after_exec", NULL);
}

static void after_exec(void) {
    int signals[] = {SIGUSR1, SIGUSR2, SIGSEGV, SIGBUS, SIGHUP, SIGTRAP};
    sigset_t blocked, pending;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    sigpending(&pending);
    for (int i = 0; i < 6; i++) {
        struct sigaction now;
        sigaction(signals[i], NULL, &now);
        printf("%d: ignored %d default %d blocked %d pending %d\n", signals[i], now.sa_handler == SIG_IGN,
               now.sa_handler == SIG_DFL, sigismember(&blocked, signals[i]), sigismember(&pending, signals[i]));
    }
}

static const struct guest_case cases[] = {{"flags_are_probed", flags_are_probed},
                                          {"nodefer_nests", nodefer_nests},
                                          {"resethand", resethand_resets_before_the_handler},
                                          {"the_same_again", the_same_again},
                                          {"plain_handlers", handlers_without_siginfo},
                                          {"nocldstop", nocldstop_hides_stops},
                                          {"nocldwait", nocldwait_leaves_no_zombies},
                                          {"exec", exec_keeps_what_is_ignored_or_blocked},
                                          {"after_exec", after_exec},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

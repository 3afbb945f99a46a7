// What the guests of monitor/tests/signals.rs share: a table of cases, one of which argv[1] names.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

struct guest_case {
    const char *name;
    void (*run)(void);
};

// Prints what a call gave, and why it failed.
static void say(long result) {
    printf("%ld%s%s\n", result, result < 0 ? " " : "", result < 0 ? strerror(errno) : "");
}

// Runs the case that argv[1] names; `--list` prints them all.
static int run_case(const struct guest_case *cases, int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int is_list = argc > 1 && !strcmp(argv[1], "--list");
    for (; argc > 1 && cases->name; cases++) {
        if (is_list)
            puts(cases->name);
        if (!strcmp(cases->name, argv[1])) {
            cases->run();
            return 0;
        }
    }
    return is_list ? 0 : 99;
}

static void handle_with(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, NULL))
        perror("sigaction");
}

static void set_timer(long first_ms, long interval_ms) {
    struct itimerval timer = {{interval_ms / 1000, interval_ms % 1000 * 1000}, {first_ms / 1000, first_ms % 1000 * 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void mask(int how, int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(how, &set, NULL);
}

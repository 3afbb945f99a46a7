// What the guests of threads.rs share. A case is chosen by argv[1].
#ifndef THREADS_GUEST_H
#define THREADS_GUEST_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef void *(*body)(void *);

struct test_case {
    const char *name;
    void (*run)(char **argv);
};

static pthread_t start(body function, void *argument) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, function, argument);
    if (error) {
        printf("pthread_create: %s\n", strerror(error));
        exit(1);
    }
    return thread;
}

static long join(pthread_t thread) {
    void *result = NULL;
    int error = pthread_join(thread, &result);
    if (error)
        printf("pthread_join: %s\n", strerror(error));
    return (long)result;
}

static int own_tid(void) { return syscall(SYS_gettid); }

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
}

// Waits until a thread of this process sleeps: an id that is stored here comes first.
static void await_sleep(atomic_int *tid) {
    char path[64], text[512] = "", *state = NULL;
    while (!*tid)
        sched_yield();
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", *tid);
    while (!state || state[2] != 'S') {
        sched_yield();
        int file = open(path, O_RDONLY);
        text[read(file, text, sizeof text - 1)] = 0;
        close(file);
        state = strrchr(text, ')');
    }
    sleep_ms(1);
}

static long futex(void *word, int operation, unsigned value, const void *timeout, void *second, unsigned third) {
    return syscall(SYS_futex, word, operation, value, timeout, second, third);
}

static void print_status(const char *what, int status) {
    printf("%s: exited %d with %d, signalled %d by %d\n", what, WIFEXITED(status), WEXITSTATUS(status),
           WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

// Runs `function` in a forked child and says how it ended.
static void in_child(const char *what, void (*function)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        alarm(20);
        function();
        fflush(stdout);
        _exit(99);
    }
    int status = -1;
    waitpid(child, &status, 0);
    print_status(what, status);
}

static int run_case(const struct test_case *cases, char **argv) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (; cases->name; cases++)
        if (!strcmp(cases->name, argv[1])) {
            cases->run(argv);
            return fflush(stdout);
        }
    return 77;
}
#endif

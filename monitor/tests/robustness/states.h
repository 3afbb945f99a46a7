// Threads in every state in which they can end or be killed.
#include "../threads/guest.h"
#include <linux/futex.h>

static atomic_int ready;
// In shared memory: outlives those who hold it.
static pthread_mutex_t *robust;

static void is_ready(void) { ready++; }

static void *computing(void *argument) {
    volatile double x = 1;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    is_ready();
    for (;;)
        x = x * 1.0001 + 1;
}

static void *blocked_in_a_call(void *argument) {
    int ends[2];
    char byte;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pipe(ends);
    pthread_cleanup_push((void (*)(void *))(void *)close, (void *)(long)ends[0]);
    pthread_cleanup_push((void (*)(void *))(void *)close, (void *)(long)ends[1]);
    is_ready();
    read(ends[0], &byte, 1);
    pthread_cleanup_pop(1);
    pthread_cleanup_pop(1);
    return NULL;
}

static void *in_a_futex(void *argument) {
    static int word;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    is_ready();
    for (;;)
        futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void stay(int signal) {
    is_ready();
    for (volatile int i = 0;; i++)
        ;
}

static void *in_a_handler(void *argument) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_kill(pthread_self(), SIGUSR1);
    return NULL;
}

static void *holding_a_robust_lock(void *argument) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    if (pthread_mutex_lock(robust) == EOWNERDEAD)
        pthread_mutex_consistent(robust);
    is_ready();
    for (;;)
        pause();
}

static void *changing_code(void *argument) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    is_ready();
    for (int i = 0;; i++) {
        code[0] = 0xb8, memcpy(code + 1, &i, 4), code[5] = 0xc3;
        if (((int (*)(void))code)() != i)
            abort();
    }
}

static void *mapping(void *argument) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    is_ready();
    for (;;) {
        char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[1] = 1;
        mprotect(page, 4096, PROT_READ);
        munmap(page, 8192);
    }
}

static void *waiting_for_signals(void *argument) {
    sigset_t none;
    sigemptyset(&none);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    is_ready();
    for (;;)
        sigsuspend(&none);
}

static const body states[] = {
    computing, blocked_in_a_call, in_a_futex, in_a_handler, holding_a_robust_lock, waiting_for_signals,
    // Those that hold on to what only the process's end gives back.
    changing_code, mapping,
};
enum { STATES = sizeof states / sizeof *states, GIVES_BACK = STATES - 2 };

// A lock that nobody holds.
static void renew_lock(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(robust, &attributes);
}

static void prepare(void) {
    struct sigaction action = {.sa_handler = stay};
    sigaction(SIGUSR1, &action, NULL);
    robust = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    renew_lock();
}

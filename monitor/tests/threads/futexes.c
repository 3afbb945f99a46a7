// Futexes in all operations, robust and priority-inheriting locks, between threads and between processes.
#include "guest.h"
#include <linux/futex.h>

static uint32_t *words;
static atomic_int ready, waiting;

struct waiter {
    uint32_t *word, value;
    int operation;
    uint32_t bits;
};

static void *wait_on(void *argument) {
    struct waiter *waiter = argument;
    waiting = own_tid();
    long result = futex(waiter->word, waiter->operation, waiter->value, NULL, NULL, waiter->bits);
    return (void *)(result < 0 ? -(long)errno : result);
}

// Starts a waiter and lets it get to sleep.
static pthread_t sleeper(struct waiter *waiter) {
    waiting = 0;
    pthread_t thread = start(wait_on, waiter);
    await_sleep(&waiting);
    return thread;
}

static void waits(int private) {
    struct waiter plain = {&words[0], 0, FUTEX_WAIT | private};
    pthread_t thread = sleeper(&plain);
    printf("wake %ld", futex(&words[0], FUTEX_WAKE | private, 1, NULL, NULL, 0));
    printf(" %ld\n", join(thread));
    struct waiter wrong = {&words[0], 1, FUTEX_WAIT | private};
    printf("other value: %s\n", strerror(-(int)join(start(wait_on, &wrong))));
    struct timespec little = {0, 2000000};
    printf("timeout %ld", futex(&words[0], FUTEX_WAIT | private, 0, &little, NULL, 0));
    printf(" %s\n", strerror(errno));
    struct waiter some = {&words[0], 0, FUTEX_WAIT_BITSET | private, 2};
    thread = sleeper(&some);
    printf("other bits %ld", futex(&words[0], FUTEX_WAKE_BITSET | private, 1, NULL, NULL, 4));
    printf(" these %ld", futex(&words[0], FUTEX_WAKE_BITSET | private, 1, NULL, NULL, 6));
    printf(" %ld\n", join(thread));
}

static void requeues(int private) {
    struct waiter waiter = {&words[0], 0, FUTEX_WAIT | private};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = sleeper(&waiter);
    printf("requeue %ld", futex(&words[0], FUTEX_REQUEUE | private, 1, (void *)1, &words[1], 0));
    printf(" wrong %ld", futex(&words[0], FUTEX_CMP_REQUEUE | private, 0, (void *)1, &words[1], 7));
    printf(" right %ld", futex(&words[0], FUTEX_CMP_REQUEUE | private, 0, (void *)1, &words[1], 0));
    printf(" wake %ld\n", futex(&words[1], FUTEX_WAKE | private, 5, NULL, NULL, 0));
    for (int i = 0; i < 3; i++)
        join(threads[i]);
    words[1] = 5;
    struct waiter first = {&words[0], 0, FUTEX_WAIT | private}, second = {&words[1], 5, FUTEX_WAIT | private};
    threads[0] = sleeper(&first);
    threads[1] = sleeper(&second);
    // words[1] += 3, and wake there too, as it was 5.
    int operation = FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5);
    printf("wake_op %ld", futex(&words[0], FUTEX_WAKE_OP | private, 1, (void *)1, &words[1], operation));
    printf(" word %d\n", words[1]);
    join(threads[0]);
    join(threads[1]);
    words[1] = 0;
}

static void *lock_pi(void *argument) {
    int private = (long)argument;
    waiting = own_tid();
    long locked = futex(&words[2], FUTEX_LOCK_PI | private, 0, NULL, NULL, 0);
    long owns = (words[2] & FUTEX_TID_MASK) == own_tid();
    return (void *)(locked * 100 + owns * 10 + futex(&words[2], FUTEX_UNLOCK_PI | private, 0, NULL, NULL, 0));
}

static void inheritance(int private) {
    words[2] = 0;
    printf("lock_pi %ld", futex(&words[2], FUTEX_LOCK_PI | private, 0, NULL, NULL, 0));
    printf(" owns %d", (words[2] & FUTEX_TID_MASK) == own_tid());
    waiting = 0;
    pthread_t thread = start(lock_pi, (void *)(long)private);
    await_sleep(&waiting);
    printf(" waiters %d", !!(words[2] & FUTEX_WAITERS));
    printf(" unlock %ld", futex(&words[2], FUTEX_UNLOCK_PI | private, 0, NULL, NULL, 0));
    printf(" other %ld", join(thread));
    printf(" try %ld", futex(&words[2], FUTEX_TRYLOCK_PI | private, 0, NULL, NULL, 0));
    printf(" %ld\n", futex(&words[2], FUTEX_UNLOCK_PI | private, 0, NULL, NULL, 0));
}

struct waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static void *wait_on_many(void *argument) {
    struct waitv waiters[2] = {{0, (uintptr_t)&words[0], 2 | 128}, {0, (uintptr_t)&words[1], 2 | 128}};
    waiting = own_tid();
    return (void *)syscall(449, waiters, 2, 0, NULL, CLOCK_MONOTONIC);
}

static void *wait_new(void *argument) {
    waiting = own_tid();
    return (void *)syscall(455, &words[0], 0, 1, 2 | 128, NULL, CLOCK_MONOTONIC);
}

static void newer(void) {
    for (int i = 0; i < 2; i++) {
        waiting = 0;
        pthread_t thread = start(wait_on_many, NULL);
        await_sleep(&waiting);
        printf("waitv: wake %ld", futex(&words[i], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
        printf(" index %ld\n", join(thread));
    }
    waiting = 0;
    pthread_t thread = start(wait_new, NULL);
    await_sleep(&waiting);
    struct waitv pair[2] = {{0, (uintptr_t)&words[0], 2 | 128}, {0, (uintptr_t)&words[1], 2 | 128}};
    printf("futex_requeue %ld", syscall(456, pair, 0, 0, 1));
    printf(" futex_wake %ld", syscall(454, &words[1], 1, 1, 2 | 128));
    printf(" %ld\n", join(thread));
}

static void errors(void) {
    struct timespec zero = {0, 0};
    printf("%ld", futex((void *)1, FUTEX_WAIT, 0, &zero, NULL, 0));
    printf(" %s,", strerror(errno));
    printf(" %ld", futex((void *)0x7fff00000000, FUTEX_WAKE_OP, 0, NULL, words, 0));
    printf(" %s,", strerror(errno));
    printf(" %ld", futex(words, 99, 0, NULL, NULL, 0));
    printf(" %s\n", strerror(errno));
}

static void operations(char **argv) {
    words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int private = 0; private <= FUTEX_PRIVATE_FLAG; private += FUTEX_PRIVATE_FLAG) {
        waits(private);
        requeues(private);
        inheritance(private);
    }
    newer();
    errors();
}

struct locks {
    pthread_mutex_t plain, inheriting;
    pthread_cond_t cond;
    int count;
};

static struct locks *shared_locks(void) {
    struct locks *locks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_condattr_t cond;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&locks->plain, &attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&locks->inheriting, &attributes);
    pthread_condattr_init(&cond);
    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&locks->cond, &cond);
    return locks;
}

static void *die_with_locks(void *argument) {
    struct locks *locks = argument;
    pthread_mutex_lock(&locks->plain);
    pthread_mutex_lock(&locks->inheriting);
    ready++;
    sleep_ms(10);
    return NULL;
}

static void take_over(const char *who, pthread_mutex_t *mutex) {
    int error = pthread_mutex_lock(mutex);
    printf("%s: %s", who, strerror(error));
    if (error == EOWNERDEAD)
        printf(" %d", pthread_mutex_consistent(mutex));
    printf(" %d\n", pthread_mutex_unlock(mutex));
}

static void robust(char **argv) {
    struct locks *locks = shared_locks();
    void *head = NULL;
    size_t length = 0;
    // Whoever waits while the owner dies, and whoever comes later, learn of it.
    for (int wait = 0; wait < 2; wait++) {
        ready = 0;
        pthread_t thread = start(die_with_locks, locks);
        while (!ready)
            sched_yield();
        if (wait)
            join(thread);
        take_over("thread", &locks->plain);
        take_over("thread, inheriting", &locks->inheriting);
        if (!wait)
            join(thread);
    }
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        die_with_locks(locks);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    take_over("process", &locks->plain);
    take_over("process, inheriting", &locks->inheriting);
    // Another thread of it holds them when it ends.
    fflush(stdout);
    child = fork();
    if (!child) {
        ready = 0;
        start(die_with_locks, locks);
        while (!ready)
            sched_yield();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    take_over("thread of a process", &locks->plain);
    printf("get %ld", syscall(SYS_get_robust_list, 0, &head, &length));
    printf(" length %zu", length);
    printf(" bad length %ld", syscall(SYS_set_robust_list, head, 23));
    printf(" nobody %ld", syscall(SYS_get_robust_list, 0x3ffffff, &head, &length));
    printf(" %s\n", strerror(errno));
}

static void between_processes(char **argv) {
    struct locks *locks = shared_locks();
    pid_t child = fork();
    for (int i = 0; i < 300; i++) {
        pthread_mutex_lock(&locks->plain);
        while (locks->count % 2 != (child == 0))
            pthread_cond_wait(&locks->cond, &locks->plain);
        locks->count++;
        pthread_cond_signal(&locks->cond);
        pthread_mutex_unlock(&locks->plain);
    }
    if (!child)
        _exit(0);
    waitpid(child, NULL, 0);
    printf("count %d\n", locks->count);
}

static volatile sig_atomic_t caught;
static void note(int signal) { caught++; }

static void *interrupt(void *argument) {
    sleep_ms(10);
    for (int i = 0; !ready; i++) {
        pthread_kill(*(pthread_t *)argument, SIGUSR1);
        sleep_ms(2);
    }
    return NULL;
}

// A wait for a word ends with a signal, and goes on after one with SA_RESTART.
static void interrupted(char **argv) {
    uint32_t word = 0;
    struct sigaction action = {.sa_handler = note};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t self = pthread_self(), thread = start(interrupt, &self);
    printf("%ld", futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
    printf(" %s, caught %d\n", strerror(errno), caught > 0);
    ready = 1;
    join(thread);
    ready = caught = 0;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    struct timespec time = {0, 50000000};
    thread = start(interrupt, &self);
    printf("%ld", futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0));
    printf(" %s, caught %d\n", strerror(errno), caught > 0);
    ready = 1;
    join(thread);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"operations", operations}, {"robust", robust}, {"between_processes", between_processes},
        {"interrupted", interrupted}, {NULL, NULL},
    };
    return run_case(cases, argv);
}

// Threads as the C library makes them: births, joins, locks, thread-local storage, signals to a thread.
#include "guest.h"
#include <sys/prctl.h>
#include <sys/resource.h>

static void *twice(void *argument) { return (void *)(2 * (long)argument); }

static void create_join(char **argv) {
    pthread_t threads[8];
    for (long i = 0; i < 8; i++)
        threads[i] = start(twice, (void *)i);
    for (int i = 0; i < 8; i++)
        printf("%ld\n", join(threads[i]));
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static long counter, turn;

static void *count(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *take_turns(void *argument) {
    long me = (long)argument;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 3 != me)
            pthread_cond_wait(&cond, &mutex);
        turn++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *read_and_write(void *argument) {
    long bad = 0;
    for (int i = 0; i < 2000; i++) {
        if (i % 10 == 0) {
            pthread_rwlock_wrlock(&rwlock);
            counter += 2;
        } else {
            pthread_rwlock_rdlock(&rwlock);
            bad += counter % 2;
        }
        pthread_rwlock_unlock(&rwlock);
    }
    return (void *)bad;
}

static void *meet(void *argument) {
    long serial = 0;
    for (int i = 0; i < 200; i++)
        serial += pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
    return (void *)serial;
}

static long all(int number, body function) {
    pthread_t threads[8];
    long sum = 0;
    for (long i = 0; i < number; i++)
        threads[i] = start(function, (void *)i);
    for (int i = 0; i < number; i++)
        sum += join(threads[i]);
    return sum;
}

static void locks(char **argv) {
    all(4, count);
    printf("mutex %ld\n", counter);
    all(3, take_turns);
    printf("turns %ld\n", turn);
    counter = 0;
    printf("torn %ld", all(4, read_and_write));
    printf(" of %ld\n", counter);
    pthread_barrier_init(&barrier, NULL, 4);
    printf("serial %ld\n", all(4, meet));
    struct timespec when;
    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_nsec = (when.tv_nsec + 20000000) % 1000000000;
    when.tv_sec += when.tv_nsec < 20000000;
    pthread_mutex_lock(&mutex);
    printf("timed wait: %s\n", strerror(pthread_cond_timedwait(&cond, &mutex, &when)));
    printf("%s\n", strerror(pthread_mutex_trylock(&mutex)));
}

static __thread int own_variable = 5;
static __thread char zeroed[4096];
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int destroyed, initialised;

static void destroy(void *value) { destroyed += (long)value; }
static void initialise(void) { initialised++; }

static void *use_storage(void *argument) {
    long bad = own_variable != 5 || zeroed[4095] || errno;
    own_variable = (long)argument;
    zeroed[4095] = 1;
    errno = 1000 + (long)argument;
    pthread_setspecific(key, argument);
    pthread_once(&once, initialise);
    sched_yield();
    return (void *)(bad + (own_variable != (long)argument) + (errno != 1000 + (long)argument));
}

static void storage(char **argv) {
    pthread_key_create(&key, destroy);
    printf("bad %ld\n", all(8, use_storage));
    printf("own %d, destroyed %d, initialised %d\n", own_variable, destroyed, initialised);
}

static atomic_int caught_by, ready, has_seen_it;
static volatile sig_atomic_t on_alternate;
static char alternate[65536];

static void note(int signal, siginfo_t *info, void *context) {
    char here;
    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    caught_by = own_tid();
}

static void *wait_for_signal(void *argument) {
    sigset_t set, old;
    stack_t now;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, NULL, &old);
    sigaltstack(NULL, &now);
    printf("inherits the mask %d, no alternate stack %d\n", sigismember(&old, SIGUSR2), now.ss_flags == SS_DISABLE);
    stack_t stack = {alternate, 0, sizeof alternate};
    if (argument)
        sigaltstack(&stack, NULL);
    ready = own_tid();
    while (!caught_by)
        pause();
    has_seen_it = 1;
    printf("here %d, on the alternate stack %d\n", caught_by == own_tid(), on_alternate);
    int number = 0;
    sigwait(&set, &number);
    printf("waited for %d\n", number == SIGUSR2);
    return NULL;
}

static void signals(char **argv) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (long i = 0; i < 2; i++) {
        caught_by = ready = has_seen_it = 0;
        pthread_t thread = start(wait_for_signal, (void *)i);
        while (!ready)
            sched_yield();
        // It may be told before it pauses.
        while (!has_seen_it) {
            pthread_kill(thread, SIGUSR1);
            sleep_ms(1);
        }
        pthread_kill(thread, SIGUSR2);
        join(thread);
    }
    // Its id may live a little longer than it can be waited for.
    while (!syscall(SYS_tgkill, getpid(), ready, 0))
        sched_yield();
    printf("no such thread: %s\n", strerror(errno));
    printf("other group: %ld", syscall(SYS_tgkill, getppid(), own_tid(), 0));
    printf(" %s\n", strerror(errno));
    siginfo_t info = {.si_code = SI_QUEUE, .si_value.sival_int = 4711};
    printf("queued %ld\n", syscall(SYS_rt_tgsigqueueinfo, getpid(), own_tid(), SIGUSR2, &info));
    sigwaitinfo(&set, &info);
    printf("value %d\n", info.si_value.sival_int);
}

// A signal to the process is caught by a thread that lets it through.
static void *let_through(void *argument) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    ready = own_tid();
    while (!caught_by)
        sleep_ms(1);
    return (void *)(long)(caught_by == own_tid());
}

static void process_signals(char **argv) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t thread = start(let_through, NULL);
    while (!ready)
        sched_yield();
    kill(getpid(), SIGUSR1);
    printf("caught by the other: %ld\n", join(thread));
}

static void *fault(void *argument) {
    *(volatile int *)argument = 1;
    return NULL;
}

static void *page;
static atomic_int faults;

static void repair(int signal, siginfo_t *info, void *context) {
    faults++;
    if (info->si_addr == page)
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void thread_faults(char **argv) {
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    join(start(fault, page));
    printf("value %d, faults %d\n", *(int *)page, faults);
}

static void *name_itself(void *argument) {
    char name[16], path[64], text[64] = "";
    snprintf(name, sizeof name, "thread-%ld", (long)argument);
    prctl(PR_SET_NAME, name);
    int file = open("/proc/thread-self/comm", O_RDONLY);
    read(file, text, sizeof text);
    close(file);
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", own_tid());
    char stat[512] = "", shown[32];
    file = open(path, O_RDONLY);
    read(file, stat, sizeof stat - 1);
    close(file);
    snprintf(shown, sizeof shown, "%d (%s)", own_tid(), name);
    return (void *)(long)(strncmp(text, name, strlen(name)) != 0 || strncmp(stat, shown, strlen(shown)) != 0);
}

static void names(char **argv) {
    printf("bad %ld\n", all(4, name_itself));
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    printf("first %s\n", strncmp(name, "thread-", 7) ? "kept its name" : name);
}

static long resident(void) {
    long size = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    fscanf(file, "%ld %ld", &size, &pages);
    fclose(file);
    return pages * 4;
}

// Threads come and go; memory stays.
static void many(char **argv) {
    int number = atoi(argv[2]);
    long sum = 0, before = 0;
    for (int i = 0; i < number; i++) {
        sum += join(start(twice, (void *)1));
        if (i == number / 4)
            before = resident();
    }
    long grown = resident() - before;
    printf("%ld, memory %s\n", sum, grown < 4096 ? "flat" : "grows");
    if (grown >= 4096)
        printf("by %ld KiB\n", grown);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < number / 10; i++) {
        pthread_t thread;
        while (pthread_create(&thread, &detached, twice, NULL))
            sched_yield();
    }
    puts("done");
}

// Many at once, each with something in its registers and its own stack.
enum { WAIT_PRIVATE = 128, WAKE_PRIVATE = 129 };
static atomic_int go;
static void *hold(void *argument) {
    volatile double sum = 0;
    char big[10000];
    memset(big, (int)(long)argument, sizeof big);
    while (!go)
        futex(&go, WAIT_PRIVATE, 0, NULL, NULL, 0);
    for (int i = 0; i < 10000; i++)
        sum += big[i] == (char)(long)argument;
    return (void *)(long)sum;
}

static void crowd(char **argv) {
    enum { number = 200 };
    pthread_t threads[number];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (long i = 0; i < number; i++)
        if (pthread_create(&threads[i], &small, hold, (void *)i))
            puts("pthread_create failed");
    go = 1;
    futex(&go, WAKE_PRIVATE, number, NULL, NULL, 0);
    long sum = 0;
    for (int i = 0; i < number; i++)
        sum += join(threads[i]);
    printf("%ld\n", sum);
}

// A thread maps and unmaps while others do; nobody's memory is another's.
static void *churn(void *argument) {
    long bad = 0;
    for (int i = 1; i <= 300; i++) {
        size_t length = 4096 * (1 + i % 7);
        unsigned char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(at, (int)(long)argument + 1, length);
        sched_yield();
        for (size_t j = 0; j < length; j += 512)
            bad += at[j] != (unsigned char)((long)argument + 1);
        if (i % 3 == 0)
            mprotect(at, 4096, PROT_READ);
        munmap(at, length);
        char *block = malloc(length * 3);
        memset(block, 1, length * 3);
        free(block);
    }
    return (void *)bad;
}

static void mappings(char **argv) { printf("bad %ld\n", all(4, churn)); }

static void scheduling(char **argv) {
    cpu_set_t set;
    printf("%d", sched_getaffinity(own_tid(), sizeof set, &set));
    printf(" %d", pthread_setaffinity_np(pthread_self(), sizeof set, &set));
    struct sched_param parameters = {0};
    printf(" %d %d\n", sched_getscheduler(0), sched_setscheduler(own_tid(), SCHED_BATCH, &parameters));
    printf("%ld\n", syscall(SYS_membarrier, 0, 0, 0) > 0);
    printf("%ld", syscall(SYS_membarrier, 1 << 4, 0, 0));
    printf(" %ld\n", syscall(SYS_membarrier, 1 << 3, 0, 0));
    printf("%ld %d\n", syscall(SYS_set_tid_address, &go) == own_tid(), getpriority(PRIO_PROCESS, own_tid()));
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"create_join", create_join}, {"locks", locks},         {"storage", storage},
        {"signals", signals},         {"process_signals", process_signals},
        {"faults", thread_faults},    {"names", names},         {"many", many},
        {"crowd", crowd},             {"mappings", mappings},   {"scheduling", scheduling},
        {NULL, NULL},
    };
    return run_case(cases, argv);
}

// Signals of a process with several threads: whom they reach, and that none is lost when a thread ends.
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

static atomic_int count, in_main, elsewhere;
static pthread_t main_thread;

static void note(int signal, siginfo_t *info, void *context) {
    atomic_fetch_add(pthread_equal(pthread_self(), main_thread) ? &in_main : &elsewhere, 1);
    atomic_fetch_add(&count, 1);
    (void)signal, (void)info, (void)context;
}

static void wait_for(int wanted) {
    while (atomic_load(&count) < wanted)
        usleep(500);
}

static void block(int how, int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(how, &set, NULL);
}

static atomic_int ready, done;

static void *unblocked(void *unused) {
    block(SIG_UNBLOCK, SIGUSR1);
    atomic_store(&ready, 1);
    while (!atomic_load(&done))
        ;
    return unused;
}

// A signal to the process reaches the one thread that lets it through, even if that makes no call.
static void reaches_who_lets_it_through(void) {
    pthread_t thread;
    handle_with(SIGUSR1, note, 0);
    block(SIG_BLOCK, SIGUSR1);
    pthread_create(&thread, NULL, unblocked, NULL);
    while (!atomic_load(&ready))
        usleep(100);
    for (int i = 1; i <= 20; i++) {
        kill(getpid(), SIGUSR1);
        wait_for(i);
    }
    atomic_store(&done, 1);
    pthread_join(thread, NULL);
    printf("main %d elsewhere %d\n", in_main, elsewhere);
    kill(getpid(), SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
    printf("main %d elsewhere %d\n", in_main, elsewhere);
}

static void *waits(void *result) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    for (int i = 0; i < 5; i++) {
        sigwaitinfo(&set, &info);
        printf("waited for %d\n", info.si_value.sival_int);
    }
    return result;
}

// A thread for signals, as servers have one.
static void one_thread_waits(void) {
    pthread_t thread;
    block(SIG_BLOCK, SIGRTMIN);
    pthread_create(&thread, NULL, waits, NULL);
    for (int i = 0; i < 5; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    pthread_join(thread, NULL);
}

static void *is_killed(void *unused) {
    block(SIG_BLOCK, SIGUSR1);
    atomic_store(&ready, 1);
    while (!atomic_load(&done))
        usleep(500);
    sigset_t pending;
    sigpending(&pending);
    printf("thread: pending %d\n", sigismember(&pending, SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
    printf("thread: handled %d\n", elsewhere);
    return unused;
}

static void directed_at_a_thread(void) {
    pthread_t thread;
    handle_with(SIGUSR1, note, 0);
    pthread_create(&thread, NULL, is_killed, NULL);
    while (!atomic_load(&ready))
        usleep(100);
    say(pthread_kill(thread, SIGUSR1));
    sigset_t pending;
    sigpending(&pending);
    printf("main: pending %d handled %d\n", sigismember(&pending, SIGUSR1), in_main);
    atomic_store(&done, 1);
    pthread_join(thread, NULL);
}

static void *short_lived(void *unused) {
    for (volatile int i = 0; i < 200; i++)
        ;
    return unused;
}

static atomic_int received;

static void receive(int signal, siginfo_t *info, void *context) {
    atomic_fetch_add(&received, 1);
    (void)signal, (void)info, (void)context;
}

// Threads come and go while each signal is counted: whoever takes one handles it before it ends.
static void none_is_lost_when_threads_end(void) {
    enum { MANY = 1500 };
    struct sigaction action = {.sa_sigaction = receive, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGRTMIN, &action, NULL);
    pid_t self = getpid(), sender = fork();
    if (!sender) {
        for (int i = 0; i < MANY; i++) {
            while (sigqueue(self, SIGRTMIN, (union sigval){.sival_int = i}) && errno == EAGAIN)
                usleep(1000);
            if (i % 8 == 0)
                usleep(100);
        }
        _exit(0);
    }
    int status, rounds = 0;
    do {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, short_lived, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        rounds++;
    } while (waitpid(sender, &status, WNOHANG) == 0);
    for (int i = 0; i < 2000 && received < MANY; i++)
        usleep(1000);
    printf("received %d of %d\n", received, MANY);
}

static void *toggles(void *unused) {
    while (!atomic_load(&done)) {
        block(SIG_BLOCK, SIGRTMIN);
        for (volatile int i = 0; i < 50; i++)
            ;
        block(SIG_UNBLOCK, SIGRTMIN);
    }
    return unused;
}

// Threads that block and unblock all the time, as locks in libraries do.
static void none_is_lost_when_masks_change(void) {
    enum { MANY = 1500 };
    pthread_t threads[3];
    handle_with(SIGRTMIN, receive, SA_RESTART);
    block(SIG_BLOCK, SIGRTMIN);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, toggles, NULL);
    for (int i = 0; i < MANY; i++) {
        while (sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) && errno == EAGAIN)
            usleep(1000);
        if (i % 16 == 0)
            usleep(200);
    }
    for (int i = 0; i < 5000 && received < MANY; i++)
        usleep(1000);
    atomic_store(&done, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("received %d of %d\n", received, MANY);
}

static atomic_int notified;

static void on_timer(union sigval value) {
    atomic_fetch_add(&notified, value.sival_int);
}

// A timer that starts threads: the C library waits for its signals in a thread of its own.
static void timers_start_threads(void) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value = {.sival_int = 1}};
    event.sigev_notify_function = on_timer;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec when = {{0, 2000000}, {0, 2000000}};
    timer_settime(timer, 0, &when, NULL);
    while (atomic_load(&notified) < 5)
        usleep(1000);
    say(timer_delete(timer));
}

static void skip(int signal, siginfo_t *info, void *context) {
    atomic_fetch_add(&received, 1);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; // mov %al, (%rdi) or its like
    (void)signal, (void)info;
}

static void *store_often(void *page) {
    for (int i = 0; i < 200; i++)
        asm volatile("movb %%al, (%0)" ::"r"(page), "a"(i) : "memory");
    return page;
}

// Faults of several threads at once, each handled by the one that had it.
static void threads_fault_at_once(void) {
    pthread_t threads[4];
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle_with(SIGSEGV, skip, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, store_often, page);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("faults %d\n", received);
}

static const struct guest_case cases[] = {{"reaches_who_lets_it_through", reaches_who_lets_it_through},
                                          {"one_thread_waits", one_thread_waits},
                                          {"directed", directed_at_a_thread},
                                          {"threads_end", none_is_lost_when_threads_end},
                                          {"masks_change", none_is_lost_when_masks_change},
                                          {"timers", timers_start_threads},
                                          {"faults", threads_fault_at_once},
                                          {NULL, NULL}};

int main(int argc, char **argv) {
    main_thread = pthread_self();
    return run_case(cases, argc, argv);
}

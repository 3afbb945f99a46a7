// Timers: POSIX timers with each kind of notice, interval timers, descriptors.
#include "guest.h"
#include <sys/epoll.h>
#include <sys/timerfd.h>

static volatile int count, code, value, overrun, timer_id;

static void note(int signal, siginfo_t *info, void *context) {
    count++;
    code = info->si_code, value = info->si_value.sival_int;
    overrun = info->si_overrun, timer_id = info->si_timerid;
    (void)signal, (void)context;
}

static timer_t create(clockid_t clock, int notice, int signal) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = notice, .sigev_signo = signal, .sigev_value = {.sival_int = 4711}};
    event._sigev_un._tid = syscall(SYS_gettid);
    if (timer_create(clock, &event, &timer))
        perror("timer_create");
    return timer;
}

static void arm(timer_t timer, long first_ms, long interval_ms) {
    struct itimerspec when = {{0, interval_ms * 1000000}, {0, first_ms * 1000000}};
    if (timer_settime(timer, 0, &when, NULL))
        perror("timer_settime");
}

static void posix_timers(void) {
    int notices[] = {SIGEV_SIGNAL, SIGEV_THREAD_ID};
    handle_with(SIGRTMIN + 3, note, 0);
    for (int i = 0; i < 2; i++) {
        timer_t timer = create(CLOCK_MONOTONIC, notices[i], SIGRTMIN + 3);
        arm(timer, 5, 5);
        count = 0;
        while (count < 3)
            ;
        printf("code %d value %d\n", code, value);
        struct itimerspec left;
        timer_gettime(timer, &left);
        printf("interval %ld\n", left.it_interval.tv_nsec);
        say(timer_delete(timer));
        say(timer_gettime(timer, &left));
    }
    timer_t silent = create(CLOCK_MONOTONIC, SIGEV_NONE, 0);
    arm(silent, 5, 0);
    usleep(20000);
    struct itimerspec left;
    timer_gettime(silent, &left);
    printf("silent: left %ld\n", left.it_value.tv_nsec);
    // Without an event it is SIGALRM with the timer's id.
    timer_t plain;
    handle_with(SIGALRM, note, 0);
    timer_create(CLOCK_REALTIME, NULL, &plain);
    count = 0;
    arm(plain, 5, 0);
    while (count < 1)
        ;
    printf("code %d value is the id %d\n", code, (long)value == (long)plain);
}

static void overruns(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    timer_t timer = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3);
    arm(timer, 2, 2);
    usleep(50000);
    sigwaitinfo(&set, &info);
    printf("overran %d, the same %d\n", info.si_overrun > 10, timer_getoverrun(timer) >= info.si_overrun);
    handle_with(SIGRTMIN + 3, note, 0);
    usleep(30000);
    mask(SIG_UNBLOCK, SIGRTMIN + 3);
    printf("count %d overran %d\n", count >= 1, overrun > 5);
    say(timer_delete(timer));
}

static void bad_timers(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    timer_t timer = 0;
    say(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_notify = 77, event.sigev_signo = SIGUSR1;
    say(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    event.sigev_notify = SIGEV_THREAD_ID, event._sigev_un._tid = 1;
    say(timer_create(CLOCK_MONOTONIC, &event, &timer));
    say(timer_create(99, NULL, &timer));
    say(syscall(SYS_timer_create, CLOCK_MONOTONIC, (void *)16, &timer));
    say(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, (void *)16));
    say(syscall(SYS_timer_delete, 12345));
}

static volatile double sink;

static void interval_timers(void) {
    int kinds[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}, signals[] = {SIGALRM, SIGVTALRM, SIGPROF};
    for (int i = 0; i < 3; i++) {
        struct itimerval often = {{0, 3000}, {0, 3000}}, none = {{0}}, now;
        handle_with(signals[i], note, 0);
        count = 0;
        setitimer(kinds[i], &often, NULL);
        while (count < 3)
            sink += 1.5;
        setitimer(kinds[i], &none, &now);
        printf("%d: code %d interval %ld\n", i, code, now.it_interval.tv_usec);
    }
    say(setitimer(7, NULL, NULL));
    alarm(100);
    printf("%u\n", alarm(0) >= 99);
}

// A process' CPU time as a timer's clock.
static void cpu_timers(void) {
    handle_with(SIGUSR1, note, 0);
    timer_t timer = create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1);
    arm(timer, 5, 5);
    while (count < 2)
        sink += 1.5;
    timer_delete(timer);
    count = 0;
    timer = create(CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID, SIGUSR1);
    arm(timer, 5, 0);
    while (count < 1)
        sink += 1.5;
    printf("code %d\n", code);
}

// Timers are not the child's, interval timers of the parent go on.
static void timers_and_processes(void) {
    handle_with(SIGALRM, note, 0);
    timer_t timer = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGALRM);
    arm(timer, 300, 0);
    set_timer(300, 0);
    if (!fork()) {
        struct itimerspec left;
        struct itimerval real;
        say(timer_gettime(timer, &left));
        getitimer(ITIMER_REAL, &real);
        printf("%ld\n", real.it_value.tv_usec);
        exit(0);
    }
    wait(NULL);
    set_timer(500, 0);
    execl("/proc/self/exe", "again", "after_exec", NULL);
}

static void after_exec(void) {
    struct itimerval real;
    struct itimerspec left;
    getitimer(ITIMER_REAL, &real);
    printf("still runs %d\n", real.it_value.tv_usec > 0);
    say(syscall(SYS_timer_gettime, 0, &left));
}

static void descriptors(void) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    uint64_t expired;
    say(read(fd, &expired, 8));
    struct itimerspec when = {{0, 2000000}, {0, 2000000}};
    timerfd_settime(fd, 0, &when, NULL);
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 5};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    printf("%d", epoll_wait(poller, &event, 1, 1000));
    printf(" %u", event.data.u32);
    printf(" %zd", read(fd, &expired, 8));
    printf(" %d\n", expired >= 1);
    usleep(20000);
    read(fd, &expired, 8);
    printf("several %d\n", expired > 3);
    when.it_value.tv_nsec = 0;
    timerfd_settime(fd, 0, &when, NULL);
    say(timerfd_settime(fd, 0x100, &when, NULL));
    say(timerfd_gettime(0, &when));
}

static const struct guest_case cases[] = {{"posix_timers", posix_timers},
                                          {"overruns", overruns},
                                          {"bad_timers", bad_timers},
                                          {"interval_timers", interval_timers},
                                          {"cpu_timers", cpu_timers},
                                          {"processes", timers_and_processes},
                                          {"after_exec", after_exec},
                                          {"descriptors", descriptors},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

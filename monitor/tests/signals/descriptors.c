// Descriptors that stand for signals and processes, and waits with a mask of their own.
#include "guest.h"
#include <sys/epoll.h>
#include <sys/prctl.h>

static volatile int count;

static void tick(int signal, siginfo_t *info, void *context) {
    count++;
    (void)signal, (void)info, (void)context;
}

static sigset_t set_of(int a, int b) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, a);
    if (b)
        sigaddset(&set, b);
    return set;
}

static void print_record(int fd) {
    struct signalfd_siginfo info[4];
    ssize_t got = read(fd, info, sizeof info);
    if (got < 0)
        return say(got);
    for (int i = 0; i < got / (int)sizeof *info; i++)
        printf("%u code %d value %d from us %d; ", info[i].ssi_signo, info[i].ssi_code, info[i].ssi_int,
               info[i].ssi_pid == getpid());
    puts("");
}

static void records(void) {
    sigset_t set = set_of(SIGUSR1, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    print_record(fd);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 7});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 8});
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    print_record(fd);
    print_record(fd);
    // What is not blocked goes to the handler.
    handle_with(SIGUSR1, tick, 0);
    mask(SIG_UNBLOCK, SIGUSR1);
    raise(SIGUSR1);
    print_record(fd);
    printf("handled %d\n", count);
    set = set_of(SIGUSR2, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    say(signalfd(fd, &set, 0) == fd);
    raise(SIGUSR2);
    print_record(fd);
    say(signalfd(0, &set, 0));
    say(syscall(SYS_signalfd4, -1, &set, 4, 0));
    say(signalfd(-1, &set, 99));
    say(read(fd, &set, 8));
}

static void polled(void) {
    sigset_t set = set_of(SIGUSR1, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC), poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 9};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    printf("%d\n", epoll_wait(poller, &event, 1, 0));
    raise(SIGUSR1);
    printf("%d\n", epoll_wait(poller, &event, 1, 1000));
    print_record(fd);
    printf("%d\n", epoll_wait(poller, &event, 1, 0));
    if (!fork())
        _exit(5);
    printf("%d\n", poll(&(struct pollfd){fd, POLLIN}, 1, 5000));
    struct signalfd_siginfo info;
    read(fd, &info, sizeof info);
    printf("child: %u code %d status %d\n", info.ssi_signo, info.ssi_code, info.ssi_status);
}

// A read that waits while the signal is sent by another process.
static void blocking_read(void) {
    sigset_t set = set_of(SIGUSR1, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, 0);
    pid_t parent = getpid();
    if (!fork()) {
        usleep(20000);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    print_record(fd);
}

static void masks_of_epoll(void) {
    handle_with(SIGALRM, tick, SA_RESTART);
    handle_with(SIGUSR1, tick, SA_RESTART);
    mask(SIG_BLOCK, SIGALRM);
    int poller = epoll_create1(0);
    struct epoll_event event;
    sigset_t none = set_of(SIGUSR1, 0), now;
    set_timer(20, 0);
    say(epoll_pwait(poller, &event, 1, 30000, &none));
    set_timer(20, 0);
    say(epoll_pwait2(poller, &event, 1, &(struct timespec){30, 0}, &none));
    printf("handled %d\n", count);
    // Pending before the call.
    raise(SIGALRM);
    say(epoll_pwait(poller, &event, 1, 0, &none));
    printf("handled %d\n", count);
    raise(SIGALRM);
    say(ppoll(NULL, 0, &(struct timespec){0, 0}, &none));
    printf("handled %d\n", count);
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("blocked %d %d\n", sigismember(&now, SIGALRM), sigismember(&now, SIGUSR1));
    // Ready descriptors win over signals that only the call would let through.
    int fd[2];
    pipe(fd);
    write(fd[1], "x", 1);
    sigset_t empty;
    sigemptyset(&empty);
    printf("%d", ppoll(&(struct pollfd){fd[0], POLLIN}, 1, NULL, &empty));
    printf(" handled %d\n", count);
    say(syscall(SYS_ppoll, NULL, 0, NULL, &none, 4));
    say(syscall(SYS_epoll_pwait, poller, &event, 1, 0, (void *)16, 8));
}

// A temporary mask that blocks more than the thread's own.
static void masks_that_block(void) {
    handle_with(SIGALRM, tick, 0);
    sigset_t all;
    sigfillset(&all);
    set_timer(10, 0);
    printf("%d", ppoll(NULL, 0, &(struct timespec){0, 40000000}, &all));
    printf(" handled %d\n", count);
}

static void print_code(int signal, siginfo_t *info, void *context) {
    printf("signal %d code %d value %d\n", signal, info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
    (void)context;
}

static void process_descriptors(void) {
    handle_with(SIGUSR1, print_code, 0);
    int own = syscall(SYS_pidfd_open, getpid(), 0);
    say(syscall(SYS_pidfd_send_signal, own, SIGUSR1, NULL, 0));
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE, .si_value = {.sival_int = 6}};
    say(syscall(SYS_pidfd_send_signal, own, SIGUSR1, &info, 0));
    info.si_signo = SIGUSR2;
    say(syscall(SYS_pidfd_send_signal, own, SIGUSR1, &info, 0));
    say(syscall(SYS_pidfd_send_signal, 0, SIGUSR1, NULL, 0));
    say(syscall(SYS_pidfd_send_signal, own, SIGUSR1, NULL, 0x100));
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    int fd = syscall(SYS_pidfd_open, child, 0), status;
    printf("running %d\n", poll(&(struct pollfd){fd, POLLIN}, 1, 0));
    say(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    printf("ended %d\n", poll(&(struct pollfd){fd, POLLIN}, 1, 5000));
    waitpid(child, &status, 0);
    printf("%d\n", WTERMSIG(status));
    say(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
}

// A grandchild hears of its parent's end.
static void parent_death(void) {
    int pipes[2], got;
    pipe(pipes);
    pid_t child = fork();
    if (!child) {
        if (!fork()) {
            mask(SIG_BLOCK, SIGUSR1);
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            prctl(PR_GET_PDEATHSIG, &got);
            printf("asked for %d\n", got == SIGUSR1);
            write(pipes[1], "x", 1);
            sigset_t set = set_of(SIGUSR1, 0);
            int signal = sigwaitinfo(&set, NULL);
            printf("heard %d\n", signal);
            fflush(stdout);
            write(pipes[1], "y", 1);
            _exit(0);
        }
        char byte;
        read(pipes[0], &byte, 1);
        _exit(0);
    }
    char byte;
    waitpid(child, NULL, 0);
    read(pipes[0], &byte, 1);
    printf("%c\n", byte);
}

static const struct guest_case cases[] = {{"records", records},
                                          {"polled", polled},
                                          {"blocking_read", blocking_read},
                                          {"masks_of_epoll", masks_of_epoll},
                                          {"masks_that_block", masks_that_block},
                                          {"process_descriptors", process_descriptors},
                                          {"parent_death", parent_death},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

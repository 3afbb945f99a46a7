// Calls that a signal interrupts: which fail, which are made again, which go on with what is left of their time.
#include "guest.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static volatile int count;
static int ends[2];
static uint32_t word;

static void tick(int signal, siginfo_t *info, void *context) {
    // The second signal lets a call that was made again come to its end.
    if (++count == 2) {
        word = 1;
        syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL);
        write(ends[1], "xyz", 3);
    }
    (void)signal, (void)info, (void)context;
}

static long timed(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static char buffer[16];
static const struct timespec half_minute = {30, 0};

static long do_read(void) { return read(ends[0], buffer, 1); }
static long do_readv(void) { return readv(ends[0], &(struct iovec){buffer, 1}, 1); }
static long do_recv(void) { return recv(ends[0], buffer, 1, 0); }
static long do_recvmsg(void) {
    struct msghdr message = {.msg_iov = &(struct iovec){buffer, 1}, .msg_iovlen = 1};
    return recvmsg(ends[0], &message, 0);
}
static long do_poll(void) { return poll(&(struct pollfd){ends[0], POLLIN}, 1, 30000); }
static long do_ppoll(void) { return ppoll(&(struct pollfd){ends[0], POLLIN}, 1, &half_minute, NULL); }
static long do_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval limit = {30, 0};
    long result = select(ends[0] + 1, &set, NULL, NULL, &limit);
    printf("(rest %d) ", limit.tv_sec < 30);
    return result;
}
static long do_epoll_wait(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event);
    long result = epoll_wait(poller, &event, 1, 30000);
    close(poller);
    return result;
}
static long do_pause(void) { return pause(); }
static long do_nanosleep(void) {
    struct timespec left = {0};
    long result = nanosleep(&half_minute, &left);
    printf("(left %ld) ", (long)left.tv_sec);
    return result;
}
static long do_clock_nanosleep(void) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 30;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    return errno ? -1 : 0;
}
static long do_futex(void) { return word = 0, syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL); }
static long do_futex_timed(void) { return word = 0, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &half_minute); }
static long do_futex_absolute(void) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 30;
    word = 0;
    return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &until, NULL, ~0);
}
static long do_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, NULL, &half_minute);
}
static long do_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}
static long do_msgrcv(void) {
    struct {
        long type;
        char text[4];
    } message;
    int queue = msgget(IPC_PRIVATE, 0600);
    long result = msgrcv(queue, &message, 4, 0, 0);
    int failure = errno;
    msgctl(queue, IPC_RMID, NULL);
    errno = failure;
    return result;
}
static long do_semop(void) {
    int set = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = {0, -1, 0};
    long result = semop(set, &down, 1);
    int failure = errno;
    semctl(set, 0, IPC_RMID);
    errno = failure;
    return result;
}
static long do_recv_timeout(void) {
    struct timeval limit = {30, 0};
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    long result = recv(ends[0], buffer, 1, 0);
    limit.tv_sec = 0;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return result;
}

static const struct {
    const char *name;
    long (*make)(void);
    int comes_back; // whether it does so by the second signal, once it was made again
} calls[] = {{"read", do_read, 1},
             {"readv", do_readv, 1},
             {"recv", do_recv, 1},
             {"recvmsg", do_recvmsg, 1},
             {"recv with a limit", do_recv_timeout, 1},
             {"poll", do_poll, 1},
             {"ppoll", do_ppoll, 1},
             {"select", do_select, 1},
             {"epoll_wait", do_epoll_wait, 1},
             {"pause", do_pause, 0},
             {"nanosleep", do_nanosleep, 0},
             {"clock_nanosleep", do_clock_nanosleep, 0},
             {"futex", do_futex, 1},
             {"futex with a limit", do_futex_timed, 1},
             {"futex until", do_futex_absolute, 1},
             {"sigtimedwait", do_sigtimedwait, 0},
             {"sigsuspend", do_sigsuspend, 0},
             {"msgrcv", do_msgrcv, 0},
             {"semop", do_semop, 0}};

static void with_flags(int flags) {
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (ends[0])
            close(ends[0]), close(ends[1]);
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        handle_with(SIGALRM, tick, flags);
        count = 0;
        set_timer(10, 10);
        long result = calls[i].make();
        int failure = errno, ticks = count;
        set_timer(0, 0);
        errno = failure;
        printf("%s: after %s: ", calls[i].name, ticks > 1 ? "more signals" : "one signal");
        say(result);
    }
}

static void without_restart(void) { with_flags(0); }
static void with_restart(void) { with_flags(SA_RESTART); }

// A handler runs, a second signal without SA_RESTART decides; flags of both are looked at on delivery.
static void locks_are_interrupted(void) {
    int fd = open("lock", O_RDWR | O_CREAT, 0600), ready[2];
    char byte;
    pipe(ready);
    pid_t child = fork();
    if (!child) {
        int own = open("lock", O_RDWR);
        flock(own, LOCK_EX);
        fcntl(own, F_SETLK, &(struct flock){.l_type = F_WRLCK});
        write(ready[1], "x", 1);
        pause();
    }
    read(ready[0], &byte, 1);
    handle_with(SIGALRM, tick, 0);
    set_timer(10, 0);
    say(flock(fd, LOCK_EX));
    set_timer(10, 0);
    say(fcntl(fd, F_SETLKW, &(struct flock){.l_type = F_WRLCK}));
    mkfifo("fifo", 0600);
    set_timer(10, 0);
    say(open("fifo", O_RDONLY));
    set_timer(10, 0);
    say(waitpid(child, NULL, 0));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    unlink("lock"), unlink("fifo");
}

// A write that has moved something comes back with that.
static void part_of_a_write(void) {
    static char big[1 << 20];
    int pipes[2];
    pipe(pipes);
    handle_with(SIGALRM, tick, 0);
    set_timer(20, 0);
    long wrote = write(pipes[1], big, sizeof big);
    printf("wrote a part %d\n", wrote > 0 && wrote < (long)sizeof big);
}

// Stop and continue are no signals for a handler: the calls go on, with what is left of their time (restart_syscall).
static void stopped_calls_go_on(void) {
    int answers[2];
    pipe(answers);
    long (*makes[])(void) = {do_nanosleep, do_poll, do_futex_timed, do_read, do_epoll_wait, do_sigtimedwait, do_clock_nanosleep};
    for (int i = 0; i < 7; i++) {
        if (ends[0])
            close(ends[0]), close(ends[1]);
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        pid_t child = fork();
        if (!child) {
            handle_with(SIGALRM, tick, SA_RESTART);
            printf("%d: ", i);
            long result = makes[i]();
            printf("after %d ticks: ", count);
            say(result);
            exit(0);
        }
        for (int k = 0; k < 3; k++) {
            usleep(5000);
            kill(child, SIGSTOP);
            waitpid(child, NULL, WUNTRACED);
            kill(child, SIGCONT);
        }
        usleep(5000);
        kill(child, SIGALRM);
        usleep(20000);
        kill(child, SIGALRM);
        waitpid(child, NULL, 0);
    }
}

// A sleep that is stopped again and again ends at its time, not later.
static void sleep_keeps_its_time(void) {
    int status;
    struct timespec tenth = {0, 200000000};
    long start = timed();
    pid_t child = fork();
    if (!child) {
        int result = nanosleep(&tenth, NULL);
        poll(NULL, 0, 200);
        _exit(result != 0);
    }
    for (int i = 0; i < 60; i++) {
        usleep(3000);
        kill(child, SIGSTOP);
        kill(child, SIGCONT);
    }
    waitpid(child, &status, 0);
    long took = timed() - start;
    printf("status %d, not early %d, not late %d\n", status, took >= 400, took < 1500);
}

// Not a call that a program makes of itself.
static void restart_without_reason(void) {
    say(syscall(SYS_restart_syscall));
    struct timespec tenth = {0, 1000000};
    nanosleep(&tenth, NULL);
    say(syscall(SYS_restart_syscall));
}

static sigjmp_buf escape;

static void jump(int signal) { siglongjmp(escape, signal); }

// Handlers that leave interrupted calls by a jump.
static void jumps_out_of_calls(void) {
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    long (*makes[])(void) = {do_read, do_poll, do_nanosleep, do_futex, do_sigsuspend, do_pause};
    for (volatile int i = 0; i < 60; i++) {
        if (!sigsetjmp(escape, 1)) {
            set_timer(1, 0);
            makes[i % 6]();
            puts("came back");
        }
    }
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("blocked %d\n", sigismember(&now, SIGALRM));
}

static const struct guest_case cases[] = {{"without_restart", without_restart},
                                          {"with_restart", with_restart},
                                          {"locks", locks_are_interrupted},
                                          {"part_of_a_write", part_of_a_write},
                                          {"stopped_calls", stopped_calls_go_on},
                                          {"sleep_keeps_its_time", sleep_keeps_its_time},
                                          {"restart_without_reason", restart_without_reason},
                                          {"jumps", jumps_out_of_calls},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

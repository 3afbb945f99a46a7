// Threads sleep in calls with a timeout while another changes code so often that the translations of all of it have to go:
// no sleep is cut short. argv[1] is how often the code changes.
#include "../threads/guest.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

static atomic_int over;
static const struct timespec span = {0, 30000000};

static int in_nanosleep(void) { return nanosleep(&span, NULL); }

static int in_clock_nanosleep(void) { return clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL) == EINTR ? -1 : 0; }

static int in_futex(void) {
    static int word;
    return futex(&word, FUTEX_WAIT_PRIVATE, 0, &span, NULL, 0) < 0 && errno == EINTR ? -1 : 0;
}

static int in_poll(void) { return poll(NULL, 0, 30); }

static int in_epoll(void) {
    static int set = -1;
    struct epoll_event event;
    if (set < 0)
        set = epoll_create1(0);
    return epoll_wait(set, &event, 1, 30);
}

static int in_receive(void) {
    static int ends[2] = {-1, -1};
    struct timeval timeout = {0, 30000};
    char byte;
    if (ends[0] < 0) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    }
    return recv(ends[0], &byte, 1, 0) < 0 && errno == EINTR ? -1 : 0;
}

static int in_semaphore(void) {
    static int set = -1;
    struct sembuf wait = {0, -1, 0};
    if (set < 0)
        set = semget(IPC_PRIVATE, 1, 0600);
    int result = semtimedop(set, &wait, 1, &span) < 0 && errno == EINTR ? -1 : 0;
    if (over)
        semctl(set, 0, IPC_RMID);
    return result;
}

static void *sleep_in(void *call) {
    long cut_short = 0;
    while (!over)
        cut_short += ((int (*)(void))call)() < 0;
    return (void *)cut_short;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*call)(void);
    } calls[] = {
        {"nanosleep", in_nanosleep}, {"clock_nanosleep", in_clock_nanosleep}, {"futex", in_futex}, {"poll", in_poll},
        {"epoll_wait", in_epoll},    {"recv", in_receive},                    {"semtimedop", in_semaphore},
    };
    enum { CALLS = sizeof calls / sizeof *calls };
    pthread_t threads[CALLS];
    long wrong = 0;
    for (int i = 0; i < CALLS; i++)
        threads[i] = start(sleep_in, calls[i].call);
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < atoi(argv[1]); i++) {
        // mov $i, %eax, so often that it is long; ret
        for (int at = 0; at < 300 * 5; at += 5)
            code[at] = 0xb8, memcpy(code + at + 1, &i, 4);
        code[300 * 5] = 0xc3;
        wrong += ((int (*)(void))code)() != i;
    }
    over = 1;
    for (int i = 0; i < CALLS; i++)
        printf("%s: %ld cut short\n", calls[i].name, join(threads[i]));
    printf("wrong %ld\n", wrong);
    return 0;
}

// Children are forked while threads allocate, map, change code, talk through pipes and take signals. argv[1] is how many.
#include "../threads/guest.h"
#include "soak.h"
#include <sys/time.h>

static atomic_int over;
static atomic_long ticks;

static void tick(int signal) { ticks++; }

static void *allocate(void *argument) {
    for (int i = 0; !over; i++) {
        free(malloc(100 + i % 5000));
        char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[4096] = 1;
        munmap(page, 8192);
    }
    return NULL;
}

static void *change_code(void *argument) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long wrong = 0;
    for (int i = 0; !over; i++) {
        // mov $i, %eax; ret
        code[0] = 0xb8, memcpy(code + 1, &i, 4), code[5] = 0xc3;
        wrong += ((int (*)(void))code)() != i;
        usleep(100);
    }
    munmap(code, 4096);
    return (void *)wrong;
}

static void *talk(void *argument) {
    int ends[2];
    unsigned char byte = 0, got;
    long wrong = 0;
    pipe(ends);
    for (; !over; byte++) {
        write(ends[1], &byte, 1);
        while (read(ends[0], &got, 1) != 1)
            ;
        wrong += got != byte;
    }
    close(ends[0]), close(ends[1]);
    return (void *)wrong;
}

static void *leave(void *argument) { return (void *)7; }

static int child(long number) {
    char *block = malloc(1000 + number % 500);
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(page, 1, 8192);
    free(block);
    if (number % 8 == 0 && join(start(leave, NULL)) != 7)
        return 99;
    return own_tid() == getpid() ? number & 63 : 98;
}

static long fork_one(long number) {
    pid_t id = fork();
    if (!id)
        _exit(child(number));
    int status = 0;
    while (waitpid(id, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == (number & 63);
}

static void *fork_some(void *argument) {
    long good = 0;
    for (long i = 0; i < 8; i++)
        good += fork_one((long)argument + i);
    return (void *)good;
}

int main(int argc, char **argv) {
    long wanted = atol(argv[1]), good = 0, wrong = 0;
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (long done = 0; done < wanted; done += 64) {
        over = 0;
        pthread_t company[] = {start(allocate, NULL), start(change_code, NULL), start(talk, NULL)};
        for (int i = 0; i < 4; i++) {
            pthread_t other = start(fork_some, (void *)(done + 16L * i));
            good += (long)fork_some((void *)(done + 16L * i + 8));
            good += join(other);
        }
        over = 1;
        for (int i = 0; i < 3; i++)
            wrong += join(company[i]);
        checkpoint(done + 64, wanted);
    }
    printf("children %d, wrong %ld, ticks %d\n", good == (wanted + 63) / 64 * 64, wrong, ticks > 0);
    return 0;
}

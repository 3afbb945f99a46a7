/* Threads in a loop: made and joined, and two that wake each other in turn. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int turn;
static long count;

static void *leave(void *argument)
{
    return argument;
}

static void take_turns(int own)
{
    for (long i = 0; i < count; i++) {
        while (turn != own)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !own, NULL, NULL, 0);
        turn = !own;
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void *play(void *argument)
{
    take_turns(1);
    return argument;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    long sum = 0;
    if (argc < 3)
        return 2;
    count = atol(argv[2]);
    if (!strcmp(argv[1], "create")) {
        for (long i = 0; i < count; i++)
            sum += pthread_create(&thread, NULL, leave, NULL) == 0 && pthread_join(thread, NULL) == 0;
    } else if (!strcmp(argv[1], "futex")) {
        if (pthread_create(&thread, NULL, play, NULL))
            return 1;
        take_turns(0);
        sum = pthread_join(thread, NULL) == 0 ? count : 0;
    }
    printf("%ld\n", sum);
    return sum != count;
}

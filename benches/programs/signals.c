/* Signals in a loop: installing a handler, catching a signal sent to oneself, faults on a page without rights. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile long caught;
static long wanted;
static sigjmp_buf out;

static void note(int signal)
{
    caught++;
    (void)signal;
}

/* Returns to the store that faulted, until there were enough. */
static void fault_again(int signal)
{
    if (++caught == wanted)
        siglongjmp(out, 1);
    (void)signal;
}

static void handle(int signal, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    wanted = atol(argv[2]);
    if (!strcmp(argv[1], "install")) {
        for (; caught < wanted; caught++)
            handle(SIGUSR1, note);
    } else if (!strcmp(argv[1], "catch")) {
        pid_t self = getpid();
        handle(SIGUSR1, note);
        for (long i = 0; i < wanted; i++)
            kill(self, SIGUSR1);
    } else if (!strcmp(argv[1], "fault")) {
        volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        handle(SIGSEGV, fault_again);
        if (!sigsetjmp(out, 1))
            *page = 1;
    }
    printf("%ld\n", caught);
    return caught != wanted;
}

// What endo does not run: a process that shares memory and runs on, faults on order.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int child(void *argument) { return argument != NULL; }
static void say(long result) { puts(result < 0 ? strerror(errno) : "done"); }

int main(void) {
    static char stack[65536];
    say(clone(child, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    say(clone(child, stack + sizeof stack, SIGSEGV, NULL));
    say(fcntl(0, F_SETSIG, SIGSEGV));
    say(fcntl(0, F_SETSIG, SIGUSR1));
}

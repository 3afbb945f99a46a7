// What endo does not run: a process that shares memory and runs on, faults on order, namespaces.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int child(void *argument) { return argument != NULL; }
static void say(long result) { puts(result < 0 ? strerror(errno) : "done"); }

int main(void) {
    static char stack[65536];
    say(clone(child, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    say(clone(child, stack + sizeof stack, SIGSEGV, NULL));
    say(fcntl(0, F_SETSIG, SIGSEGV));
    say(fcntl(0, F_SETSIG, SIGUSR1));
    int namespaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                        CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    for (int i = 0; i < 7; i++)
        say(clone(child, stack + sizeof stack, namespaces[i] | SIGCHLD, NULL));
    // struct clone_args: CLONE_NEWTIME, and the signal of the end.
    unsigned long arguments[8] = {0x80, 0, 0, 0, SIGCHLD};
    long made = syscall(SYS_clone3, arguments, sizeof arguments);
    if (made == 0)
        _exit(0);
    say(made);
}

/* Acts before main and after it. */
#include "whereabouts.h"
#include <signal.h>

static void before_all(void) { say("before the constructors"); }
__attribute__((section(".preinit_array"), used)) static void (*first)(void) = before_all;
__attribute__((constructor)) static void constructor(void) { say("a constructor"); }
__attribute__((destructor)) static void destructor(void) { say("a destructor"); }
static long resolved_low;
static int plain(void) { return 1; }
static void *resolver(void) {
    resolved_low = raw_mmap() >> 32 == 0;
    return plain;
}
int chosen(void) __attribute__((ifunc("resolver")));
static void at_end(void) { say("at exit"); }
static void handler(int signal) { say("a handler"); }

int main(void) {
    printf("a resolver: %s\n", resolved_low ? "confined" : "free"), fflush(stdout);
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    atexit(at_end);
    return chosen() - 1;
}

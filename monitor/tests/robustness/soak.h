// What the guests of robustness.rs share: they do the same again and again, and stop now and then to be looked at.
#ifndef SOAK_H
#define SOAK_H
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

// Stops eight times in all, after each eighth of the work, until whoever looks writes a byte. Nothing is going on then.
static void checkpoint(long done, long wanted) {
    static long next = 1;
    if (done * 8 < next * wanted)
        return;
    printf("checkpoint %ld\n", next++);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR)
        ;
}
#endif

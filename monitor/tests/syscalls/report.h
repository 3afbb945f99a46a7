/* Prints what a call gives: its value, or the name of its errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long result_of(const char *what, long value) {
    if (value == -1)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: %ld\n", what, value);
    return value;
}

/* The same for an address: only whether there is one. */
static void *address_of(const char *what, void *value) {
    if (value == (void *)-1)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: mapped\n", what);
    return value;
}

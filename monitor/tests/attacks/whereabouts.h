/* Whether the kernel gives this program memory where it pleases, or somebody below 4 GiB: nobody asked for that. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static long raw_mmap(void) {
    register long flags asm("r10") = MAP_PRIVATE | MAP_ANONYMOUS, none asm("r8") = -1, zero asm("r9") = 0;
    long result;
    asm volatile("syscall" : "=a"(result) : "a"(SYS_mmap), "D"(0l), "S"(4096l), "d"(1l), "r"(flags), "r"(none), "r"(zero) : "rcx", "r11", "memory");
    return result;
}

static const char *whereabouts(void) {
    long address = raw_mmap();
    return address < 0 ? "failed" : address >> 32 ? "free" : "confined";
}

static void say(const char *what) {
    char line[128];
    int length = snprintf(line, sizeof line, "%s: %s\n", what, whereabouts());
    write(1, line, length);
}

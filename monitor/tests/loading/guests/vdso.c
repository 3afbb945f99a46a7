// Finds the vDSO as a library that is loaded, and its functions by their version, and calls them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    void *vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
    printf("found: %d\n", vdso != NULL);
    int (*gettime)(clockid_t, struct timespec *) = dlvsym(vdso, "__vdso_clock_gettime", "LINUX_2.6");
    int (*getres)(clockid_t, struct timespec *) = dlvsym(vdso, "__vdso_clock_getres", "LINUX_2.6");
    int (*timeofday)(struct timeval *, void *) = dlvsym(vdso, "__vdso_gettimeofday", "LINUX_2.6");
    time_t (*seconds)(time_t *) = dlvsym(vdso, "__vdso_time", "LINUX_2.6");
    int (*cpu)(unsigned *, unsigned *, void *) = dlvsym(vdso, "__vdso_getcpu", "LINUX_2.6");
    printf("no other version: %d\n", dlvsym(vdso, "__vdso_time", "LINUX_9") == NULL);

    struct timespec before, now, after, resolution;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before);
    printf("clock_gettime: %d", gettime(CLOCK_MONOTONIC, &now));
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
    long long b = before.tv_sec * 1000000000ll + before.tv_nsec, n = now.tv_sec * 1000000000ll + now.tv_nsec;
    long long a = after.tv_sec * 1000000000ll + after.tv_nsec;
    printf(" in order: %d\n", b <= n && n <= a);
    printf("a bad clock: %d\n", gettime(12345, &now));
    printf("clock_getres: %d", getres(CLOCK_MONOTONIC, &resolution));
    printf(" %ld\n", resolution.tv_nsec);
    struct timeval day;
    time_t early = syscall(SYS_time, NULL);
    printf("gettimeofday: %d", timeofday(&day, NULL));
    printf(", in order: %d\n", day.tv_sec >= early);
    printf("time: %d\n", seconds(NULL) >= early);
    unsigned processor = ~0u;
    printf("getcpu: %d", cpu(&processor, NULL, NULL));
    printf(" %d\n", processor < 4096);
    return 0;
}

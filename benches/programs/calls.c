/* System calls in a loop: getppid, reads and writes of one byte, the clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long count = atol(argv[2]), sum = 0;
    char byte = 0;
    if (!strcmp(argv[1], "getppid")) {
        for (long i = 0; i < count; i++)
            sum += syscall(SYS_getppid) > 0;
    } else if (!strcmp(argv[1], "read")) {
        int fd = open("/dev/zero", O_RDONLY);
        for (long i = 0; i < count; i++)
            sum += read(fd, &byte, 1);
    } else if (!strcmp(argv[1], "write")) {
        int fd = open("/dev/null", O_WRONLY);
        for (long i = 0; i < count; i++)
            sum += write(fd, &byte, 1);
    } else if (!strcmp(argv[1], "clock")) {
        struct timespec now;
        for (long i = 0; i < count; i++)
            sum += clock_gettime(CLOCK_MONOTONIC, &now) == 0;
    }
    printf("%ld\n", sum);
    return sum != count;
}

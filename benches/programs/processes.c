/* Processes and their memory, in a loop: forks, execs, messages between two processes, page faults, mappings. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child of fork() that ends, or starts a program. */
static long start(long count, char *const program[])
{
    long sum = 0;
    for (long i = 0; i < count; i++) {
        int status = -1;
        pid_t child = fork();
        if (!child) {
            if (program)
                execv(program[0], program);
            _exit(program != NULL);
        }
        sum += waitpid(child, &status, 0) == child && status == 0;
    }
    return sum;
}

/* One byte to a child and back. */
static long ping_pong(long count, const int to[2], const int from[2])
{
    char byte = 0;
    long sum = 0;
    pid_t child = fork();
    if (!child) {
        for (long i = 0; i < count; i++)
            if (read(to[0], &byte, 1) != 1 || write(from[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    for (long i = 0; i < count; i++)
        sum += write(to[1], &byte, 1) == 1 && read(from[0], &byte, 1) == 1;
    waitpid(child, NULL, 0);
    return sum;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long count = atol(argv[2]), sum = 0;
    if (!strcmp(argv[1], "fork")) {
        sum = start(count, NULL);
    } else if (!strcmp(argv[1], "exec")) {
        char *program[] = {"/bin/true", NULL};
        sum = start(count, program);
    } else if (!strcmp(argv[1], "pipe")) {
        int to[2], from[2];
        if (pipe(to) || pipe(from))
            return 1;
        sum = ping_pong(count, to, from);
    } else if (!strcmp(argv[1], "socket")) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
            return 1;
        int to[2] = {ends[1], ends[0]}, from[2] = {ends[0], ends[1]};
        sum = ping_pong(count, to, from);
    } else if (!strcmp(argv[1], "fault")) {
        const long pages = 4096, page = 4096;
        char *memory = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(memory, pages * page, MADV_NOHUGEPAGE);
        for (long i = 0; i < count; i++) {
            if (i % pages == 0)
                madvise(memory, pages * page, MADV_DONTNEED);
            memory[i % pages * page] = 1;
            sum++;
        }
    } else if (!strcmp(argv[1], "map")) {
        for (long i = 0; i < count; i++) {
            char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memory[0] = 1;
            sum += munmap(memory, 65536) == 0;
        }
    }
    printf("%ld\n", sum);
    return sum != count;
}

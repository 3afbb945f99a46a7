/* Arguments, environment, heap, files, time and output: what the C library does before and after main. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void at_end(void)
{
    puts("at the end");
}

__attribute__((constructor)) static void at_start(void)
{
    puts("at the start");
}

int main(int argc, char **argv, char **envp)
{
    atexit(at_end);
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    for (char **e = envp; *e; e++)
        printf("%s\n", *e);
    int numbers[1000];
    for (int i = 0; i < 1000; i++)
        numbers[i] = (i * 7919) % 1009;
    qsort(numbers, 1000, sizeof *numbers, by_value);
    printf("%d %d %d\n", numbers[0], numbers[500], numbers[999]);
    char *blocks[200];
    size_t total = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 200; i++) {
            size_t size = 1 + (size_t)i * i * (round + 1) % 300000;
            blocks[i] = malloc(size);
            memset(blocks[i], i, size);
        }
        for (int i = 0; i < 200; i++) {
            blocks[i] = realloc(blocks[i], (size_t)i * 100 + 1);
            total += (unsigned char)blocks[i][0];
        }
        for (int i = 199; i >= 0; i--)
            free(blocks[i]);
    }
    printf("%zu %.17g %.17g %a %Lg\n", total, sin(0.5) + pow(2.5, 1.3), exp(-3), 0.1, (long double)1 / 3);
    int fd = open("/nonexistent", O_RDONLY);
    printf("%d %d %s\n", fd, errno, strerror(errno));
    struct tm tm;
    time_t then = 1700000000;
    char text[64];
    strftime(text, sizeof text, "%c", gmtime_r(&then, &tm));
    printf("%s %d\n", text, time(NULL) > then);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%d\n", b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec));
    double parsed = strtod("123.456e7", NULL);
    long value = strtol("-0x7fff", NULL, 0);
    printf("%.3f %ld %zu\n", parsed, value, strspn("aaabbb", "a"));
    fprintf(stderr, "to standard error\n");
    return argc + 40;
}

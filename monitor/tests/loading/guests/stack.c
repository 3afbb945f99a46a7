// Uses a stack of as many KiB as the first argument says.
#include <stdio.h>
#include <stdlib.h>

static int deeper(int kib) {
    volatile char frame[1024];
    frame[0] = frame[1023] = (char)kib;
    return kib > 0 ? deeper(kib - 1) + frame[0] - frame[1023] + 1 : 0;
}

int main(int argc, char **argv) {
    (void)argc;
    printf("starts\n");
    fflush(stdout);
    printf("%d\n", deeper(atoi(argv[1])));
    return 0;
}

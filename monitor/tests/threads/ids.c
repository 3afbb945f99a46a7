// The C library's own signals: it changes the ids of all threads with one, and cancels a thread with the other.
#include "guest.h"

static void *wait_for_ever(void *unused) {
    for (;;)
        pause();
}

static void ids(char **argv) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = start(wait_for_ever, NULL);
    printf("%d %d %d\n", setgid(getgid()), setreuid(getuid(), geteuid()), setuid(getuid()));
    for (int i = 0; i < 3; i++) {
        void *result = NULL;
        pthread_cancel(threads[i]);
        pthread_join(threads[i], &result);
        printf("%d ", result == PTHREAD_CANCELED);
    }
    puts("");
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {{"ids", ids}, {NULL, NULL}};
    return run_case(cases, argv);
}

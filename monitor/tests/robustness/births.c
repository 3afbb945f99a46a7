// Threads are born and die: joined, detached, without the C library, by return and in the middle. argv[1] is how many.
#include "../threads/guest.h"
#include "soak.h"
#include <linux/futex.h>
#include <semaphore.h>

static sem_t gone;
static atomic_long returned, cleaned;
static __thread long own[16];
static pthread_key_t key;

static void clean(void *value) { cleaned += (long)value; }

static void *live(void *argument) {
    long number = (long)argument;
    own[number % 16] = number;
    char *block = malloc(100 + number % 3000);
    memset(block, number, 100);
    pthread_setspecific(key, (void *)1);
    long sum = block[99] == (char)number && own[number % 16] == number;
    free(block);
    returned += sum;
    if (number % 3 == 0)
        pthread_exit((void *)sum);
    return (void *)sum;
}

static void *live_alone(void *argument) {
    live((void *)((long)argument * 3 + 1));
    sem_post(&gone);
    return NULL;
}

// Stays in the middle of a call until it is cancelled there.
static void *wait_for_the_end(void *argument) {
    pthread_setspecific(key, (void *)1);
    pause();
    return argument;
}

static void await_all(int count) {
    while (count)
        count -= sem_wait(&gone) == 0;
}

int main(int argc, char **argv) {
    enum { JOINED = 5, DETACHED = 2, CANCELLED = 1, ALL = JOINED + DETACHED + CANCELLED };
    long wanted = atol(argv[1]), born = 0, good = 0, cancelled = 0;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_key_create(&key, clean);
    sem_init(&gone, 0, 0);
    for (; born < wanted; born += ALL) {
        pthread_t joined[JOINED], alone, waiting;
        for (long i = 0; i < JOINED; i++)
            joined[i] = start(live, (void *)(born + i));
        for (long i = 0; i < DETACHED; i++)
            if (pthread_create(&alone, &detached, live_alone, (void *)(born + i)))
                return 1;
        waiting = start(wait_for_the_end, NULL);
        pthread_cancel(waiting);
        cancelled += join(waiting) == (long)PTHREAD_CANCELED;
        for (int i = 0; i < JOINED; i++)
            good += join(joined[i]);
        await_all(DETACHED);
        checkpoint(born + ALL, wanted);
    }
    // Who is detached has still to come out of the function that told of its end.
    sleep_ms(100);
    printf("born %ld, joined %d, returned %d, cancelled %d\n", born, good == born / ALL * JOINED,
           returned == born / ALL * (JOINED + DETACHED), cancelled == born / ALL);
    // A thread that is cancelled before it has set its value has none to clean.
    printf("cleaned %d\n", cleaned >= returned && cleaned <= born);
    return 0;
}

// Threads are cancelled in every state, and processes end or are killed with threads in every state. argv[1] is how many
// threads and processes.
#include "states.h"
#include "soak.h"

static long cancelled, abandoned, killed, ended;
static unsigned dice = 1;

static unsigned roll(unsigned sides) {
    dice = dice * 1103515245 + 12345;
    return (dice >> 16) % sides;
}

// Takes the lock that a thread, or a whole process, has died with.
static int finds_it_abandoned(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 10;
    int result = pthread_mutex_timedlock(robust, &end);
    if (result == EOWNERDEAD)
        pthread_mutex_consistent(robust);
    if (result == 0 || result == EOWNERDEAD)
        pthread_mutex_unlock(robust);
    return result == EOWNERDEAD;
}

static void cancel_all(void) {
    pthread_t threads[GIVES_BACK];
    ready = 0;
    for (int i = 0; i < GIVES_BACK; i++)
        threads[i] = start(states[i], NULL);
    while (ready < GIVES_BACK)
        sched_yield();
    for (unsigned i = 0, first = roll(GIVES_BACK); i < GIVES_BACK; i++) {
        pthread_t thread = threads[(first + i) % GIVES_BACK];
        pthread_cancel(thread);
        cancelled += join(thread) == (long)PTHREAD_CANCELED;
    }
    abandoned += finds_it_abandoned();
}

static void start_all(void) {
    ready = 0;
    for (int i = 0; i < STATES; i++)
        start(states[i], NULL);
}

// Kills a child at any moment: mostly while its threads start, sometimes when all are there. Whether its lock is found abandoned
// then is another question (docs/status.md).
static void kill_child(void) {
    pid_t child = fork();
    if (!child) {
        start_all();
        pause();
    }
    usleep(roll(4) ? roll(3000) : 20000);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    renew_lock();
}

static void *end_process(void *way) {
    switch ((long)way) {
    case 0: _exit(31);
    case 1: kill(getpid(), SIGTERM); break;
    case 2: *(volatile int *)8 = 1; break;
    case 3: execl("/bin/sh", "sh", "-c", "exit 32", NULL); break;
    }
    return NULL;
}

static void end_child(long way) {
    pid_t child = fork();
    if (!child) {
        start_all();
        while (ready < STATES)
            sched_yield();
        if (roll(2))
            end_process((void *)way);
        start(end_process, (void *)way);
        pause();
    }
    int status = 0;
    waitpid(child, &status, 0);
    int expected[] = {31 << 8, SIGTERM, SIGSEGV, 32 << 8};
    ended += status == expected[way];
    if (status != expected[way])
        print_status("child", status);
    if (way == 1)
        renew_lock();
    else
        abandoned += finds_it_abandoned();
}

int main(int argc, char **argv) {
    long wanted = atol(argv[1]), rounds = 0;
    prepare();
    for (long done = 0; done < wanted; done += GIVES_BACK + 3) {
        cancel_all();
        kill_child();
        kill_child();
        end_child(rounds++ % 4);
        checkpoint(done + GIVES_BACK + 3, wanted);
    }
    printf("cancelled %d, killed %d, ended %d\n", cancelled == rounds * GIVES_BACK, killed == 2 * rounds, ended == rounds);
    printf("locks abandoned %ld of %ld\n", abandoned, rounds + rounds - (rounds + 2) / 4);
    return 0;
}

// How threads and processes with threads end, fork, and become other programs.
#include "guest.h"
#include <linux/futex.h>
#include <spawn.h>

extern char **environ;
static char *self;
static atomic_int shared;

static void *sleep_long(void *argument) {
    sleep(1000);
    return NULL;
}

static void *spin(void *argument) {
    for (;;)
        shared++;
    return NULL;
}

static void *block_in_futex(void *argument) {
    static int word;
    futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return NULL;
}

static void *block_in_read(void *argument) {
    int fds[2];
    char byte;
    pipe(fds);
    read(fds[0], &byte, 1);
    return NULL;
}

static void start_company(void) {
    start(sleep_long, NULL);
    start(spin, NULL);
    start(block_in_futex, NULL);
    start(block_in_read, NULL);
    sleep_ms(5);
}

static void exit_with_company(void) {
    start_company();
    _exit(3);
}

static void *exit_process(void *argument) {
    exit(4);
}

static void exit_from_thread(void) {
    start_company();
    start(exit_process, NULL);
    pause();
}

static void *fault(void *argument) {
    *(volatile int *)8 = 1;
    return NULL;
}

static void fault_in_thread(void) {
    start_company();
    start(fault, NULL);
    pause();
}

static void *send_term(void *argument) {
    kill(getpid(), SIGTERM);
    pause();
    return NULL;
}

static void die_of_signal(void) {
    start_company();
    start(send_term, NULL);
    pause();
}

static void *end_later(void *argument) {
    // The first thread is no more than an entry in the list of processes, as soon as it has got that far.
    char text[64], *state = NULL;
    snprintf(text, sizeof text, "/proc/self/task/%d/stat", getpid());
    for (int i = 0; i < 500 && !(state && state[2] == 'Z'); i++) {
        sleep_ms(10);
        int file = open(text, O_RDONLY);
        static char stat[512];
        stat[read(file, stat, sizeof stat - 1)] = 0;
        close(file);
        state = strrchr(stat, ')');
    }
    printf("leader is %c\n", state ? state[2] : '?');
    fflush(stdout);
    if (argument)
        syscall(SYS_exit, 7);
    return NULL;
}

static void first_thread_exits(void) {
    start(end_later, NULL);
    pthread_exit(NULL);
}

// Without the C library: the status is that of the last thread.
static void all_exit_alone(void) {
    start(end_later, (void *)1);
    syscall(SYS_exit, 5);
}

static atomic_int exiting;

static void *exit_alone(void *argument) {
    exiting = own_tid();
    syscall(SYS_exit, 6);
    return NULL;
}

static void others_exit_alone(void) {
    start(exit_alone, NULL);
    while (!exiting || !syscall(SYS_tgkill, getpid(), exiting, 0))
        sched_yield();
    syscall(SYS_exit, 8);
}

static void *exec_self(void *argument) {
    char *args[] = {self, "execd", NULL};
    execve(self, args, environ);
    return NULL;
}

static void exec_from_thread(void) {
    start_company();
    printf("before\n");
    fflush(stdout);
    start(exec_self, NULL);
    pause();
}

static void exec_from_first(void) {
    start_company();
    exec_self(NULL);
}

static void *fail_to_exec(void *argument) {
    char *args[] = {"/nonexistent", NULL};
    execve("/nonexistent", args, environ);
    return (void *)(long)errno;
}

static void exec_fails(void) {
    start_company();
    printf("%s\n", strerror(join(start(fail_to_exec, NULL))));
    for (int before = shared; shared == before;)
        sched_yield();
    puts("others go on");
    _exit(fflush(stdout));
}

static void ends(char **argv) {
    self = argv[0];
    in_child("exit_group", exit_with_company);
    in_child("exit from a thread", exit_from_thread);
    in_child("fault", fault_in_thread);
    in_child("signal", die_of_signal);
    in_child("first thread", first_thread_exits);
    in_child("all alone", all_exit_alone);
    in_child("others alone", others_exit_alone);
}

static void execs(char **argv) {
    self = argv[0];
    in_child("exec from a thread", exec_from_thread);
    in_child("exec from the first", exec_from_first);
    in_child("exec fails", exec_fails);
}

static void execd(char **argv) {
    // The process has kept its id, and has one thread.
    printf("execd as %d\n", own_tid() == getpid());
    int count = 0;
    FILE *list = popen("ls /proc/$PPID/task | wc -l", "r");
    fscanf(list, "%d", &count);
    pclose(list);
    printf("threads %d\n", count);
    fflush(stdout);
    _exit(9);
}

// Forks while other threads hold the locks of the C library, allocate and map.
static void *allocate(void *argument) {
    for (int i = 0; shared == 0; i++) {
        free(malloc(100 + i % 5000));
        munmap(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 8192);
    }
    return NULL;
}

static void *fork_repeatedly(void *argument) {
    long good = 0;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (!child) {
            char *block = malloc(1000);
            void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(at, 1, 8192);
            free(block);
            // A thread of the child's own.
            if (i % 4 == 0)
                join(start(exit_alone, NULL));
            _exit(own_tid() == getpid() ? 10 : 11);
        }
        int status = 0;
        waitpid(child, &status, 0);
        good += WIFEXITED(status) && WEXITSTATUS(status) == 10;
    }
    return (void *)good;
}

static void forks(char **argv) {
    pthread_t busy[2], forking[2];
    for (int i = 0; i < 2; i++)
        busy[i] = start(allocate, NULL);
    for (int i = 0; i < 2; i++)
        forking[i] = start(fork_repeatedly, NULL);
    long good = (long)fork_repeatedly(NULL);
    for (int i = 0; i < 2; i++)
        good += join(forking[i]);
    shared = 1;
    for (int i = 0; i < 2; i++)
        join(busy[i]);
    printf("children %ld\n", good);
}

// Forks with a signal of its own at the end, which the C library's fork does not know, while other threads have the monitor
// make up files.
static void *look_up(void *argument) {
    char text[4096];
    while (!shared) {
        int file = open("/proc/self/status", O_RDONLY);
        read(file, text, sizeof text);
        close(file);
    }
    return NULL;
}

static void clones(char **argv) {
    pthread_t busy[3];
    signal(SIGUSR2, SIG_IGN);
    for (int i = 0; i < 3; i++)
        busy[i] = start(look_up, NULL);
    int good = 0;
    for (int i = 0; i < 300; i++) {
        pid_t child = syscall(SYS_clone, SIGUSR2, NULL, NULL, NULL, NULL);
        if (!child) {
            char text[4096];
            int file = open("/proc/self/status", O_RDONLY);
            syscall(SYS_exit_group, read(file, text, sizeof text) > 0 ? 10 : 11);
        }
        int status = 0;
        waitpid(child, &status, __WALL);
        good += WIFEXITED(status) && WEXITSTATUS(status) == 10;
    }
    shared = 1;
    for (int i = 0; i < 3; i++)
        join(busy[i]);
    printf("children %d\n", good);
}

// A child that a thread has forked has that thread as its first, which may end before others.
static void *grandchild(void *argument) {
    sleep_ms(5);
    printf("second thread of the child\n");
    exit(12);
}

static void *fork_and_leave(void *argument) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        start(grandchild, NULL);
        syscall(SYS_exit, 1);
    }
    int status;
    waitpid(child, &status, 0);
    print_status("child", status);
    return NULL;
}

static void forked_by_thread(char **argv) { join(start(fork_and_leave, NULL)); }

// posix_spawn shares memory with a process whose other threads go on and change what they do about signals.
static atomic_int handled;
static void handle(int signal) { handled++; }

static void *flip_actions(void *argument) {
    struct sigaction action = {.sa_handler = handle}, ignore = {.sa_handler = SIG_IGN}, now;
    long bad = 0;
    while (!shared) {
        sigaction(SIGUSR1, &action, NULL);
        raise(SIGUSR1);
        sigaction(SIGUSR1, NULL, &now);
        bad += now.sa_handler != handle;
        sigaction(SIGUSR2, &ignore, NULL);
        sigaction(SIGUSR2, NULL, &now);
        bad += now.sa_handler != SIG_IGN;
        sigaction(SIGUSR2, &action, NULL);
    }
    return (void *)bad;
}

static void *spawn_repeatedly(void *argument) {
    long good = 0;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    for (int i = 0; i < 10; i++) {
        pid_t child;
        int status = 0;
        char *args[] = {"/bin/true", NULL};
        good += posix_spawn(&child, "/bin/true", NULL, &attributes, args, environ) == 0;
        waitpid(child, &status, 0);
        good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        good += posix_spawn(&child, "/nonexistent", NULL, &attributes, args, environ) == ENOENT;
    }
    return (void *)good;
}

static void spawns(char **argv) {
    pthread_t flipping = start(flip_actions, NULL), spawning = start(spawn_repeatedly, NULL);
    long good = (long)spawn_repeatedly(NULL) + join(spawning);
    shared = 1;
    printf("bad actions %ld, good children %ld\n", join(flipping), good);
}

// A vfork'd child must not see its own disposition changes in the parent, nor lose those of the parent's threads.
static void *act_during_vfork(void *argument) {
    struct sigaction action = {.sa_handler = handle};
    while (!shared)
        ;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR1);
    shared = 2;
    return NULL;
}

static void vfork_and_actions(char **argv) {
    struct sigaction action = {.sa_handler = handle}, now;
    sigaction(SIGUSR1, &action, NULL);
    pthread_t thread = start(act_during_vfork, NULL);
    pid_t child = vfork();
    if (!child) {
        signal(SIGUSR1, SIG_DFL);
        signal(SIGUSR2, SIG_IGN);
        shared = 1;
        while (shared == 1)
            ;
        _exit(13);
    }
    int status;
    waitpid(child, &status, 0);
    print_status("child", status);
    join(thread);
    sigaction(SIGUSR1, NULL, &now);
    printf("handled %d, kept %d", handled, now.sa_handler == handle);
    sigaction(SIGUSR2, NULL, &now);
    printf(" and %d\n", now.sa_handler == handle);
}

// Any thread may wait for any child.
static void *wait_for(void *argument) {
    int status = 0;
    waitpid((pid_t)(long)argument, &status, 0);
    return (void *)(long)WEXITSTATUS(status);
}

static void waits(char **argv) {
    pid_t child = fork();
    if (!child)
        _exit(14);
    printf("%ld\n", join(start(wait_for, (void *)(long)child)));
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"ends", ends},     {"execs", execs},   {"execd", execd}, {"forks", forks}, {"clones", clones}, {"forked_by_thread", forked_by_thread},
        {"spawns", spawns}, {"vfork_and_actions", vfork_and_actions}, {"waits", waits}, {NULL, NULL},
    };
    return run_case(cases, argv);
}

/* Work that makes a monitor map, open, start and queue things, with every resource used up at the outset. */
#include "whereabouts.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void note(int signal) { (void)signal; }
static void *nothing(void *unused) { return unused; }

static void work(void) {
    for (int round = 0; round < 20; round++) {
        char *page = mmap(0, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page != MAP_FAILED) {
            /* Code that is new each time: mov eax, round; ret */
            for (int i = 0; i < 64; i++) {
                char *code = page + (i << 12);
                memcpy(code, "\xb8\0\0\0\0\xc3", 6), code[1] = round;
                if (((int (*)(void))code)() != round) printf("wrong code\n");
            }
            mprotect(page, 8192, PROT_READ), mremap(page, 1 << 20, 1 << 21, MREMAP_MAYMOVE);
        }
        int fd = open("/proc/self/maps", O_RDONLY);
        if (fd >= 0) {
            char text[512];
            while (read(fd, text, sizeof text) > 0) {}
            close(fd);
        }
        int ends[2];
        if (pipe(ends) == 0) write(ends[1], "x", 1), close(ends[0]), close(ends[1]);
        int made = syscall(SYS_memfd_create, "file", 0);
        if (made >= 0) ftruncate(made, 100), close(made);
        pthread_t thread;
        if (pthread_create(&thread, 0, nothing, 0) == 0) pthread_join(thread, 0);
        pid_t child = fork();
        if (child == 0) { raise(SIGUSR1); _exit(0); }
        if (child > 0) waitpid(child, 0, 0);
        for (int i = 0; i < 4; i++) sigqueue(getpid(), SIGRTMIN + i, (union sigval){.sival_int = i}), raise(SIGUSR1);
        sbrk(4096);
    }
}

int main(void) {
    static const struct { const char *name; int resource; } limits[] = {
        {"files", RLIMIT_NOFILE}, {"addresses", RLIMIT_AS}, {"data", RLIMIT_DATA}, {"file size", RLIMIT_FSIZE}, {"stack", RLIMIT_STACK},
        {"processes", RLIMIT_NPROC}, {"signals", RLIMIT_SIGPENDING}, {"locks", RLIMIT_MEMLOCK}, {"queues", RLIMIT_MSGQUEUE}, {"core", RLIMIT_CORE}};
    struct sigaction action = {.sa_handler = note};
    sigaction(SIGUSR1, &action, 0), sigaction(SIGXFSZ, &action, 0);
    for (int i = 0; i < 8; i++) sigaction(SIGRTMIN + i, &action, 0);
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct rlimit before, none;
            getrlimit(limits[i].resource, &before);
            none = before, none.rlim_cur = 0;
            if (setrlimit(limits[i].resource, &none) != 0) _exit(1);
            work();
            setrlimit(limits[i].resource, &before);
            say(limits[i].name);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        printf("%s: %s %d\n", limits[i].name, WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        fflush(stdout);
    }
    /* The least that may run at all, for the class of nobody. */
    if (sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}) == 0) work();
    say("idle");
    return 0;
}

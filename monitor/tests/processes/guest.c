// Processes: fork, vfork, exec, wait. argv[1] names a case; cases that start a new program start this one again.
#define _GNU_SOURCE
#include "../signals/guest.h"
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;
static const char *self;

static void print_status(const char *what, int status) {
    printf("%s: exited %d with %d, signalled %d by %d\n", what, WIFEXITED(status), WEXITSTATUS(status), WIFSIGNALED(status),
           WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static int wait_for(pid_t child) {
    int status = -1;
    if (waitpid(child, &status, 0) != child)
        perror("waitpid");
    return status;
}

static void run(char *const argv[], char *const envp[]) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        execve(argv[0], argv, envp ? envp : environ);
        printf("exec: %s\n", strerror(errno));
        fflush(stdout);
        _exit(42);
    }
    print_status(argv[1] ? argv[1] : "", wait_for(child));
}

static void fork_copies(void) {
    static int value = 1;
    int fds[2];
    pipe(fds);
    pid_t parent = getpid(), child = fork();
    if (!child) {
        value = 2;
        int facts[4] = {value, getppid() == parent, getpid() != parent, (int)syscall(SYS_gettid) == getpid()};
        write(fds[1], facts, sizeof facts);
        _exit(33);
    }
    int facts[4];
    read(fds[0], facts, sizeof facts);
    printf("%d %d %d %d, here still %d\n", facts[0], facts[1], facts[2], facts[3], value);
    print_status("child", wait_for(child));
}

static void fork_tree(void) {
    int fds[2], sum = 0, n;
    pipe(fds);
    for (int i = 0; i < 3; i++)
        if (!fork()) {
            for (int k = 0; k < 3; k++)
                if (!fork()) {
                    n = 10 * i + k;
                    write(fds[1], &n, sizeof n);
                    _exit(0);
                }
            while (wait(NULL) > 0)
                ;
            _exit(0);
        }
    close(fds[1]);
    while (read(fds[0], &n, sizeof n) == sizeof n)
        sum += n;
    int children = 0;
    while (wait(NULL) > 0)
        children++;
    printf("%d from %d\n", sum, children);
}

static void vfork_shares(void) {
    volatile int shared = 1;
    volatile pid_t seen = 0;
    pid_t child = vfork();
    if (!child) {
        shared = 2;
        seen = getpid();
        _exit(5);
    }
    printf("shared %d, its pid %d\n", shared, seen == child);
    print_status("child", wait_for(child));
}

static int raised;
static void count_it(int signal, siginfo_t *info, void *context) {
    raised++;
    (void)signal, (void)info, (void)context;
}

static void vfork_keeps_the_parents_signals(void) {
    handle_with(SIGUSR1, count_it, 0);
    mask(SIG_BLOCK, SIGUSR2);
    pid_t child = vfork();
    if (!child) {
        signal(SIGUSR1, SIG_IGN);
        mask(SIG_BLOCK, SIGUSR1);
        mask(SIG_UNBLOCK, SIGUSR2);
        kill(getpid(), SIGUSR1);
        _exit(0);
    }
    print_status("child", wait_for(child));
    raise(SIGUSR1);
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    printf("raised %d blocked %d %d\n", raised, sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
    child = vfork();
    if (!child) {
        kill(getpid(), SIGTERM);
        _exit(0);
    }
    print_status("killed", wait_for(child));
    child = vfork();
    if (!child) {
        *(volatile int *)8 = 1;
        _exit(0);
    }
    print_status("faulted", wait_for(child));
    child = vfork();
    if (!child) {
        pid_t grandchild = vfork();
        if (!grandchild)
            _exit(3);
        _exit(10 + WEXITSTATUS(wait_for(grandchild)));
    }
    print_status("nested", wait_for(child));
}

static void vfork_exec(void) {
    for (int i = 0; i < 3; i++) {
        pid_t child = vfork();
        if (!child) {
            execl("/bin/sh", "sh", "-c", "exit 6", NULL);
            _exit(1);
        }
        print_status("sh", wait_for(child));
    }
    volatile int error = 0;
    pid_t child = vfork();
    if (!child) {
        execl("/nonexistent", "x", NULL);
        error = errno;
        _exit(1);
    }
    print_status("none", wait_for(child));
    printf("error %s\n", strerror(error));
    double x = 1.5;
    child = vfork();
    if (!child) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    wait_for(child);
    printf("%g\n", x * 2);
}

static void spawn(void) {
    pid_t child;
    char *argv[] = {"sh", "-c", "exit 8", NULL};
    printf("%d", posix_spawn(&child, "/bin/sh", NULL, NULL, argv, environ));
    print_status(" sh", wait_for(child));
    printf("%s\n", strerror(posix_spawn(&child, "/nonexistent/sh", NULL, NULL, argv, environ)));
    printf("%s\n", strerror(posix_spawn(&child, "/etc/passwd", NULL, NULL, argv, environ)));
    printf("%s\n", strerror(posix_spawnp(&child, "no-such-program", NULL, NULL, argv, environ)));
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t set;
    sigemptyset(&set);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "spawned", O_WRONLY | O_CREAT, 0600);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &set);
    char *echo[] = {"echo", "to a file", NULL};
    printf("%d\n", posix_spawnp(&child, "echo", &actions, &attributes, echo, environ));
    print_status("echo", wait_for(child));
    FILE *pipe = popen("echo through a pipe", "r");
    char line[80];
    puts(fgets(line, sizeof line, pipe));
    printf("%d\n", WEXITSTATUS(pclose(pipe)));
    printf("%d\n", WEXITSTATUS(system("exit 12")));
}

static int on_own_stack(void *argument) {
    *(int *)argument = 77;
    return 21;
}

static void clones(void) {
    static char stack[65536] __attribute__((aligned(16)));
    int value = 0;
    pid_t child = clone(on_own_stack, stack + sizeof stack, SIGCHLD, &value);
    print_status("copied", wait_for(child));
    printf("value %d\n", value);
    child = clone(on_own_stack, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &value);
    print_status("shared", wait_for(child));
    printf("value %d\n", value);
    pid_t parent_tid = 0;
    volatile pid_t *child_tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    child = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &parent_tid, child_tid, 0);
    if (!child)
        _exit(*child_tid == getpid() ? 1 : 2);
    print_status("tids", wait_for(child));
    printf("parent %d child %d\n", parent_tid == child, *child_tid == child);
    struct clone_args arguments = {.flags = CLONE_PIDFD, .exit_signal = SIGCHLD};
    int pidfd = -1;
    arguments.pidfd = (uintptr_t)&pidfd;
    child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (!child)
        _exit(4);
    struct pollfd poll_it = {pidfd, POLLIN, 0};
    printf("pidfd %d", poll(&poll_it, 1, 5000));
    print_status(" clone3", wait_for(child));
    handle_with(SIGUSR1, count_it, 0);
    arguments = (struct clone_args){.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (!child) {
        raise(SIGUSR1);
        _exit(4);
    }
    print_status("cleared handlers", wait_for(child));
    say(syscall(SYS_clone3, &arguments, 8));
    say(syscall(SYS_clone3, NULL, sizeof arguments));
    child = syscall(SYS_clone, CLONE_CHILD_CLEARTID | CLONE_VM | CLONE_VFORK | SIGCHLD, stack + sizeof stack, NULL, &value, 0);
    if (!child)
        syscall(SYS_exit, 0);
    wait_for(child);
    printf("cleared %d\n", value);
}

// The new program of most cases below.
static void report(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    for (char **e = environ; *e; e++)
        printf("environment: %s\n", *e);
    char comm[32] = {0}, path[PATH_MAX] = {0};
    prctl(PR_GET_NAME, comm);
    readlink("/proc/self/exe", path, sizeof path - 1);
    printf("comm %s exe is self %d\n", comm, !strcmp(path, self));
    struct sigaction action;
    sigset_t now, waiting;
    sigprocmask(SIG_SETMASK, NULL, &now);
    sigpending(&waiting);
    for (int i = 1; i < 32; i++) {
        sigaction(i, NULL, &action);
        if (action.sa_handler == SIG_IGN)
            printf("ignores %d\n", i);
        if (action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL)
            printf("handles %d\n", i);
        if (sigismember(&now, i))
            printf("blocks %d\n", i);
        if (sigismember(&waiting, i))
            printf("waits %d\n", i);
    }
    for (int fd = 3; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("descriptor %d is open\n", fd);
    stack_t stack;
    sigaltstack(NULL, &stack);
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    if (limit.rlim_cur < 2000000000)
        printf("address space %lu\n", limit.rlim_cur);
    getrlimit(RLIMIT_DATA, &limit);
    if (limit.rlim_cur < 2000000000)
        printf("data %lu\n", limit.rlim_cur);
    printf("alternate stack %x, alarm %d\n", stack.ss_flags, alarm(0) > 0);
}

static void exec_environment(void) {
    char *envp[] = {"A=1", "EMPTY=", "LD_PRELOAD=/nonexistent.so", "ENDO_HANDOVER_FD=3", "NOEQUALS", NULL};
    char *argv[] = {(char *)self, "report", "", "two words", "--backend", NULL};
    run(argv, envp);
    char *none[] = {NULL};
    run(argv, none);
}

static void exec_inherits(void) {
    handle_with(SIGUSR1, count_it, 0);
    handle_with(SIGSEGV, count_it, 0);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGFPE, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    mask(SIG_BLOCK, SIGTERM);
    mask(SIG_BLOCK, SIGBUS);
    raise(SIGTERM);
    raise(SIGBUS);
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    alarm(100);
    struct rlimit limit = {1000000000, 1000000000};
    setrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur -= 10000;
    setrlimit(RLIMIT_DATA, &limit);
    dup2(open("/dev/null", O_RDONLY), 20);
    fcntl(20, F_SETFD, FD_CLOEXEC);
    dup2(20, 21);
    prctl(PR_SET_NAME, "other");
    execl(self, self, "report", NULL);
}

static void make(const char *path, const char *contents, int mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    write(fd, contents, strlen(contents));
    fchmod(fd, mode);
    close(fd);
}

static void exec_scripts(void) {
    make("script", "#!/bin/sh\necho \"script $0 $1\"; exit 4\n", 0755);
    run((char *[]){"./script", "one", NULL}, NULL);
    char line[PATH_MAX + 64];
    snprintf(line, sizeof line, "#!%s report\n", self);
    make("reporter", line, 0755);
    run((char *[]){"./reporter", "x", NULL}, (char *[]){NULL});
    make("indirect", "#!./reporter with an argument \n", 0755);
    run((char *[]){"./indirect", "y", NULL}, (char *[]){NULL});
}

static void exec_failures(void) {
    make("plain", "no program", 0755);
    make("unexecutable", "#!/bin/sh\n", 0644);
    make("lost", "#!/nonexistent\n", 0755);
    make("loop", "#!./loop\n", 0755);
    make("truncated", "\177ELF\2\1\1", 0755);
    make("empty", "", 0755);
    mkdir("directory", 0755);
    symlink("ring", "ring");
    char *names[] = {"/nonexistent", "./plain", "./unexecutable", "./lost", "./loop", "./truncated", "./empty", "./directory", "./ring", "",
                     "./plain/x", NULL};
    for (char **name = names; *name; name++) {
        char *argv[] = {*name, NULL};
        printf("%s: %d", *name, execv(*name, argv));
        printf(" %s\n", strerror(errno));
    }
    char *argv[] = {"x", NULL};
    say(syscall(SYS_execve, 8, argv, environ));
    say(syscall(SYS_execve, "/bin/true", 8, environ));
    say(syscall(SYS_execveat, 99, "x", argv, environ, 0));
    say(syscall(SYS_execveat, AT_FDCWD, "ring", argv, environ, AT_SYMLINK_NOFOLLOW));
    static char big[200000];
    memset(big, 'x', sizeof big - 1);
    char *too_long[] = {"true", big, NULL};
    say(execv("/bin/true", too_long));
    static char *many[200];
    big[100000] = 0;
    for (int i = 0; i < 199; i++)
        many[i] = big;
    say(execv("/bin/true", many));
    handle_with(SIGUSR1, count_it, 0);
    raise(SIGUSR1);
    printf("handlers are still there: %d\n", raised);
    handle_with(SIGSEGV, count_it, 0);
    raise(SIGSEGV);
    printf("%d\n", raised);
}

static void exec_by_descriptor(void) {
    int fd = open(self, O_RDONLY | O_CLOEXEC);
    char *argv[] = {"by-descriptor", "name", NULL};
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        fexecve(fd, argv, environ);
        _exit(42);
    }
    print_status("fexecve", wait_for(child));
    int copy = syscall(SYS_memfd_create, "program", MFD_CLOEXEC);
    char block[65536];
    lseek(fd, 0, SEEK_SET);
    for (ssize_t n; (n = read(fd, block, sizeof block)) > 0;)
        write(copy, block, n);
    child = fork();
    if (!child) {
        fexecve(copy, argv, environ);
        _exit(42);
    }
    print_status("memfd", wait_for(child));
    int directory = open("/bin", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    child = fork();
    if (!child) {
        char *arguments[] = {"sh", "-c", "exit 17", NULL};
        syscall(SYS_execveat, directory, "sh", arguments, environ, 0);
        _exit(42);
    }
    print_status("execveat", wait_for(child));
    child = fork();
    if (!child) {
        execl("/proc/self/exe", "again", "name", NULL);
        _exit(42);
    }
    print_status("/proc/self/exe", wait_for(child));
}

static void exec_repeatedly(void) {
    const char *left = getenv("LEFT");
    int n = left ? atoi(left) : 8;
    printf("%d left, pid kept %d\n", n, !getenv("PID") || atoi(getenv("PID")) == getpid());
    fflush(stdout);
    if (!n)
        return;
    char line[32], pid[32];
    snprintf(line, sizeof line, "%d", n - 1);
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("LEFT", line, 1);
    setenv("PID", pid, 1);
    execl(self, self, "exec_repeatedly", NULL);
}

static void orphan(void) {
    int fds[2];
    pipe(fds);
    pid_t child = fork();
    if (!child) {
        if (!fork()) {
            usleep(50000);
            char adopted = getppid() != child ? 'y' : 'n';
            write(fds[1], &adopted, 1);
            _exit(0);
        }
        _exit(0);
    }
    wait_for(child);
    char answer = '?';
    read(fds[0], &answer, 1);
    printf("adopted %c\n", answer);
}

static void waits(void) {
    int status = 5;
    say(wait4(-1, &status, 0, NULL));
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    printf("%d\n", waitpid(child, &status, WNOHANG));
    kill(child, SIGUSR1);
    siginfo_t info;
    memset(&info, 0x5a, sizeof info);
    printf("%d", waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    printf(" signal %d code %d status %d pid %d\n", info.si_signo, info.si_code, info.si_status, info.si_pid == child);
    struct rusage usage;
    memset(&usage, 0xff, sizeof usage);
    printf("%d", wait4(child, &status, 0, &usage) == child);
    printf(" usage %d\n", usage.ru_utime.tv_usec >= 0);
    print_status("it", status);
    say(wait4(child, &status, 0xffff, NULL));
    child = fork();
    if (!child)
        _exit(0);
    say(syscall(SYS_wait4, child, 8, 0, NULL));
}

static void exits(void) {
    for (int status = 0; status < 1000; status += 255) {
        pid_t child = fork();
        if (!child)
            syscall(status % 2 ? SYS_exit : SYS_exit_group, status);
        print_status("child", wait_for(child));
    }
}

static void groups(void) {
    pid_t child = fork();
    if (!child) {
        int facts = (setsid() == getpid()) | (getpgrp() == getpid()) << 1 | (getsid(0) == getpid()) << 2;
        facts |= (setpgid(0, 0) == -1) << 3;
        _exit(facts);
    }
    print_status("session", wait_for(child));
    child = fork();
    if (!child) {
        setpgid(0, 0);
        kill(0, SIGTERM);
        _exit(0);
    }
    print_status("group", wait_for(child));
}

static void names(int argc, char **argv) {
    char path[PATH_MAX] = {0};
    readlink("/proc/self/exe", path, sizeof path - 1);
    printf("argv[0] %s, %d arguments, execfn %s, exe %s\n", argv[0], argc,
           strncmp((char *)getauxval(AT_EXECFN), "/dev/fd/", 8) ? "path" : "descriptor",
           strstr(path, "memfd") ? "memfd" : !strcmp(path, self) ? "self" : "other");
}

static const struct guest_case cases[] = {{"fork_copies", fork_copies},
                                    {"fork_tree", fork_tree},
                                    {"vfork_shares", vfork_shares},
                                    {"vfork_keeps_the_parents_signals", vfork_keeps_the_parents_signals},
                                    {"vfork_exec", vfork_exec},
                                    {"spawn", spawn},
                                    {"clones", clones},
                                    {"exec_environment", exec_environment},
                                    {"exec_inherits", exec_inherits},
                                    {"exec_scripts", exec_scripts},
                                    {"exec_failures", exec_failures},
                                    {"exec_by_descriptor", exec_by_descriptor},
                                    {"exec_repeatedly", exec_repeatedly},
                                    {"orphan", orphan},
                                    {"waits", waits},
                                    {"exits", exits},
                                    {"groups", groups},
                                    {NULL, NULL}};

int main(int argc, char **argv) {
    static char path[PATH_MAX];
    readlink("/proc/self/exe", path, sizeof path - 1);
    // A copy in a memfd has no path to be started by again.
    self = path;
    if (argc > 1 && !strcmp(argv[1], "report"))
        return report(argc, argv), 0;
    if (argc > 1 && !strcmp(argv[1], "name"))
        return names(argc, argv), 0;
    return run_case(cases, argc, argv);
}

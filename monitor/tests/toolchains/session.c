// What daemons, shells and supervisors ask of the kernel about themselves. argv[1] names a case; `report` is what the cases
// that exec start.
#include "../signals/guest.h"
#include <limits.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>

static char self[PATH_MAX];

static void print_status(const char *what, int status) {
    printf("%s: exited %d with %d, signalled %d by %d, stopped %d, continued %d\n", what, WIFEXITED(status),
           WIFEXITED(status) ? WEXITSTATUS(status) : 0, WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0,
           WIFSTOPPED(status) ? WSTOPSIG(status) : 0, WIFCONTINUED(status));
}

static int wait_for(pid_t child) {
    int status = -1;
    if (waitpid(child, &status, 0) != child)
        perror("waitpid");
    return status;
}

// The double fork: the grandchild has a session that it does not lead, no terminal, and a parent that is not this program.
static void daemonizes(void) {
    int fds[2];
    pipe(fds);
    pid_t child = fork();
    if (!child) {
        setsid();
        signal(SIGHUP, SIG_IGN);
        if (fork())
            _exit(0);
        pid_t leader = getsid(0);
        chdir("/");
        umask(027);
        close(0), close(1), close(2);
        open("/dev/null", O_RDWR), dup(0), dup(0);
        for (int i = 0; i < 200 && getppid() == leader; i++)
            usleep(5000);
        char directory[PATH_MAX];
        int terminal = open("/dev/tty", O_RDWR);
        dprintf(fds[1], "leader %d, group leader %d, orphan %d, directory %s, terminal %s, mask %o\n", leader == getpid(),
                getpgrp() == getpid(), getppid() != leader, getcwd(directory, sizeof directory),
                terminal < 0 ? strerror(errno) : "some", umask(0));
        _exit(0);
    }
    close(fds[1]);
    print_status("first child", wait_for(child));
    char text[512];
    for (ssize_t n; (n = read(fds[0], text, sizeof text)) > 0;)
        fwrite(text, 1, n, stdout);
}

// A subreaper inherits the orphans of its children.
static void reaps_orphans(void) {
    say(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    if (!fork()) {
        if (!fork()) {
            usleep(20000);
            _exit(7);
        }
        _exit(6);
    }
    for (int i = 0; i < 2; i++) {
        int status;
        wait(&status);
        print_status("one", status);
    }
    int is_subreaper = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0);
    say(is_subreaper);
    say(wait(NULL));
}

static void prctls(void) {
    char name[17] = "";
    say(prctl(PR_SET_NAME, "a name of more than fifteen", 0, 0, 0));
    say(prctl(PR_GET_NAME, name));
    puts(name);
    char comm[32] = "";
    int fd = open("/proc/self/comm", O_RDONLY);
    read(fd, comm, sizeof comm);
    fputs(comm, stdout);
    say(prctl(PR_GET_DUMPABLE));
    say(prctl(PR_SET_DUMPABLE, 0));
    say(prctl(PR_GET_DUMPABLE));
    say(prctl(PR_SET_DUMPABLE, 2));
    say(prctl(PR_SET_DUMPABLE, 1));
    say(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    int death = 0;
    say(prctl(PR_GET_PDEATHSIG, &death));
    say(death);
    say(prctl(PR_SET_PDEATHSIG, 100));
    say(prctl(PR_SET_PDEATHSIG, 0));
    say(prctl(PR_SET_KEEPCAPS, 1));
    say(prctl(PR_GET_KEEPCAPS));
    say(prctl(PR_SET_KEEPCAPS, 2));
    say(prctl(PR_GET_TIMERSLACK) > 0);
    say(prctl(PR_SET_TIMERSLACK, 100000));
    say(prctl(PR_GET_TIMERSLACK));
    say(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    say(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    say(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    say(prctl(PR_CAPBSET_READ, 0) >= 0);
    say(prctl(0x7fffffff, 0, 0, 0, 0));
}

static void dies_with_its_parent(void) {
    int fds[2], ready[2];
    pipe(fds), pipe(ready);
    pid_t parent = fork();
    if (!parent) {
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            write(ready[1], "r", 1);
            pause();
            write(fds[1], "alive", 5);
            _exit(0);
        }
        char byte;
        read(ready[0], &byte, 1);
        _exit(0);
    }
    wait_for(parent);
    close(fds[1]), close(ready[1]);
    char text[8];
    say(read(fds[0], text, sizeof text));
}

static void rlimits(void) {
    struct rlimit limit = {64, 128}, old;
    say(setrlimit(RLIMIT_NOFILE, &limit));
    int highest = 0;
    for (int fd; (fd = dup(0)) >= 0;)
        highest = fd;
    printf("%d %s\n", highest, strerror(errno));
    for (int fd = 10; fd <= highest; fd++)
        close(fd);
    say(prlimit(0, RLIMIT_NOFILE, &(struct rlimit){65, 64}, &old));
    say(prlimit(getpid(), RLIMIT_NOFILE, NULL, &old));
    printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
    say(getrlimit(99, &old));
    pid_t child = fork();
    if (!child) {
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000});
        int fd = open("limited", O_CREAT | O_WRONLY, 0644);
        char block[800] = "";
        write(fd, block, sizeof block);
        printf("%d\n", (int)write(fd, block, sizeof block));
        write(fd, block, 1);
        _exit(0);
    }
    print_status("file too large", wait_for(child));
    child = fork();
    if (!child) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){1, 2});
        for (;;)
            ;
    }
    print_status("too much time", wait_for(child));
    child = fork();
    if (!child) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        abort();
    }
    print_status("abort", wait_for(child));
    child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    say(prlimit(child, RLIMIT_NOFILE, &(struct rlimit){17, 18}, NULL));
    say(prlimit(child, RLIMIT_NOFILE, NULL, &old));
    printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
    kill(child, SIGKILL);
    print_status("limited", wait_for(child));
}

static void waits(void) {
    int status, go_on[2];
    pipe(go_on);
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        raise(SIGSTOP);
        char byte;
        read(go_on[0], &byte, 1);
        _exit(11);
    }
    setpgid(child, child);
    print_status("stop", (waitpid(child, &status, WUNTRACED), status));
    say(waitpid(child, &status, WUNTRACED | WNOHANG));
    kill(child, SIGCONT);
    siginfo_t info = {0};
    say(waitid(P_PGID, child, &info, WCONTINUED | WNOWAIT));
    printf("code %d status %d\n", info.si_code, info.si_status);
    write(go_on[1], "x", 1);
    print_status("group", (waitpid(-child, &status, 0), status));
    child = fork();
    if (!child)
        _exit(12);
    int pidfd = syscall(SYS_pidfd_open, child, 0);
    struct pollfd poller = {pidfd, POLLIN, 0};
    say(poll(&poller, 1, 5000));
    say(waitid(P_PIDFD, pidfd, &info, WEXITED));
    printf("code %d status %d\n", info.si_code, info.si_status);
    say(waitid(P_PIDFD, pidfd, &info, WEXITED));
    say(waitid(P_ALL, 0, &info, 0));
    say(waitid(77, 0, &info, WEXITED));
    // Children of an ignoring parent leave nothing to wait for.
    signal(SIGCHLD, SIG_IGN);
    if (!fork())
        _exit(0);
    say(wait(&status));
    signal(SIGCHLD, SIG_DFL);
    struct rusage before, after;
    getrusage(RUSAGE_CHILDREN, &before);
    if (!fork()) {
        struct timespec now;
        do
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        while (now.tv_nsec < 30000000 && !now.tv_sec);
        _exit(0);
    }
    wait(NULL);
    getrusage(RUSAGE_CHILDREN, &after);
    say(after.ru_utime.tv_usec + after.ru_stime.tv_usec + 1000000 * (after.ru_utime.tv_sec + after.ru_stime.tv_sec) >=
        before.ru_utime.tv_usec + before.ru_stime.tv_usec + 20000);
}

// What a shell does: gives its terminal to a job, and takes it back.
static void controls_a_terminal(void) {
    int master, slave;
    openpty(&master, &slave, NULL, NULL, &(struct winsize){24, 80, 0, 0});
    pid_t shell = fork();
    if (!shell) {
        close(master);
        setsid();
        say(ioctl(slave, TIOCSCTTY, 0));
        say(tcgetpgrp(slave) == getpid());
        signal(SIGTTOU, SIG_IGN);
        pid_t job = fork();
        if (!job) {
            setpgid(0, 0);
            signal(SIGTTOU, SIG_DFL);
            char line[32];
            // In the background: reading stops it, until it is in the foreground.
            ssize_t n = read(slave, line, sizeof line - 1);
            line[n > 0 ? n : 0] = 0;
            printf("job read %s", line);
            fflush(stdout);
            pause();
            _exit(0);
        }
        setpgid(job, job);
        int status;
        print_status("background", (waitpid(job, &status, WUNTRACED), status));
        say(tcsetpgrp(slave, job));
        kill(-job, SIGCONT);
        print_status("interrupted", (waitpid(job, &status, WUNTRACED), status));
        say(tcsetpgrp(slave, getpgrp()));
        struct winsize size;
        ioctl(slave, TIOCGWINSZ, &size);
        printf("%d x %d, session %d\n", size.ws_row, size.ws_col, tcgetsid(slave) == getpid());
        _exit(3);
    }
    usleep(100000);
    write(master, "hello\n", 6);
    // The job says when it may be interrupted: its answer comes through the pipe that standard output is, so time has to do.
    usleep(200000);
    write(master, "\003", 1);
    print_status("shell", wait_for(shell));
    close(slave);
    char rest[256];
    ssize_t n = read(master, rest, sizeof rest);
    printf("%.*s\n", n > 0 ? (int)n : 0, rest);
}

static void report(int argc, char **argv) {
    printf("%s: descriptors", argv[0]);
    for (int fd = 3; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf(" %d", fd);
    char path[PATH_MAX] = "";
    readlink("/proc/self/exe", path, sizeof path - 1);
    printf(", executable %s\n", strcmp(path, argc > 2 ? argv[2] : "") ? "another" : "the same");
}

// Which descriptors live through an exec of /proc/self/exe.
static void execs_itself(void) {
    int kept = open("/dev/null", O_RDONLY), closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fcntl(kept, F_DUPFD, 20), fcntl(kept, F_DUPFD_CLOEXEC, 30);
    fcntl(dup2(closed, 21), F_SETFD, 0);
    dup3(kept, 31, O_CLOEXEC);
    dup2(kept, 40), dup2(kept, 41), dup2(kept, 42);
    say(syscall(SYS_close_range, 41, 50, 4 /* CLOSE_RANGE_CLOEXEC */));
    pid_t child = vfork();
    if (!child) {
        execl("/proc/self/exe", "self", "report", self, NULL);
        _exit(1);
    }
    print_status("self", wait_for(child));
    child = fork();
    if (!child) {
        char path[64];
        sprintf(path, "/proc/%d/exe", getpid());
        execl(path, "by number", "report", self, NULL);
        _exit(1);
    }
    print_status("by number", wait_for(child));
}

static const struct guest_case cases[] = {{"daemonizes", daemonizes},
                                          {"reaps_orphans", reaps_orphans},
                                          {"prctls", prctls},
                                          {"dies_with_its_parent", dies_with_its_parent},
                                          {"rlimits", rlimits},
                                          {"waits", waits},
                                          {"controls_a_terminal", controls_a_terminal},
                                          {"execs_itself", execs_itself},
                                          {NULL, NULL}};

int main(int argc, char **argv) {
    readlink("/proc/self/exe", self, sizeof self - 1);
    if (argc > 1 && !strcmp(argv[1], "report"))
        return report(argc, argv), 0;
    return run_case(cases, argc, argv);
}

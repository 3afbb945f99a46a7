// Job control: who may read the terminal, who is stopped and told, process groups and sessions.
#include "guest.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile int count;
static volatile int seen[32];

static void note(int signal, siginfo_t *info, void *context) {
    seen[count++ & 31] = signal;
    (void)info, (void)context;
}

static void print_notes(void) {
    for (int i = 0; i < count; i++)
        printf("%d ", seen[i]);
    puts("");
    count = 0;
}

static void print_status(const char *what, pid_t child, int options) {
    int status = 0;
    pid_t got;
    do
        got = waitpid(child, &status, options);
    while (got < 0 && errno == EINTR);
    if (got != child)
        printf("%s: nothing\n", what);
    else if (WIFSTOPPED(status))
        printf("%s: stopped by %d\n", what, WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        printf("%s: continued\n", what);
    else if (WIFSIGNALED(status))
        printf("%s: killed by %d\n", what, WTERMSIG(status));
    else
        printf("%s: exited with %d\n", what, WEXITSTATUS(status));
    fflush(stdout);
}

static void defaults_stop(void) {
    int signals[] = {SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP};
    for (int i = 0; i < 4; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (!child) {
            setpgid(0, 0);
            raise(signals[i]);
            _exit(4);
        }
        print_status("child", child, WUNTRACED);
        kill(child, SIGCONT);
        print_status("child", child, 0);
    }
}

// A process that handles SIGTSTP as editors do: puts things in order, stops itself for good, and goes on when told.
static void stop_for_good(int signal_number, siginfo_t *info, void *context) {
    write(1, "handler\n", 8);
    signal(SIGTSTP, SIG_DFL);
    raise(SIGTSTP);
    mask(SIG_UNBLOCK, SIGTSTP);
    write(1, "continued\n", 10);
    handle_with(SIGTSTP, stop_for_good, 0);
    (void)signal_number, (void)info, (void)context;
}

static void handled_stop(void) {
    int ready[2];
    char byte;
    pipe(ready);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        handle_with(SIGTSTP, stop_for_good, SA_RESTART);
        handle_with(SIGCONT, note, SA_RESTART);
        write(ready[1], "x", 1);
        while (count < 2)
            pause();
        print_notes();
        exit(6);
    }
    setpgid(child, child);
    read(ready[0], &byte, 1);
    for (int i = 0; i < 2; i++) {
        kill(child, SIGTSTP);
        print_status("child", child, WUNTRACED);
        kill(child, SIGCONT);
        usleep(20000);
    }
    print_status("child", child, 0);
}

// SIGCONT makes a process go on even if it ignores or blocks it; a stop that was pending is gone.
static void continue_wins(void) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        signal(SIGCONT, SIG_IGN);
        mask(SIG_BLOCK, SIGCONT);
        raise(SIGSTOP);
        mask(SIG_BLOCK, SIGTSTP);
        raise(SIGTSTP);
        sigset_t pending;
        sigpending(&pending);
        printf("stop pends %d\n", sigismember(&pending, SIGTSTP));
        raise(SIGCONT);
        sigpending(&pending);
        printf("stop pends %d continue %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
        fflush(stdout);
        _exit(5);
    }
    print_status("child", child, WUNTRACED);
    kill(child, SIGCONT);
    print_status("child", child, 0);
}

static void process_groups(void) {
    pid_t children[3];
    int ready[2];
    char bytes[3];
    pipe(ready);
    for (int i = 0; i < 3; i++) {
        fflush(stdout);
        children[i] = fork();
        if (!children[i]) {
            setpgid(0, i < 2 && i > 0 ? children[0] : 0);
            handle_with(SIGUSR1, note, 0);
            write(ready[1], "x", 1);
            while (count < 1)
                usleep(1000);
            _exit(10 + count);
        }
        setpgid(children[i], i == 1 ? children[0] : children[i]);
        read(ready[0], bytes, 1);
    }
    say(kill(-children[0], SIGUSR1));
    print_status("first", children[0], 0);
    print_status("second", children[1], 0);
    print_status("third", children[2], WNOHANG);
    say(kill(-children[0], 0));
    kill(children[2], SIGTERM);
    print_status("third", children[2], 0);
    say(kill(-1234567, 0));
}

// A session on a terminal: a background process that reads or writes there is stopped, keys are signals.
static int session(int terminal) {
    setsid();
    ioctl(terminal, TIOCSCTTY, 0);
    handle_with(SIGINT, note, 0);
    handle_with(SIGTSTP, note, 0);
    signal(SIGTTOU, SIG_IGN);
    printf("foreground %d\n", tcgetpgrp(terminal) == getpgrp());
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        char byte;
        setpgid(0, 0);
        signal(SIGTTIN, SIG_DFL);
        long got = read(terminal, &byte, 1);
        printf("read %ld %c\n", got, byte);
        exit(3);
    }
    print_status("reader", child, WUNTRACED);
    tcsetpgrp(terminal, child);
    kill(child, SIGCONT);
    print_status("reader", child, 0);
    tcsetpgrp(terminal, getpgrp());
    child = fork();
    if (!child) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        struct termios settings;
        tcgetattr(terminal, &settings);
        tcsetattr(terminal, TCSANOW, &settings);
        exit(4);
    }
    print_status("setter", child, WUNTRACED);
    kill(child, SIGKILL);
    print_status("setter", child, 0);
    write(terminal, "keys\n", 5);
    while (count < 1)
        usleep(1000);
    write(terminal, "another\n", 8);
    while (count < 2)
        usleep(1000);
    print_notes();
    handle_with(SIGWINCH, note, 0);
    write(terminal, "size\n", 5);
    while (count < 1)
        usleep(1000);
    print_notes();
    handle_with(SIGHUP, note, 0);
    write(terminal, "hang up\n", 8);
    while (count < 1)
        usleep(1000);
    print_notes();
    say(read(terminal, seen, 1));
    return 7;
}

// Reads from the terminal until it said this.
static void expect(int master, const char *what) {
    static char text[4096];
    static size_t length;
    while (!strstr(text, what)) {
        ssize_t got = read(master, text + length, sizeof text - 1 - length);
        if (got <= 0) {
            printf("no %s", what);
            exit(8);
        }
        text[length += got] = 0;
    }
    length = 0, text[0] = 0;
}

static void terminal(void) {
    int master, slave;
    openpty(&master, &slave, NULL, NULL, NULL);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        close(master);
        exit(session(slave));
    }
    close(slave);
    usleep(30000);
    write(master, "q\n", 2);
    expect(master, "keys");
    // One at a time: of two that are pending, the handler of the second would run first.
    write(master, "\003", 1);
    expect(master, "another");
    write(master, "\032", 1);
    expect(master, "size");
    ioctl(master, TIOCSWINSZ, &(struct winsize){30, 100});
    expect(master, "hang up");
    close(master);
    print_status("session", child, 0);
}

// The same by an interactive shell: jobs stopped by a key, continued behind and in front, ended.
static const char *const script[][2] = {{"sleep 100\n", NULL},
                                        {"\032", "Stopped"},
                                        {"jobs\n", "Stopped"},
                                        {"bg\n", "sleep 100 &"},
                                        {"jobs\n", "Running"},
                                        {"fg\n", "sleep 100"},
                                        {"\003", "$ "},
                                        {"echo status $?\n", "status 130"},
                                        {"trap 'echo got int' INT; kill -INT $$\n", "got int\r\n"},
                                        {"cat | cat\n", "cat\r\n"},
                                        {"\032", "Stopped"},
                                        {"kill %%; fg; echo over $?\n", "over 1"},
                                        {"sleep 0.05 & wait $!; echo waited $?\n", "waited 0"},
                                        {"(kill -STOP $BASHPID; echo resumed) & sleep 0.1; jobs\n", "Stopped"},
                                        {"kill -CONT %%; wait; echo all\n", "resumed"},
                                        {"exit 5\n", NULL}};

static void shell(void) {
    int master;
    pid_t child = forkpty(&master, NULL, NULL, &(struct winsize){24, 200});
    if (!child) {
        setenv("PS1", "$ ", 1);
        setenv("TERM", "dumb", 1);
        execl("/bin/bash", "bash", "--norc", "--noprofile", "--noediting", "-i", NULL);
        _exit(127);
    }
    expect(master, "$ ");
    for (unsigned i = 0; i < sizeof script / sizeof *script; i++) {
        usleep(script[i][0][0] < 32 ? 100000 : 0);
        write(master, script[i][0], strlen(script[i][0]));
        if (script[i][1]) {
            expect(master, script[i][1]);
            printf("%s: %s\n", script[i][1], "seen");
        }
    }
    print_status("shell", child, 0);
}

static const struct guest_case cases[] = {{"defaults_stop", defaults_stop},
                                          {"handled_stop", handled_stop},
                                          {"continue_wins", continue_wins},
                                          {"process_groups", process_groups},
                                          {"terminal", terminal},
                                          {"shell", shell},
                                          {NULL, NULL}};

int main(int argc, char **argv) { return run_case(cases, argc, argv); }

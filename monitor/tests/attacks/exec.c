/* Sheds whoever watches with an exec, in every form that there is; each program says whether it is free. */
#include "whereabouts.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char *none[] = {0};

static int memory_file(const char *from, int flags) {
    char buffer[65536];
    long length;
    int file = syscall(SYS_memfd_create, "program", flags), source = open(from, O_RDONLY);
    while ((length = read(source, buffer, sizeof buffer)) > 0) write(file, buffer, length);
    close(source);
    return file;
}

static void copy(const char *from, const char *to, int mode) {
    char buffer[65536];
    long length;
    int file = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700), source = open(from, O_RDONLY);
    while ((length = read(source, buffer, sizeof buffer)) > 0) write(file, buffer, length);
    close(source), close(file);
    chmod(to, mode);
}

static void form(const char *name, const char *self, const char *other) {
    char *argv[] = {(char *)self, "say", (char *)name, 0}, path[64];
    char *linker[] = {"/lib64/ld-linux-x86-64.so.2", (char *)self, "say", (char *)name, 0};
    if (strcmp(name, "by path") == 0) execv(self, argv);
    if (strcmp(name, "without an environment") == 0) execve(self, argv, none);
    if (strcmp(name, "the same again") == 0) execv("/proc/self/exe", argv);
    if (strcmp(name, "through the linker") == 0) execv(linker[0], linker);
    if (strcmp(name, "a static one") == 0) execv(other, argv);
    if (strcmp(name, "by descriptor") == 0) fexecve(open(self, O_RDONLY), argv, none);
    if (strcmp(name, "by path descriptor") == 0) syscall(SYS_execveat, open(self, O_PATH), "", argv, none, AT_EMPTY_PATH);
    if (strcmp(name, "in a directory") == 0) {
        copy(self, "copy", 0700);
        syscall(SYS_execveat, open(".", O_PATH), "copy", argv, none, 0);
    }
    if (strcmp(name, "a file in memory") == 0) fexecve(memory_file(self, 0), argv, none);
    if (strcmp(name, "one that closes") == 0) fexecve(memory_file(other, 1), argv, none);
    if (strcmp(name, "a link in proc") == 0) {
        sprintf(path, "/proc/self/fd/%d", open(self, O_RDONLY));
        execv(path, argv);
    }
    if (strcmp(name, "a script") == 0) {
        FILE *script = fopen("script", "w");
        fprintf(script, "#!%s say\n", self);
        fclose(script), chmod("script", 0700);
        execv("script", (char *[]){"script", 0});
    }
    if (strcmp(name, "a preloaded library") == 0) execve(self, argv, (char *[]){"LD_PRELOAD=/nonexistent.so", "LD_LIBRARY_PATH=/nonexistent", 0});
    if (strcmp(name, "set-user-id") == 0) {
        copy(self, "privileged", 04755);
        chmod(".", 0755);
        if (setgid(65534) == 0 && setuid(65534) == 0) execv("./privileged", argv);
    }
    _exit(errno);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "say") == 0) {
        say(argv[2]);
        if (strcmp(argv[2], "set-user-id") == 0) printf("user %d\n", geteuid());
        return 0;
    }
    const char *names[] = {"by path", "without an environment", "the same again", "through the linker", "a static one", "by descriptor",
                           "by path descriptor", "in a directory", "a file in memory", "one that closes", "a link in proc", "a script",
                           "a preloaded library", "set-user-id"};
    char self[4096] = "";
    readlink("/proc/self/exe", self, sizeof self - 1);
    int status;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (fork() == 0) form(names[i], self, argv[1]);
        wait(&status);
        if (status) printf("%s: status %d\n", names[i], status), fflush(stdout);
    }
    if (vfork() == 0) {
        execl(self, self, "say", "by a child of vfork", (char *)0);
        _exit(1);
    }
    wait(&status);
    pid_t child;
    posix_spawn(&child, self, 0, 0, (char *[]){self, "say", "spawned", 0}, none);
    waitpid(child, &status, 0);
    execl(self, self, "say", "in place", (char *)0);
    return 9;
}

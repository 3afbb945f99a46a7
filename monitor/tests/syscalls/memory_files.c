/* Opens this process's memory by one name after the other. */
#include "report.h"
#include <fcntl.h>
#include <sys/stat.h>

static int secret = 0x5ec0e7;

static void attempt(const char *name, int fd) {
    int found = 0;
    if (fd < 0) { printf("%s: %s\n", name, strerrorname_np(errno)); return; }
    long length = pread(fd, &found, sizeof found, (long)&secret);
    printf("%s: %s\n", name, length == sizeof found && found == secret ? "read" : "nothing");
    close(fd);
}

int main(void) {
    char path[128];
    attempt("self", open("/proc/self/mem", O_RDWR));
    sprintf(path, "/proc/%d/mem", getpid());
    attempt("by number", open(path, O_RDONLY));
    sprintf(path, "/proc/self/task/%d/mem", getpid());
    attempt("of a task", open(path, O_RDONLY));
    attempt("of the thread", open("/proc/thread-self/mem", O_RDONLY));
    attempt("roundabout", open("/proc/../proc/self/../self/./mem", O_RDONLY));
    int directory = open("/proc/self", O_PATH);
    attempt("in a directory", openat(directory, "mem", O_RDONLY));
    symlink("/proc/self/mem", "link");
    attempt("by a link", open("link", O_RDONLY));
    attempt("old call", syscall(SYS_open, "/proc/self/mem", O_RDONLY));
    struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0};
    attempt("new call", syscall(SYS_openat2, AT_FDCWD, "/proc/self/mem", &how, sizeof how));
    int named = open("/proc/self/mem", O_PATH);
    sprintf(path, "/proc/self/fd/%d", named);
    attempt("opened again", open(path, O_RDONLY));
    chdir("/proc/self");
    attempt("from there", open("mem", O_RDONLY));
    return 0;
}

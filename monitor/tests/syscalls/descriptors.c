/* No descriptor but the program's own can be found, used or closed, and the program still runs afterwards. */
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    if (argc > 1) { printf("again\n"); return 7; }
    printf("open:");
    for (int fd = 0; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
    int polled = 0, selected = 0, linked = 0, seen = 0, described = 0;
    for (int fd = 0; fd < 4096; fd++) {
        char path[64], text[4096];
        struct stat status;
        struct pollfd entry = {fd, POLLIN | POLLOUT};
        unsigned long sets[2][64] = {{0}};
        struct timeval now = {0};
        struct timespec soon = {0};
        sets[0][fd / 64] = sets[1][fd / 64] = 1ul << fd % 64;
        polled += poll(&entry, 1, 0) == 1 && entry.revents == POLLNVAL;
        polled += ppoll(&entry, 1, &soon, 0) == 1 && entry.revents == POLLNVAL;
        selected += fd > 2 && syscall(SYS_select, fd + 1, sets[0], sets[1], 0, &now) > 0;
        selected += fd > 2 && syscall(SYS_pselect6, fd + 1, sets[0], sets[1], 0, &soon, 0) > 0;
        sprintf(path, "/proc/self/fd/%d", fd);
        linked += readlink(path, text, sizeof text) > 0;
        seen += lstat(path, &status) == 0;
        seen += stat(path, &status) == 0;
        seen += access(path, F_OK) == 0;
        sprintf(path, "/proc/thread-self/fdinfo/%d", fd);
        int file = open(path, O_PATH);
        described += file >= 0 && close(file) == 0;
    }
    printf("\npolled as closed: %d, ready: %d, links: %d %d, described: %d\n", polled, selected, linked, seen, described);
    struct pollfd both[2] = {{1, POLLOUT}, {4095, POLLOUT}};
    result_of("poll of two", poll(both, 2, -1));
    printf("%x %x\n", both[0].revents, both[1].revents);
    result_of("poll of nothing", poll(0, 0, 0));
    result_of("poll of nobody's memory", poll((void *)16, 1, 0));
    result_of("select of less than none", syscall(SYS_select, -1, 0, 0, 0, 0));
    printf("closed:");
    for (int fd = 3; fd < 4096; fd++) if (close(fd) == 0) printf(" %d", fd);
    printf("\n");
    int copied = 0;
    for (int fd = 3; fd < 4096; fd++) if (dup(fd) >= 0) copied++;
    printf("copied: %d\n", copied);
    result_of("close the rest", syscall(SYS_close_range, 3, ~0u, 0));
    result_of("backwards", syscall(SYS_close_range, 5, 3, 0));
    result_of("lowest", fcntl(0, F_DUPFD, 3));
    result_of("from 100", fcntl(0, F_DUPFD_CLOEXEC, 100));
    result_of("onto", dup2(1, 200));
    result_of("onto itself", dup3(1, 1, 0));
    result_of("odd command", fcntl(0, 12345));
    result_of("odd request", syscall(SYS_ioctl, 0, 0xabcdef, 0));
    result_of("of none", syscall(SYS_ioctl, 77, 0xabcdef, 0));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { execl("/proc/self/exe", argv[0], "again", (char *)0); _exit(99); }
    int status;
    waitpid(child, &status, 0);
    printf("status %d\n", WEXITSTATUS(status));
    return 0;
}

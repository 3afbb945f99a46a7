/* No descriptor but the program's own can be found, used or closed, and the program still runs afterwards. */
#include "report.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    if (argc > 1) { printf("again\n"); return 7; }
    printf("open:");
    for (int fd = 0; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
    printf("\nclosed:");
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

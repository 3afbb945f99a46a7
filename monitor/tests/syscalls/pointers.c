/* Pointers to where nothing of the program's can be: the kernel's half, a hole far up, a place that has no name. */
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

static void *const places[] = {(void *)0xffff888000001000, (void *)0x6f0000001000, (void *)0x8000000000001000, (void *)8};

int main(void) {
    int ends[2], pair[2], file = open("/proc/version", O_RDONLY), sink = open("/dev/null", O_WRONLY);
    pipe(ends);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        void *bad = places[i];
        printf("-- %u\n", i);
        write(ends[1], "x", 1);
        result_of("read", read(ends[0], bad, 1));
        result_of("write", write(ends[1], bad, 1));
        result_of("pread", pread(file, bad, 8, 0));
        result_of("a vector", readv(file, bad, 1));
        result_of("a vector's buffer", readv(file, &(struct iovec){bad, 8}, 1));
        result_of("written vector's buffer", writev(ends[1], &(struct iovec){bad, 8}, 1));
        result_of("second buffer", writev(ends[1], (struct iovec[]){{"y", 1}, {bad, 8}}, 2));
        result_of("open", open(bad, O_RDONLY));
        result_of("stat", syscall(SYS_stat, bad, bad));
        result_of("fstat", syscall(SYS_fstat, 0, bad));
        result_of("fstatat", syscall(SYS_newfstatat, AT_FDCWD, "/", bad, 0));
        result_of("readlink", readlink("/proc/self/exe", bad, 100));
        result_of("readlink of", readlink(bad, (char[8]){0}, 8));
        result_of("getcwd", syscall(SYS_getcwd, bad, 100));
        result_of("uname", uname(bad));
        result_of("sysinfo", sysinfo(bad));
        result_of("statfs", statfs("/", bad));
        result_of("pipe", syscall(SYS_pipe, bad));
        result_of("clock", syscall(SYS_clock_gettime, CLOCK_REALTIME, bad));
        result_of("time of day", syscall(SYS_gettimeofday, bad, 0));
        result_of("nanosleep", syscall(SYS_nanosleep, bad, 0));
        result_of("limit", getrlimit(RLIMIT_CORE, bad));
        result_of("data limit", getrlimit(RLIMIT_DATA, bad));
        result_of("usage", getrusage(RUSAGE_SELF, bad));
        result_of("affinity", syscall(SYS_sched_getaffinity, 0, 128, bad));
        result_of("random", syscall(SYS_getrandom, bad, 8, 0));
        result_of("poll", poll(bad, 1, 0));
        result_of("select", syscall(SYS_select, 1, bad, 0, 0, &(struct timeval){0, 0}));
        result_of("select's time", syscall(SYS_select, 0, 0, 0, 0, bad));
        result_of("action", syscall(SYS_rt_sigaction, SIGUSR1, bad, 0, 8));
        result_of("old action", syscall(SYS_rt_sigaction, SIGUSR1, 0, bad, 8));
        result_of("mask", syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, 0, 8));
        result_of("old mask", syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, bad, 8));
        result_of("alternate stack", sigaltstack(bad, 0));
        result_of("bind", bind(pair[0], bad, 16));
        result_of("name", getsockname(pair[0], bad, &(socklen_t){16}));
        result_of("name's length", getsockname(pair[0], (void *)(char[16]){0}, bad));
        result_of("option", setsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, bad, 4));
        result_of("option asked", getsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, bad, &(socklen_t){4}));
        result_of("message", sendmsg(pair[0], bad, 0));
        result_of("message's buffer", sendmsg(pair[0], &(struct msghdr){.msg_iov = &(struct iovec){bad, 8}, .msg_iovlen = 1}, 0));
        result_of("message's control", sendmsg(pair[0], &(struct msghdr){.msg_control = bad, .msg_controllen = 32}, 0));
        result_of("message's vectors", recvmsg(pair[0], &(struct msghdr){.msg_iov = bad, .msg_iovlen = 1}, MSG_DONTWAIT));
        result_of("window size", syscall(SYS_ioctl, ends[0], 0x541b, bad));
        result_of("lock", fcntl(file, F_GETLK, bad));
        result_of("futex", syscall(SYS_futex, bad, 0, 1, 0, 0, 0));
        result_of("exec", syscall(SYS_execve, bad, 0, 0));
        result_of("exec's arguments", syscall(SYS_execve, "/bin/true", bad, 0));
        result_of("wait", wait4(-1, bad, WNOHANG, 0));
        result_of("name of the process", syscall(SYS_prctl, 15, bad, 0, 0, 0));
        result_of("segment base", syscall(SYS_arch_prctl, 0x1003, bad));
        result_of("nothing written", write(sink, bad, 0));
    }
    result_of("kernel's segment base", syscall(SYS_arch_prctl, 0x1002, 0xffff888000001000));
    result_of("unknown call", syscall(400));
    result_of("call of the other table", syscall(0x40000000 + SYS_getpid));
    result_of("negative call", syscall(-1));
    return 0;
}

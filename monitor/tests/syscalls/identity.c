/* What /proc, limits and the like say of the process, without what differs from run to run: the same natively. */
#include "report.h"
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static char text[1 << 20];
extern char **environ, __executable_start, etext, edata, end;

static long slurp_at(int directory, const char *path) {
    int fd = openat(directory, path, O_RDONLY);
    long length = 0, more;
    text[0] = 0;
    if (fd < 0) { printf("%s: %s\n", path, strerrorname_np(errno)); return -1; }
    while ((more = read(fd, text + length, sizeof text - 1 - length)) > 0) length += more;
    text[length] = 0;
    close(fd);
    return length;
}

static long slurp(const char *path) { return slurp_at(AT_FDCWD, path); }

/* The line of `text` that begins so. */
static const char *line(const char *start) {
    static char found[256];
    for (char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : 0)
        if (strncmp(at, start, strlen(start)) == 0) {
            snprintf(found, sizeof found, "%.*s", (int)strcspn(at, "\n"), at);
            return found;
        }
    return "missing";
}

static long number(const char *start) {
    const char *found = line(start);
    return strtol(found + strlen(start) + strspn(found + strlen(start), "\t "), 0, 10);
}

static unsigned long stat_field(int wanted) {
    char *at = strrchr(text, ')') + 2;
    for (int field = 3; field < wanted; field++) at = strchr(at, ' ') + 1;
    return strtoul(at, 0, 10);
}

static void handler(int signal) { (void)signal; }

static void by_every_name(const char *file) {
    char path[128];
    int self = open("/proc/self", O_PATH);
    struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0};
    unlink("link");
    sprintf(path, "/proc/self/%s", file);
    symlink(path, "link");
    long length = slurp(path), others[7] = {length};
    sprintf(path, "/proc/%d/%s", getpid(), file);
    others[1] = slurp(path);
    sprintf(path, "/proc/self/task/%d/%s", getpid(), file);
    others[2] = slurp(path);
    sprintf(path, "/proc/thread-self/%s", file);
    others[3] = slurp(path);
    others[4] = slurp_at(self, file);
    others[5] = slurp("link");
    int fd = syscall(SYS_openat2, self, file, &how, sizeof how);
    others[6] = read(fd, text, sizeof text);
    close(fd), close(self);
    printf("%s by every name:", file);
    for (int i = 0; i < 7; i++) printf(" %s", others[i] > 0 ? "text" : others[i] == 0 ? "empty" : "none");
    printf("\n");
}

/* Mappings of the kind that every process has, in order. */
static void maps(const char *file) {
    static char data[4096] = {1};
    char *area = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 1, 3 * 4096);
    mprotect(area + 4096, 4096, PROT_READ | PROT_EXEC);
    mprotect(area + 8192, 4096, PROT_NONE);
    char *shared = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = 1;
    malloc(1 << 16);
    char here;
    struct { const char *what; void *at; } all[] = {{"code", maps}, {"data", data}, {"heap", sbrk(0) - 1}, {"stack", &here},
        {"writable", area}, {"executable", area + 4096}, {"nothing", area + 8192}, {"shared", shared},
        {"vdso", (void *)getauxval(AT_SYSINFO_EHDR)}, {"library", (void *)printf}, {"none", 0}};
    slurp(file);
    printf("%s:\n", file);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        char *line = text;
        while (line && *line) {
            unsigned long start, end, offset, inode;
            char rights[5], name[256] = "", device[16];
            char alone[512];
            snprintf(alone, sizeof alone, "%.*s", (int)strcspn(line, "\n"), line);
            int words = sscanf(alone, "%lx-%lx %4s %lx %15s %lu %255[^\n]", &start, &end, rights, &offset, device, &inode, name);
            char *next = strchr(line, '\n');
            next = next ? next + 1 : 0;
            if (words >= 6 && strchr(alone, '-') && (unsigned long)all[i].at - start < end - start) {
                printf(" %s %s %d %s", all[i].what, rights, inode != 0, name);
                if (strstr(file, "smaps")) {
                    /* Only of mappings whose pages are all ours to know. */
                    char *keys[] = {"Size:", "Rss:", "Private_Dirty:", "Anonymous:"};
                    for (int key = 0; key < 4 && all[i].at >= (void *)area && all[i].at < (void *)area + 3 * 4096; key++)
                        printf(" %ld", strtol(strstr(next, keys[key]) + strlen(keys[key]), 0, 10));
                    char *flags = strstr(next, "VmFlags:");
                    printf(" %.*s", 12, flags);
                }
                printf("\n");
            }
            line = next;
        }
    }
    munmap(area, 3 * 4096), munmap(shared, 8192);
}

int main(int argc, char **argv) {
    const char *texts[] = {"maps", "smaps", "smaps_rollup", "cmdline", "comm", "status", "stat", "statm", "environ", "auxv", "limits",
                           "cgroup", "mountinfo", "oom_score_adj", "wchan", "personality", "io", "schedstat", "fdinfo/0"};
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) by_every_name(texts[i]);
    maps("/proc/self/maps");
    maps("/proc/self/smaps");

    /* Signals. */
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGSEGV), sigprocmask(SIG_BLOCK, &set, 0);
    signal(SIGHUP, handler), signal(SIGFPE, handler), signal(SIGQUIT, SIG_IGN), signal(SIGRTMIN + 3, handler);
    raise(SIGUSR1);
    slurp("/proc/self/status");
    const char *lines[] = {"Name:", "Umask:", "TracerPid:", "Uid:", "Gid:", "VmLck:", "VmPin:", "Threads:", "SigPnd:", "ShdPnd:", "SigBlk:",
                           "SigIgn:", "SigCgt:", "NoNewPrivs:", "CapEff:", "HugetlbPages:"};
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) printf("%s\n", line(lines[i]));
    printf("ids %d %d %d\n", number("Tgid:") == getpid(), number("Pid:") == getpid(), number("PPid:") == getppid());
    long size = number("VmSize:"), resident = number("VmRSS:");
    printf("sizes: %d %d %d %d\n", size < 60000, resident <= size, resident > 500, number("VmHWM:") >= resident);
    printf("parts: %d %d\n", number("RssAnon:") + number("RssFile:") + number("RssShmem:") == resident, number("VmExe:") > 0);

    slurp("/proc/self/stat");
    printf("stat: %.*s %d %d %lu threads\n", (int)(strchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('),
           atoi(text) == getpid(), stat_field(4) == (unsigned)getppid(), stat_field(20));
    printf("size %d, resident %d\n", stat_field(23) >> 10 < 60000, stat_field(24) * 4096 <= stat_field(23));
    printf("code %d %d, stack %d\n", (char *)stat_field(26) <= (char *)main, (char *)main < (char *)stat_field(27),
           (char **)stat_field(28) + 1 == argv);
    printf("data %d %d, heap %d\n", (char *)stat_field(45) < (char *)stat_field(46), (char *)stat_field(46) == &edata,
           (char *)stat_field(47) >= &end && (char *)stat_field(47) <= (char *)sbrk(0));
    printf("arguments %d %d, environment %d %d\n", (char *)stat_field(48) == argv[0], stat_field(49) == stat_field(50),
           (char *)stat_field(50) == environ[0], stat_field(51) > stat_field(50));
    printf("signals %lx %lx %lx %lx\n", stat_field(31), stat_field(32), stat_field(33), stat_field(34));
    slurp("/proc/self/statm");
    long pages[7];
    sscanf(text, "%ld %ld %ld %ld %ld %ld %ld", pages, pages + 1, pages + 2, pages + 3, pages + 4, pages + 5, pages + 6);
    printf("statm %d %d %d %d %ld %ld\n", pages[0] < 15000, pages[1] <= pages[0], pages[2] <= pages[1], pages[3] > 0, pages[4], pages[6]);

    /* Titles. */
    strcpy(argv[0], "me");
    long length = slurp("/proc/self/cmdline");
    printf("cmdline after a change: %ld '%s'\n", length, text);
    memset(argv[0], 'x', environ[1] - argv[0] - 1);
    length = slurp("/proc/self/cmdline");
    printf("and after a long one: %d '%s'\n", length > 0 && length == (long)strlen(text) + 1, text);

    /* Limits. */
    struct rlimit limit = {1 << 28, 1 << 29}, found;
    result_of("lower AS", setrlimit(RLIMIT_AS, &limit));
    getrlimit(RLIMIT_AS, &found);
    printf("%ld %ld\n", (long)found.rlim_cur, (long)found.rlim_max);
    slurp("/proc/self/limits");
    printf("%s\n", line("Max address space"));
    printf("%s\n", line("Max open files"));
    address_of("too much", mmap(0, 1 << 29, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    address_of("enough", mmap(0, 1 << 24, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    int status;
    fflush(stdout);
    if (fork() == 0) { execl("/bin/sh", "sh", "-c", "ulimit -v; ulimit -d; exec /bin/echo a child lives", (char *)0); _exit(99); }
    wait(&status);
    printf("status %d\n", status);

    /* The machine. */
    struct utsname name;
    struct sysinfo info;
    struct rusage usage;
    unsigned cpu, node;
    uname(&name);
    sysinfo(&info);
    printf("%s %s %s %s %s\n", name.sysname, name.nodename, name.release, name.version, name.machine);
    /* How much it is depends on who may use how much. */
    printf("sysinfo %d %lu %u\n", info.totalram > 0, info.totalswap, info.mem_unit);
    printf("getcpu %ld %d\n", syscall(SYS_getcpu, &cpu, &node, 0), cpu < (unsigned)get_nprocs_conf());
    result_of("getrusage", getrusage(RUSAGE_SELF, &usage));
    printf("%d %d\n", usage.ru_maxrss > 0, usage.ru_utime.tv_sec < 60);
    result_of("getrusage of nobody", getrusage(77, &usage));
    printf("personality %x\n", personality(0xffffffff));
    result_of("no randomness", personality(ADDR_NO_RANDOMIZE));
    printf("personality %x\n", personality(0xffffffff));

    /* Its own memory, by address. */
    char from[16] = "sixteen letters", to[16] = "";
    struct iovec here = {to, 16}, there = {from, 16};
    result_of("read itself", process_vm_readv(getpid(), &here, 1, &there, 1, 0));
    printf("%s\n", to);
    from[0] = 'S';
    result_of("write itself", process_vm_writev(getpid(), &there, 1, &here, 1, 0));
    printf("%s\n", to);
    result_of("flags", process_vm_readv(getpid(), &here, 1, &there, 1, 1));
    there.iov_base = 0;
    result_of("nothing there", process_vm_readv(getpid(), &here, 1, &there, 1, 0));
    return 0;
}

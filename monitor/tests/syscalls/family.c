/* What a process finds in /proc of its child, before and after the child runs another program. */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

static char text[1 << 20];
static char shared_word[16] = "the parent's";

static long slurp(pid_t of, const char *name) {
    char path[64];
    sprintf(path, "/proc/%d/%s", of, name);
    int fd = open(path, O_RDONLY);
    long length = 0, more;
    text[0] = 0;
    if (fd < 0) { printf("%s: %s\n", name, strerrorname_np(errno)); return -1; }
    while ((more = read(fd, text + length, sizeof text - 1 - length)) > 0) length += more;
    text[length] = 0;
    close(fd);
    return length;
}

static void strings(pid_t of, const char *name) {
    long length = slurp(of, name);
    printf("%s:", name);
    for (char *at = text; at < text + length; at += strlen(at) + 1) printf(" '%s'", at);
    printf("\n");
}

static void look(pid_t of, const char *program) {
    char path[64], link[4096];
    struct stat one, other;
    sprintf(path, "/proc/%d/exe", of);
    long length = readlink(path, link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    printf("exe %s\n", link);
    printf("same file: %d\n", stat(path, &one) == 0 && stat(program, &other) == 0 && one.st_ino == other.st_ino && one.st_dev == other.st_dev);
    int fd = open(path, O_RDONLY);
    char magic[4] = "";
    result_of("read", read(fd, magic, 4));
    printf("%.3s\n", magic + 1);
    close(fd);
    strings(of, "cmdline");
    strings(of, "environ");
    slurp(of, "comm");
    printf("comm %s", text);
    slurp(of, "stat");
    printf("stat %.*s\n", (int)(strchr(text, ')') - strchr(text, '(') + 1), strchr(text, '('));
    printf("auxv %d\n", slurp(of, "auxv") > 100);
    slurp(of, "maps");
    printf("its program is mapped: %d, its loader: %d, anything of another's: %d\n", strstr(text, link) != 0, strstr(text, "/ld-") != 0,
           strstr(text, "endo") != 0);
    slurp(of, "statm");
    printf("small: %d\n", atol(text) < 15000);
    slurp(of, "status");
    printf("threads%.2s\n", strstr(text, "Threads:") + 8);
}

int main(int argc, char **argv) {
    int out[2], in[2], status;
    char byte = 0, buffer[16] = "";
    pipe(out), pipe(in);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        strcpy(shared_word, "the child's");
        write(out[1], "x", 1), read(in[0], &byte, 1);
        close(out[1]), close(in[1]);
        dup2(in[0], 0);
        execle("/bin/cat", "a cat", "-", (char *)0, (char *[]){"ONE=1", "TWO=two words", 0});
        _exit(99);
    }
    close(out[1]);
    read(out[0], &byte, 1);
    look(child, argv[0]);
    struct iovec here = {buffer, sizeof buffer}, there = {shared_word, sizeof shared_word};
    result_of("read its memory", process_vm_readv(child, &here, 1, &there, 1, 0));
    printf("%s\n", buffer);
    strcpy(buffer, "changed");
    result_of("write its memory", process_vm_writev(child, &here, 1, &there, 1, 0));
    process_vm_readv(child, &here, 1, &there, 1, 0);
    printf("%s\n", buffer);
    write(in[1], "x", 1);
    /* When the last writer's end is closed by the exec, the child has become the other program. */
    while (read(out[0], &byte, 1) > 0) {}
    for (int i = 0; i < 500; i++) {
        slurp(child, "comm");
        if (strcmp(text, "cat\n") == 0) break;
        usleep(10000);
    }
    usleep(200000);
    look(child, "/bin/cat");
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    printf("killed: %d\n", WTERMSIG(status));
    return 0;
}

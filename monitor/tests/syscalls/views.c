/* What /proc says about the process is true of the program. */
#include "report.h"
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static char buffer[1 << 16];

static long slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) { printf("%s: %s\n", path, strerrorname_np(errno)); return -1; }
    long length = 0, more;
    while ((more = read(fd, buffer + length, sizeof buffer - 1 - length)) > 0) length += more;
    buffer[length] = 0;
    close(fd);
    return length;
}

static int same_file(const char *one, const char *two) {
    struct stat a, b;
    return stat(one, &a) == 0 && stat(two, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int main(int argc, char **argv) {
    char link[4096], path[64];
    const char *forms[] = {"/proc/self/exe", "/proc/thread-self/exe", path};
    sprintf(path, "/proc/%d/exe", getpid());
    for (int i = 0; i < 3; i++) {
        long length = readlink(forms[i], link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        printf("exe %d: %s, same file: %d\n", i, link, same_file(forms[i], argv[0]));
        int fd = open(forms[i], O_RDONLY);
        char magic[4];
        printf("read: %ld, %.3s\n", (long)read(fd, magic, 4), magic + 1);
        close(fd);
    }
    int self = open("/proc/self", O_RDONLY | O_DIRECTORY);
    long length = readlinkat(self, "exe", link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    printf("exe in a directory: %s\n", link);
    close(self);

    length = slurp("/proc/self/cmdline");
    printf("cmdline %ld:", length);
    for (long at = 0; at < length; at += strlen(buffer + at) + 1) printf(" '%s'", buffer + at);
    slurp("/proc/self/comm");
    printf("\ncomm %s", buffer);
    prctl(PR_SET_NAME, "renamed");
    slurp("/proc/thread-self/comm");
    printf("comm %s", buffer);
    slurp("/proc/self/stat");
    printf("stat %.*s\n", (int)(strchr(buffer, ')') - strchr(buffer, '(') + 1), strchr(buffer, '('));
    slurp("/proc/self/auxv");
    for (Elf64_auxv_t *entry = (void *)buffer; entry->a_type; entry++)
        if (entry->a_type == AT_ENTRY) printf("entry is right: %d\n", entry->a_un.a_val == getauxval(AT_ENTRY));
    slurp("/proc/self/environ");
    printf("environ %s\n", buffer);

    slurp("/proc/self/maps");
    static char data[4096];
    char on_stack;
    void *heap = malloc(10);
    struct { const char *what; void *at; } wanted[] = {{"code", main}, {"data", data}, {"heap", heap}, {"stack", &on_stack}};
    for (int i = 0; i < 4; i++)
        for (char *line = strtok(strcpy(malloc(sizeof buffer), buffer), "\n"); line; line = strtok(0, "\n")) {
            unsigned long start, end;
            char rights[5], name[4096] = "";
            sscanf(line, "%lx-%lx %4s %*s %*s %*s %4095[^\n]", &start, &end, rights, name);
            if ((unsigned long)wanted[i].at - start < end - start) printf("%s: %s %s\n", wanted[i].what, rights, name);
        }
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory)) count++;
    printf("descriptors: %d\n", count - 2);
    closedir(directory);
    return 0;
}

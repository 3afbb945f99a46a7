/* Asks the kernel for keys in each of the ways there are, and says with which errors it failed. */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USER_KEYRING -4
#define SEARCH 10

static int error(long result)
{
    return result < 0 ? errno : 0;
}

int main(void)
{
    int search = error(syscall(SYS_keyctl, SEARCH, USER_KEYRING, "user", "endo:translations:1", 0));
    int request = error(syscall(SYS_request_key, "user", "endo:translations:1", 0, USER_KEYRING));
    int add = error(syscall(SYS_add_key, "user", "endo:test", "x", 1L, -1));
    printf("%d %d %d\n", search, request, add);
    return 0;
}

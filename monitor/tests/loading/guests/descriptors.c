// Prints which descriptors are open, and which number the next one gets.
#include <fcntl.h>
#include <stdio.h>

int main(void) {
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("%d is open\n", fd);
    printf("next: %d\n", open("/dev/null", O_RDONLY));
    return 0;
}

// Never closes one of a hundred files: what looks for such things must find it.
#include <stdlib.h>
#include <fcntl.h>
#include "soak.h"

int main(int argc, char **argv) {
    long wanted = atol(argv[1]);
    for (long done = 1; done <= wanted; done++) {
        int file = open("/dev/null", O_RDONLY);
        if (done % 100)
            close(file);
        checkpoint(done, wanted);
    }
    return 0;
}

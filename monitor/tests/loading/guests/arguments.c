// Prints its arguments: all of them if there are few, their number and a sum if there are many.
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc < 20) {
        for (int i = 0; i < argc; i++)
            printf("%d: %s\n", i, argv[i]);
        return 0;
    }
    unsigned long sum = 5381, length = 0;
    for (int i = 0; i < argc; i++)
        for (char *p = argv[i]; *p; p++, length++)
            sum = sum * 33 + (unsigned char)*p;
    printf("%d arguments, %lu bytes, sum %lu\n", argc, length, sum);
    return 0;
}

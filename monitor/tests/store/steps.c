/* Says a number that depends on how it was compiled, and does enough for a few dozen fragments. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef NUMBER
#define NUMBER 1
#endif

static int compare(const void *one, const void *other)
{
    return *(const int *)one - *(const int *)other;
}

int main(int count, char **words)
{
    int numbers[64];
    char text[256] = "";
    for (int i = 0; i < 64; i++)
        numbers[i] = (i * 37 + NUMBER) % 64;
    qsort(numbers, 64, sizeof numbers[0], compare);
    for (int i = 0; i < count; i++)
        strncat(text, words[i] ? words[i] : "", 16);
    printf("%d %d %zu\n", NUMBER, numbers[63], strlen(text) > 0);
    return NUMBER;
}

// dlmopen: the same library twice, each with its data, again and again.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

int main(void) {
    int apart = 1, own = 1, right = 1, times = 0;
    void *first = dlopen("libm.so.6", RTLD_NOW);
    double (*cosine)(double) = dlsym(first, "cos");
    for (; times < 20; times++) {
        void *second = dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW);
        if (!second) {
            puts(dlerror());
            return 1;
        }
        double (*other)(double) = dlsym(second, "cos");
        int *sign = dlsym(first, "signgam"), *other_sign = dlsym(second, "signgam");
        double (*gamma)(double) = dlsym(second, "lgamma");
        apart &= cosine != other;
        *sign = 7, *other_sign = 5;
        right &= cosine(0.5) == other(0.5) && gamma(-0.5) > 0;
        own &= *sign == 7 && *other_sign == -1;
        dlclose(second);
    }
    printf("same code at another place %d, own data %d, result %d, %d times\n", apart, own, right, times);
    return 0;
}

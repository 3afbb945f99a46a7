/* Thread-local variables of an executable, of a library it is linked with and of one that it opens, and errno. */
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static __thread int local = 5;
__thread long shared_with_library = 77;
static __thread char block[5000] = "thread block";
static __thread double fraction __attribute__((aligned(64))) = 2.5;

static __attribute__((noinline)) int touch(int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) {
        local += i;
        block[i % 5000] ^= (char)i;
        fraction *= 1.0001;
        sum += local ^ block[(i * 7) % 5000];
    }
    return sum;
}

int main(int argc, char **argv)
{
    printf("%d %ld %s %.17g\n", local, shared_with_library, block, fraction);
    printf("%d\n", touch(20000));
    printf("%d %.17g %d %d\n", local, fraction, (int)((uintptr_t)&fraction % 64), (int)strlen(block));
    for (int i = 0; i < 3; i++) {
        void *library = dlopen(argc > 1 ? argv[1] : "", RTLD_NOW);
        if (library == NULL)
            return printf("no library: %s\n", dlerror()), 1;
        int (*count)(int) = (int (*)(int))dlsym(library, "library_count");
        long *(*where)(void) = (long *(*)(void))dlsym(library, "library_where");
        printf("%d %d %ld\n", count(i + 1), count(10), *where());
        *where() += 100;
        printf("%ld %p\n", *where(), dlsym(library, "nothing"));
        dlclose(library);
    }
    errno = 0;
    close(-1);
    printf("%d %s\n", errno, strerror(errno));
    errno = 4711;
    int *place = &errno;
    ++*place;
    printf("%d\n", errno);
    void *self, *through;
    long stored;
    __asm__("mov %%fs:0, %0" : "=r"(self));
    __asm__("mov %%fs:(%1), %0" : "=r"(through) : "r"(16L));
    __asm__("mov %%fs:(%1,%2,8), %0" : "=r"(stored) : "r"((long)&local - (long)self - 16), "r"(2L));
    printf("%d %d %d\n", self == *(void **)self, self == through, (int)stored == local);
    __asm__("addl $3, %%fs:(%0)" : : "r"((long)&local - (long)self) : "memory");
    __asm__("push %%fs:(%0); pop %%rax; lock incl %%fs:(%0)" : : "r"((long)&local - (long)self) : "memory", "rax");
    printf("%d\n", local);
    return 0;
}

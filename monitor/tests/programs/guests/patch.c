/* Code that changes: writable and executable pages patched in a loop, pages whose rights flip, code copied, mapped
 * twice, unmapped and mapped again, and a function that patches the instruction after the store. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef int (*function)(void);

static int fail(const char *what)
{
    perror(what);
    return 1;
}

/* mov eax, value; ret */
static void write_constant(unsigned char *at, int value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

int main(void)
{
    unsigned char *page =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return fail("mmap");
    long total = 0;
    write_constant(page, 0);
    for (int i = 0; i < 2000; i++) {
        memcpy(page + 1, &i, 4);
        total += ((function)page)();
    }
    printf("patched immediates %ld\n", total);

    total = 0;
    for (int i = 0; i < 500; i++) {
        unsigned char *at = page + 4096 - 3 + i % 3;
        write_constant(at, i);
        total += ((function)at)();
    }
    printf("across a page border %ld\n", total);

    /* A function that changes the instruction just behind the store: mov byte [rip+1], dil; mov al, 0; movzx eax, al; ret */
    static const unsigned char self[] = {0x40, 0x88, 0x3d, 0x01, 0, 0, 0, 0xb0, 0x00, 0x0f, 0xb6, 0xc0, 0xc3};
    memcpy(page + 512, self, sizeof self);
    total = 0;
    for (int i = 0; i < 600; i++)
        total += ((int (*)(int))(page + 512))(i & 0xff);
    printf("the next instruction %ld\n", total);

    /* A loop that counts an immediate in its own body up: inc byte [rip+2]; add eax, imm8; dec edi; jnz; ret */
    static const unsigned char loop[] = {0x31, 0xc0, 0xfe, 0x05, 0x02, 0, 0, 0, 0x83, 0xc0, 0x00, 0xff, 0xcf, 0x75, 0xf3, 0xc3};
    memcpy(page + 1024, loop, sizeof loop);
    printf("the loop that it runs in %d\n", ((int (*)(int))(page + 1024))(100));

    total = 0;
    for (int i = 0; i < 200; i++) {
        if (mprotect(page, 4096, PROT_READ | PROT_WRITE))
            return fail("mprotect");
        write_constant(page + i, i * 3);
        if (mprotect(page, 4096, PROT_READ | PROT_EXEC))
            return fail("mprotect");
        total += ((function)(page + i))();
    }
    printf("flipped rights %ld\n", total);

    total = 0;
    for (int i = 0; i < 100; i++) {
        unsigned char *fresh = mmap(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        write_constant(fresh, i * 5);
        total += ((function)fresh)();
        if (i % 10 == 0) {
            munmap(fresh, 4096);
        }
    }
    printf("mapped again %ld\n", total);

    int fd = memfd_create("code", 0);
    if (fd < 0 || ftruncate(fd, 4096))
        return fail("memfd");
    unsigned char *writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *executable = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (writable == MAP_FAILED || executable == MAP_FAILED)
        return fail("mmap shared");
    total = 0;
    for (int i = 0; i < 300; i++) {
        write_constant(writable, i * 7);
        total += ((function)executable)();
    }
    printf("written through another mapping %ld\n", total);
    for (int i = 0; i < 300; i++) {
        unsigned char code[6];
        write_constant(code, i * 11);
        if (pwrite(fd, code, sizeof code, 64) != sizeof code)
            return fail("pwrite");
        total += ((function)(executable + 64))();
    }
    printf("written through the file %ld\n", total);

    int ends[2];
    if (pipe(ends))
        return fail("pipe");
    for (int i = 0; i < 300; i++) {
        unsigned char code[6];
        write_constant(code, i * 13);
        if (write(ends[1], code, sizeof code) != sizeof code || read(ends[0], page + 128, sizeof code) != sizeof code)
            return fail("read");
        total += ((function)(page + 128))();
    }
    printf("written by the kernel %ld\n", total);

    unsigned char *moved = mremap(executable, 4096, 4096, MREMAP_MAYMOVE);
    printf("moved %d\n", moved == MAP_FAILED ? -1 : ((function)moved)());

    /* A stack that may be executed from, as trampolines of nested functions want it. */
    unsigned char here[64] __attribute__((aligned(64)));
    if (mprotect((void *)((uintptr_t)here & ~4095ul), 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
        return fail("mprotect of the stack");
    write_constant(here, 77);
    printf("on the stack %d\n", ((function)here)());
    return 0;
}

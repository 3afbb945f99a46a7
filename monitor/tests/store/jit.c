/* Makes code and runs it, in anonymous memory and over the program's own. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov eax, 42; ret */

__attribute__((noinline, aligned(4096))) static int own(void)
{
    return 7;
}

int main(void)
{
    unsigned char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    int made = ((int (*)(void))page)();
    int (*volatile call)(void) = own;
    int before = call();
    mprotect((void *)own, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy((void *)own, code, sizeof code);
    mprotect((void *)own, 4096, PROT_READ | PROT_EXEC);
    printf("%d %d %d\n", made, before, call());
    return 0;
}

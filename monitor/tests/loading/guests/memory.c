// Data, bss and heap are what the program file says, at sizes that do not fill their pages.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char first[5000] = {1, 2, 3};
static const char constant[3000] = "constant";
static char zeros[123457];
extern char _end[], __bss_start[];

static int is_zero(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return 0;
    return 1;
}

int main(void) {
    printf("data: %d %d\n", first[2] == 3, is_zero(first + 3, sizeof first - 3));
    printf("constant: %s\n", constant);
    printf("bss: %d\n", is_zero(zeros, sizeof zeros));
    // Also what the file holds after the last byte of data, and the rest of the last page.
    uintptr_t page_end = ((uintptr_t)_end + 4095) & ~4095ul;
    printf("to the end of the page: %d\n", is_zero(_end, page_end - (uintptr_t)_end));
    // musl's sbrk moves nothing, and stdio may have moved the break already.
    char *heap = (char *)syscall(SYS_brk, 0), *end = heap + (64 << 20);
    printf("heap: %d", (char *)syscall(SYS_brk, end) == end);
    printf(" %d", is_zero(heap, end - heap));
    memset(heap, 1, end - heap);
    printf(" %d\n", (char *)syscall(SYS_brk, heap) == heap);
    return 0;
}

/* The rules of mmap and its relatives (mm/mmap.c, mprotect.c, mremap.c, madvise.c), one line each. */
#include "report.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/shm.h>

#define PAGE 4096ul
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static sigjmp_buf out;
static void caught(int number) { siglongjmp(out, number); }

static int touch(volatile char *at, int write) {
    int number = sigsetjmp(out, 1);
    if (number == 0) {
        if (write) *at = 1; else (void)*at;
    }
    return number;
}

int main(void) {
    signal(SIGSEGV, caught);
    signal(SIGBUS, caught);
    char *area = mmap(0, 64 * PAGE, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
    address_of("nothing", mmap(0, 0, RW, ANONYMOUS, -1, 0));
    address_of("too much", mmap(0, ~0ul, RW, ANONYMOUS, -1, 0));
    address_of("without type", mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    address_of("no file", mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0));
    address_of("odd offset", mmap(0, PAGE, RW, MAP_PRIVATE, 0, 5));
    address_of("odd fixed address", mmap(area + 1, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0));
    address_of("taken", mmap(area, PAGE, RW, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    address_of("beyond the address space", mmap((void *)0xffff800000000000, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0));
    address_of("hint beyond", mmap((void *)0xffff800000000000, PAGE, RW, ANONYMOUS, -1, 0));
    address_of("replaced", mmap(area, 8 * PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0));
    address_of("one shared", mmap(area + 20 * PAGE, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));

    result_of("unmap nothing", munmap(area, 0));
    result_of("unmap oddly", munmap(area + 1, PAGE));
    result_of("unmap the middle", munmap(area + 2 * PAGE, PAGE));
    result_of("unmap it again", munmap(area + 2 * PAGE, PAGE));
    printf("hole: %d\n", touch(area + 2 * PAGE, 0));
    printf("beside the hole: %d %d\n", touch(area + PAGE, 1), touch(area + 3 * PAGE, 1));

    result_of("protect oddly", mprotect(area + 1, PAGE, PROT_READ));
    result_of("protect nothing", mprotect(area, 0, PROT_READ));
    result_of("protect over the hole", mprotect(area, 4 * PAGE, PROT_READ));
    printf("what came before it: %d, after: %d\n", touch(area, 1), touch(area + 3 * PAGE, 1));
    result_of("strange protection", mprotect(area, PAGE, 0x80));
    result_of("upwards and downwards", mprotect(area, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
    result_of("downwards", mprotect(area, PAGE, PROT_READ | PROT_GROWSDOWN));
    result_of("back", mprotect(area, PAGE, RW));
    printf("writable again: %d\n", touch(area, 1));
    result_of("write only", mprotect(area, PAGE, PROT_WRITE));
    printf("and readable: %d\n", touch(area, 0));

    char *moving = mmap(0, 4 * PAGE, RW, ANONYMOUS, -1, 0);
    strcpy(moving, "moving");
    address_of("remap with odd flags", mremap(moving, 4 * PAGE, 4 * PAGE, 64));
    address_of("remap oddly", mremap(moving + 1, PAGE, PAGE, 0));
    address_of("remap to nothing", mremap(moving, 4 * PAGE, 0, 0));
    address_of("remap what is not there", mremap(area + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    address_of("remap across mappings", mremap(area + 2 * PAGE, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE));
    address_of("remap onto itself", mremap(moving, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moving + PAGE));
    address_of("fixed but not to move", mremap(moving, 4 * PAGE, 4 * PAGE, MREMAP_FIXED, area + 8 * PAGE));
    address_of("left behind and resized", mremap(moving, 4 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
    address_of("private copy", mremap(moving, 0, 4 * PAGE, MREMAP_MAYMOVE));
    moving = address_of("shrunk", mremap(moving, 4 * PAGE, 2 * PAGE, 0));
    printf("cut off: %d\n", touch(moving + 2 * PAGE, 0));
    moving = address_of("grown", mremap(moving, 2 * PAGE, 4096 * PAGE, MREMAP_MAYMOVE));
    printf("%s, %d\n", moving, touch(moving + 4095 * PAGE, 1));
    moving = address_of("put there", mremap(moving, 4096 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 30 * PAGE));
    printf("%s, %d\n", moving, moving == area + 30 * PAGE);
    char *left = mremap(moving, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    printf("%s left behind '%s'\n", left, moving);
    char *shared = area + 20 * PAGE;
    char *again = address_of("shared again", mremap(shared, 0, 2 * PAGE, MREMAP_MAYMOVE));
    strcpy(shared, "seen twice");
    printf("%s\n", again);

    result_of("odd advice", madvise(area, PAGE, 77));
    result_of("advice at an odd place", madvise(area + 1, PAGE, MADV_DONTNEED));
    result_of("advice over the hole", madvise(area, 4 * PAGE, MADV_DONTNEED));
    printf("discarded: %d\n", area[0]);
    unsigned char resident[8];
    result_of("resident over the hole", mincore(area, 4 * PAGE, resident));
    area[0] = 1;
    result_of("resident", mincore(area, PAGE, resident));
    printf("%d\n", resident[0] & 1);
    result_of("residence to nowhere", mincore(area, PAGE, (void *)8));
    result_of("sync oddly", msync(area + 1, PAGE, MS_SYNC));
    result_of("sync contradictorily", msync(area, PAGE, MS_SYNC | MS_ASYNC));
    result_of("sync over the hole", msync(area, 4 * PAGE, MS_SYNC));
    result_of("lock over the hole", mlock(area, 4 * PAGE));
    result_of("lock", mlock(area, PAGE));
    result_of("unlock", munlock(area, PAGE));
    result_of("lock all of nothing", mlockall(0));

    char name[] = "mapped-XXXXXX";
    int file = mkstemp(name);
    result_of("file", ftruncate(file, 3 * PAGE));
    char *view = mmap(0, 4 * PAGE, RW, MAP_SHARED, file, 0);
    strcpy(view + PAGE, "in the file");
    char text[16] = "";
    pread(file, text, sizeof text - 1, PAGE);
    printf("%s\n", text);
    printf("past its end: %d\n", touch(view + 3 * PAGE, 0));
    int reader = open(name, O_RDONLY);
    address_of("shared and writable of a reader's", mmap(0, PAGE, RW, MAP_SHARED, reader, 0));
    char *readable = address_of("shared of a reader's", mmap(0, PAGE, PROT_READ, MAP_SHARED, reader, 0));
    result_of("made writable", mprotect(readable, PAGE, RW));
    char *private = address_of("private of a reader's", mmap(0, PAGE, RW, MAP_PRIVATE, reader, 0));
    private[0] = 9;
    pread(file, text, 1, 0);
    printf("file unchanged: %d\n", text[0]);
    address_of("validated with an unknown flag", mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | (1 << 23), file, 0));
    address_of("a pipe", mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ({ int ends[2]; pipe(ends); ends[0]; }), 0));
    unlink(name);

    char *start = sbrk(0);
    result_of("break", brk(start + 100000));
    start[99999] = 1;
    printf("%ld\n", (char *)sbrk(0) - start);
    result_of("break back", brk(start));
    printf("%ld\n", (char *)sbrk(0) - start);
    printf("gone: %d\n", touch(start + 99999, 0));
    printf("break below: %d\n", syscall(SYS_brk, 0x1000) == (long)start);

    int id = shmget(IPC_PRIVATE, 2 * PAGE, 0600);
    char *one = shmat(id, 0, 0), *two = shmat(id, 0, SHM_RDONLY);
    shmctl(id, IPC_RMID, 0);
    strcpy(one, "segment");
    printf("%s, read only: %d\n", two, touch(two, 1));
    result_of("detach", shmdt(two));
    result_of("detach again", shmdt(two));
    result_of("detach what is none", shmdt(area));
    printf("gone: %d\n", touch(two, 0));
    char *stack = mmap(0, 4 * PAGE, RW, ANONYMOUS | MAP_GROWSDOWN, -1, 0);
    printf("grown down: %d\n", touch(stack - PAGE, 1));
    return 0;
}

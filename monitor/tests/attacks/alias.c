/* Code that was checked changes afterwards, by every route, into a system call that nobody has seen. */
#include "whereabouts.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/shm.h>
#include <sys/wait.h>

typedef long (*Call)(long, long, long, long, long, long);

/* mov eax, number; mov r10, rcx; syscall; ret */
static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x49, 0x89, 0xca, 0x0f, 0x05, 0xc3};

static void try(const char *what, void *executable, void (*change)(void)) {
    Call call = (Call)executable;
    for (int i = 0; i < 3; i++)
        if (call(0, 0, 0, 0, 0, 0) != getpid()) { printf("%s: wrong\n", what); return; }
    change();
    __builtin___clear_cache(executable, (char *)executable + sizeof code);
    long address = call(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("%s: %s\n", what, address < 0 && address > -4096 ? "failed" : address >> 32 ? "free" : "confined");
}

static unsigned char *writable;
static int file;
static void store(void) { writable[1] = 9; }
static void write_file(void) { pwrite(file, "\x09", 1, 1); }
static void have_a_child_store(void) {
    if (fork() == 0) { writable[1] = 9; _exit(0); }
    wait(0);
}
static void have_the_kernel_store(void) {
    int ends[2];
    pipe(ends), write(ends[1], "\x09", 1), read(ends[0], writable + 1, 1);
}
static void map_another(void) {
    unsigned char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code), page[1] = 9;
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, writable);
}

static void *both(int flags) {
    file = syscall(SYS_memfd_create, "code", 0);
    ftruncate(file, 4096), pwrite(file, code, sizeof code, 0);
    writable = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return mmap(0, 4096, PROT_READ | PROT_EXEC, flags, file, 0);
}

int main(void) {
    try("a shared alias", both(MAP_SHARED), store);
    try("a child's alias", both(MAP_SHARED), have_a_child_store);
    try("the file behind it", both(MAP_SHARED), write_file);
    try("the file behind a private page", both(MAP_PRIVATE), write_file);
    writable = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(writable, code, sizeof code);
    try("a store in place", writable, store);
    writable[1] = 39;
    try("a store by the kernel", writable, have_the_kernel_store);
    writable[1] = 39;
    try("another page in its place", writable, map_another);
    int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
    writable = shmat(segment, 0, 0);
    memcpy(writable, code, sizeof code);
    void *executable = shmat(segment, 0, SHM_EXEC | SHM_RDONLY);
    shmctl(segment, IPC_RMID, 0);
    try("a segment attached twice", executable, store);
    return 0;
}

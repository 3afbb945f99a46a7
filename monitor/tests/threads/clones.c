// clone(2) and clone3(2) without the C library: the flags that musl and Go use, and those that are refused.
#include "guest.h"
#include <linux/futex.h>
#include <asm/prctl.h>
#include <linux/sched.h>
#include <poll.h>

// A thread that shares what `flags` say, runs function(argument) on its own stack and exits with what it returns. Returns
// its id, or the negated errno.
long raw_thread(unsigned long flags, void *stack_end, int *parent_tid, int *child_tid, unsigned long tls,
                long (*function)(void *), void *argument);
__asm__(".globl raw_thread\n"
        "raw_thread:\n"
        "push %r12\n"
        "push %r13\n"
        "mov 24(%rsp), %r13\n" // argument
        "mov %r9, %r12\n"
        "mov %rcx, %r10\n"
        "mov $56, %eax\n"
        "syscall\n"
        "test %rax, %rax\n"
        "jz 1f\n"
        "pop %r13\n"
        "pop %r12\n"
        "ret\n"
        "1: xor %ebp, %ebp\n"
        "mov %r13, %rdi\n"
        "call *%r12\n"
        "mov %eax, %edi\n"
        "mov $60, %eax\n"
        "syscall\n"
        "hlt\n");

enum {
    GO = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD,
    MUSL = GO | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED,
};

static char stack[65536] __attribute__((aligned(16)));
static int parent_tid, child_tid;
static long told, seen_parent, seen_child, seen_fs, own_block[64];

// Without thread-local storage of its own only plain system calls are made here.
static long raw(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static long look(void *argument) {
    unsigned long fs = 0;
    raw(SYS_arch_prctl, ARCH_GET_FS, (long)&fs, 0);
    seen_fs = fs;
    seen_parent = parent_tid;
    seen_child = child_tid;
    told = raw(SYS_gettid, 0, 0, 0);
    __atomic_store_n((int *)argument, 1, __ATOMIC_SEQ_CST);
    raw(SYS_futex, (long)argument, FUTEX_WAKE, 1);
    return 0;
}

static void await(int *word, int not_yet) {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == not_yet)
        futex(word, FUTEX_WAIT, not_yet, NULL, NULL, 0);
}

static void as_go(void) {
    int done = 0;
    unsigned long fs;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
    long tid = raw_thread(GO, stack + sizeof stack, NULL, NULL, 0, look, &done);
    await(&done, 0);
    printf("go: id %d, thread pointer kept %d\n", tid == told && tid != getpid(), seen_fs == fs);
}

static void as_musl(void) {
    int done = 0;
    child_tid = -1;
    long tid = raw_thread(MUSL | CLONE_CHILD_SETTID, stack + sizeof stack, &parent_tid, &child_tid,
                          (long)own_block, look, &done);
    await(&child_tid, tid);
    await(&child_tid, -1);
    printf("musl: id %d, told before it ran %d %d, own thread pointer %d, word cleared %d\n", tid == told,
           seen_parent == tid, seen_child == tid, seen_fs == (long)own_block, child_tid == 0);
}

static long change_directory(void *argument) {
    raw(SYS_chdir, (long)"/", 0, 0);
    raw(SYS_close, 0, 0, 0);
    __atomic_store_n((int *)argument, 1, __ATOMIC_SEQ_CST);
    raw(SYS_futex, (long)argument, FUTEX_WAKE, 1);
    return 0;
}

// A thread with a directory and descriptors of its own.
static void unshared(void) {
    char before[4096], after[4096];
    int done = 0;
    getcwd(before, sizeof before);
    raw_thread(GO & ~(CLONE_FS | CLONE_FILES), stack + sizeof stack, NULL, NULL, 0, change_directory, &done);
    await(&done, 0);
    getcwd(after, sizeof after);
    printf("own directory and descriptors: %d %d\n", !strcmp(before, after), fcntl(0, F_GETFD) >= 0);
    child_tid = -1;
    raw_thread(GO | CLONE_CHILD_CLEARTID, stack + sizeof stack, NULL, &child_tid, 0, change_directory, &done);
    await(&child_tid, -1);
    getcwd(after, sizeof after);
    printf("shared: %s %d\n", after, fcntl(0, F_GETFD) >= 0);
}

static void refused(void) {
    int pidfd = -1;
    unsigned long combinations[] = {
        CLONE_THREAD,
        CLONE_THREAD | CLONE_VM,
        CLONE_SIGHAND,
        CLONE_THREAD | CLONE_SIGHAND,
        GO | CLONE_NEWPID,
        GO | CLONE_NEWUSER,
        GO | CLONE_PIDFD | CLONE_PARENT_SETTID,
        GO | CLONE_PIDFD | CLONE_DETACHED,
    };
    for (unsigned i = 0; i < sizeof combinations / sizeof *combinations; i++)
        printf("%ld ", raw_thread(combinations[i], stack + sizeof stack, &pidfd, &child_tid, 0, look, &pidfd));
    printf("\n%ld\n", raw_thread(GO | CLONE_SETTLS, stack + sizeof stack, NULL, NULL, 1UL << 63, look, &pidfd));
    struct clone_args args[] = {
        {.flags = GO, .exit_signal = SIGCHLD},
        {.flags = GO | CLONE_DETACHED},
        {.flags = GO | 3},
        {.flags = GO | 1ULL << 40},
        {.flags = GO, .stack = 4096},
        {.flags = GO | CLONE_CLEAR_SIGHAND},
    };
    for (unsigned i = 0; i < sizeof args / sizeof *args; i++)
        printf("%ld ", raw(SYS_clone3, (long)&args[i], sizeof args[i], 0));
    puts("");
}

static void descriptor(void) {
    int pidfd = -1, done = 0;
    raw_thread(GO | CLONE_PIDFD, stack + sizeof stack, &pidfd, NULL, 0, look, &done);
    await(&done, 0);
    struct pollfd poll_for = {pidfd, POLLIN, 0};
    printf("descriptor %d", poll(&poll_for, 1, 1000));
    printf(" %d\n", poll_for.revents & POLLIN);
}

static void clones(char **argv) {
    as_go();
    as_musl();
    unshared();
    refused();
    descriptor();
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {{"clones", clones}, {NULL, NULL}};
    return run_case(cases, argv);
}

/* Has the kernel touch memory by address, in the way that its argument names: first the program's own, then wherever its input
   says. Natively that is its own secret; under a monitor it is the monitor's. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/perf_event.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 16 };
static char stolen[SIZE];
static const char mark[SIZE] = "overwritten 123";
static char *page_of(char *at) { return (char *)((uintptr_t)at & ~4095ul); }
static char *own_page(void) { return mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

/* On the parent's own stack, so nothing may be left on it between the call and the return to the parent. */
static inline __attribute__((always_inline)) long raw_clone(long flags, void *parent_tid, void *child_tid) {
    register void *fourth asm("r10") = child_tid;
    long result;
    asm volatile("syscall" : "=a"(result) : "a"(SYS_clone), "D"(flags | SIGCHLD), "S"(0l), "d"(parent_tid), "r"(fourth) : "rcx", "r11", "memory");
    return result;
}

/* Runs in a child; the parent learns by the status whether it went well. */
static int in_child(int flags, int (*body)(char *), char *at) {
    int status = 0;
    pid_t child = flags ? raw_clone(flags, 0, 0) : fork();
    if (child == 0) _exit(body(at) ? 0 : errno ? errno : 99);
    /* Where the kernel says no, its word is in the result. */
    if (child < 0 || waitpid(child, &status, 0) != child) return 0;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return status == 0;
}

/* Reading and writing by name. */
static int by_iovec(int number, char *at, char *buffer) {
    struct iovec here = {buffer, SIZE}, there = {at, SIZE};
    return syscall(number, getpid(), &here, 1ul, &there, 1ul, 0ul) == SIZE;
}
static int process_vm_readv_(char *at) { return by_iovec(SYS_process_vm_readv, at, stolen); }
static int process_vm_writev_(char *at) { return by_iovec(SYS_process_vm_writev, at, (char *)mark); }
static int of_the_parent(char *at) {
    struct iovec here = {(char *)mark, SIZE}, there = {at, SIZE};
    return syscall(SYS_process_vm_writev, getppid(), &here, 1ul, &there, 1ul, 0ul) == SIZE;
}
static int process_vm_writev_of_the_parent(char *at) { return in_child(0, of_the_parent, at); }
static int through_memory_file(const char *path, char *at) {
    int fd = open(path, O_RDWR);
    return fd >= 0 && pwrite(fd, mark, SIZE, (long)at) == SIZE;
}
static int proc_mem(char *at) { return through_memory_file("/proc/self/mem", at); }
static int parents_mem(char *at) {
    char path[64];
    sprintf(path, "/proc/%d/mem", getppid());
    return through_memory_file(path, at);
}
static int proc_mem_of_the_parent(char *at) { return in_child(0, parents_mem, at); }
static int poke_parent(char *at) {
    pid_t parent = getppid();
    long word;
    memcpy(&word, mark, 8);
    if (ptrace(PTRACE_ATTACH, parent, 0, 0) < 0) return 0;
    waitpid(parent, 0, __WALL);
    int is_done = ptrace(PTRACE_POKEDATA, parent, at, word) == 0;
    ptrace(PTRACE_DETACH, parent, 0, 0);
    return is_done;
}
static int ptrace_of_the_parent(char *at) { return in_child(0, poke_parent, at); }
static int trace_me(char *at) {
    (void)at;
    return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0;
}
static int ptrace_traceme(char *at) { return in_child(0, trace_me, at); }
static int pagemap(char *at) {
    int fd = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;
    return fd >= 0 && pread(fd, &entry, 8, (uintptr_t)at / 4096 * 8) == 8 && entry >> 63;
}
static int map_files(char *at) { (void)at; return open("/proc/self/map_files", O_RDONLY | O_DIRECTORY) >= 0; }
static int clear_refs(char *at) {
    (void)at;
    int fd = open("/proc/self/clear_refs", O_WRONLY);
    return fd >= 0 && write(fd, "1", 1) == 1;
}

/* The address space. */
static int munmap_(char *at) { return munmap(page_of(at), 4096) == 0; }
static int map_fixed(char *at) {
    return mmap(page_of(at), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page_of(at);
}
static int mprotect_(char *at) { return mprotect(page_of(at), 4096, PROT_READ | PROT_EXEC) == 0; }
static int pkey_mprotect_(char *at) { return syscall(SYS_pkey_mprotect, page_of(at), 4096, PROT_READ, -1) == 0; }
static int mprotect_straddling(char *at) {
    /* From a page of the program's own to the target's: where all is its own, from the page before. */
    char *own = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* What follows is not to suffer. */
    munmap(own + 4096, 4096);
    char *start = (uintptr_t)at >> 32 && !((uintptr_t)own >> 32) ? own : page_of(at) - 4096;
    return mprotect(start, page_of(at) + 4096 - start, PROT_READ) == 0;
}
static int mremap_away(char *at) {
    return mremap(page_of(at), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, own_page()) != MAP_FAILED;
}
static int mremap_onto(char *at) {
    return mremap(own_page(), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page_of(at)) != MAP_FAILED;
}
static int madvise_(char *at) { return madvise(page_of(at), 4096, MADV_DONTNEED) == 0; }
static int process_madvise_(char *at) {
    struct iovec range = {page_of(at), 4096};
    int self = syscall(SYS_pidfd_open, getpid(), 0);
    return syscall(SYS_process_madvise, self, &range, 1ul, MADV_DONTNEED, 0) == 4096;
}
static int shmat_(char *at) {
    int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    void *where = shmat(segment, page_of(at), SHM_REMAP);
    shmctl(segment, IPC_RMID, 0);
    return where == page_of(at);
}
static int userfaultfd_(char *at) {
    int fd = syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {{(uintptr_t)page_of(at), 4096}, UFFDIO_REGISTER_MODE_MISSING};
    char *source = own_page();
    memcpy(source, mark, SIZE);
    struct uffdio_copy copy = {(uintptr_t)page_of(at), (uintptr_t)source, 4096};
    return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0 &&
           madvise(page_of(at), 4096, MADV_DONTNEED) == 0 && ioctl(fd, UFFDIO_COPY, &copy) == 0;
}
static int mseal_(char *at) { return syscall(462, page_of(at), 4096, 0) == 0; }
static int mincore_(char *at) {
    unsigned char in_memory;
    return mincore(page_of(at), 4096, &in_memory) == 0;
}
static int mlock_(char *at) { return mlock(page_of(at), 4096) == 0; }
static int msync_(char *at) { return msync(page_of(at), 4096, MS_ASYNC) == 0; }
static int move_pages_(char *at) {
    void *page = page_of(at);
    int status = -1;
    return syscall(SYS_move_pages, 0, 1ul, &page, 0, &status, 0) == 0 && status >= 0;
}
static int prctl_set_mm(char *at) {
    uintptr_t here = (uintptr_t)mark, top = (uintptr_t)sbrk(0);
    struct prctl_mm_map map = {here, here + 1, here, here, top, top, (uintptr_t)&map, (uintptr_t)at, (uintptr_t)at + SIZE,
                               (uintptr_t)at + SIZE, (uintptr_t)at + SIZE, 0, 0, -1};
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) != 0) return 0;
    int fd = open("/proc/self/cmdline", O_RDONLY);
    return read(fd, stolen, SIZE) == SIZE;
}
static int prctl_name(char *at) { return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page_of(at), 4096, "name") == 0; }
static int prctl_mdwe(char *at) { (void)at; return prctl(65, 1, 0, 0, 0) == 0; }
static int personality_(char *at) { (void)at; return personality(READ_IMPLIES_EXEC) >= 0 && personality(~0u) == READ_IMPLIES_EXEC; }

/* The kernel writes or reads later, or elsewhere. */
static int vmsplice_(char *at) {
    int ends[2];
    struct iovec range = {at, SIZE};
    return pipe(ends) == 0 && vmsplice(ends[1], &range, 1, 0) == SIZE && read(ends[0], stolen, SIZE) == SIZE;
}
static int write_to_pipe(char *at) {
    int ends[2];
    return pipe(ends) == 0 && write(ends[1], at, SIZE) == SIZE && read(ends[0], stolen, SIZE) == SIZE;
}
static int read_from_pipe(char *at) {
    int ends[2];
    return pipe(ends) == 0 && write(ends[1], mark, SIZE) == SIZE && read(ends[0], at, SIZE) == SIZE;
}
static int io_submit_(char *at) {
    aio_context_t context = 0;
    int file = syscall(SYS_memfd_create, "file", 0);
    struct iocb block = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = file, .aio_buf = (uintptr_t)at, .aio_nbytes = SIZE};
    struct iocb *blocks[] = {&block};
    struct io_event event;
    return write(file, mark, SIZE) == SIZE && syscall(SYS_io_setup, 1, &context) == 0 && syscall(SYS_io_submit, context, 1l, blocks) == 1 &&
           syscall(SYS_io_getevents, context, 1l, 1l, &event, 0) == 1 && event.res == SIZE;
}
static int io_uring_setup_(char *at) {
    char parameters[120] = "";
    (void)at;
    return syscall(SYS_io_uring_setup, 1, parameters) >= 0;
}
static int last_will(char *at) { return syscall(SYS_set_tid_address, at) > 0; }
static int set_tid_address_(char *at) { return in_child(CLONE_VM | CLONE_VFORK, last_will, at); }
static int clone_parent_settid(char *at) {
    pid_t child = raw_clone(CLONE_PARENT_SETTID, at, 0);
    if (child == 0) _exit(0);
    errno = child < 0 ? -child : 0;
    return child > 0 && waitpid(child, 0, 0) == child;
}
static int clone_child_cleartid(char *at) {
    pid_t child = raw_clone(CLONE_VM | CLONE_VFORK | CLONE_CHILD_CLEARTID, 0, at);
    if (child == 0) _exit(0);
    errno = child < 0 ? -child : 0;
    return child > 0 && waitpid(child, 0, 0) == child;
}
static int rseq_(char *at) {
    char *aligned = (char *)((uintptr_t)at & ~31ul);
    return syscall(SYS_rseq, aligned, 32, 0, 0x53053053) == 0 && syscall(SYS_rseq, aligned, 32, 1, 0x53053053) == 0;
}
static int futex_wake_op(char *at) {
    static int word;
    return syscall(SYS_futex, &word, FUTEX_WAKE_OP_PRIVATE, 1, 1l, (uintptr_t)at & ~3ul, FUTEX_OP(FUTEX_OP_SET, 0x5ec, FUTEX_OP_CMP_EQ, 0)) >= 0;
}
static int robust_list(char *at) {
    /* At its end the child marks the lock that it holds: the word with its number. */
    static struct { void *next; long offset; void *pending; } head;
    head.next = &head, head.offset = 0, head.pending = page_of(at) == at ? at : (char *)((uintptr_t)at & ~3ul);
    if (page_of(at) == at) *(int *)at = syscall(SYS_gettid);
    return syscall(SYS_set_robust_list, &head, 24ul) == 0;
}
static int set_robust_list_(char *at) { return in_child(CLONE_VM | CLONE_VFORK, robust_list, at); }

/* Another process changes between check and use what the call is about. */
static int is_time_left(int round) {
    static struct timespec end;
    struct timespec now;
    if (round % 64 == 0) sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (round == 0) end = now, end.tv_sec += 2;
    return now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec);
}
static pid_t flip(void (*once)(int, void *), void *what) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int turn = 0;; turn ^= 1) once(turn, what);
    }
    return child;
}
static struct iovec *volatile shared;
static char decoy[SIZE] = "decoy decoy dec";
static void aim(int turn, void *at) {
    shared->iov_base = turn ? at : decoy;
    for (volatile int i = 0; i < 100; i++) {}
}
/* Until a call takes its bytes from, or puts them, where they were not to be. */
static int vector_race(char *at, int (*is_elsewhere)(const int *ends)) {
    int ends[2], is_done = 0, error = EFAULT;
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *shared = (struct iovec){decoy, SIZE};
    socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
    pid_t child = flip(aim, at);
    for (int i = 0; !is_done && is_time_left(i); i++) is_done = is_elsewhere(ends);
    if (!is_done) memset(stolen, 0, SIZE);
    kill(child, SIGKILL), waitpid(child, 0, 0);
    errno = error;
    return is_done;
}
static int took_elsewhere(long taken, const int *ends) {
    return taken == SIZE && read(ends[0], stolen, SIZE) == SIZE && memcmp(stolen, decoy, SIZE) != 0;
}
static int put_elsewhere(long (*put)(int), const int *ends) {
    char before[SIZE];
    memcpy(before, decoy, SIZE), write(ends[1], mark, SIZE);
    /* What came nowhere must not wait for the next turn. */
    if (put(ends[0]) != SIZE) { recv(ends[0], before, SIZE, MSG_DONTWAIT); return 0; }
    int is_elsewhere = memcmp(decoy, before, SIZE) == 0;
    memcpy(decoy, before, SIZE);
    return is_elsewhere;
}
static struct msghdr message(void) { return (struct msghdr){.msg_iov = shared, .msg_iovlen = 1}; }
static long receive(int end) { struct msghdr about = message(); return recvmsg(end, &about, 0); }
static long receive_many(int end) {
    struct mmsghdr about = {message()};
    return recvmmsg(end, &about, 1, 0, 0) == 1 ? about.msg_len : -1;
}
static long fill(int end) { return readv(end, shared, 1); }
static int written(const int *ends) { return took_elsewhere(writev(ends[1], shared, 1), ends); }
static int sent(const int *ends) { struct msghdr about = message(); return took_elsewhere(sendmsg(ends[1], &about, 0), ends); }
static int filled(const int *ends) { return put_elsewhere(fill, ends); }
static int received(const int *ends) { return put_elsewhere(receive, ends); }
static int many_received(const int *ends) { return put_elsewhere(receive_many, ends); }
static int writev_race(char *at) { return vector_race(at, written); }
static int sendmsg_race(char *at) { return vector_race(at, sent); }
static int readv_race(char *at) { return vector_race(at, filled); }
static int recvmsg_race(char *at) { return vector_race(at, received); }
static int recvmmsg_race(char *at) { return vector_race(at, many_received); }
static void relink(int turn, void *unused) {
    (void)unused;
    symlink(turn ? "/proc/self/mem" : "/dev/zero", "next");
    rename("next", "link");
}
static int link_race(char *at) {
    int is_done = 0, error = 0;
    symlink("/dev/zero", "link");
    pid_t child = flip(relink, 0);
    for (int i = 0; !is_done && is_time_left(i); i++) {
        int fd = open("link", O_RDONLY);
        if (fd < 0 && errno == EACCES) error = EACCES;
        is_done = fd >= 0 && pread(fd, stolen, SIZE, (long)at) == SIZE && stolen[0] != 0;
        close(fd);
    }
    kill(child, SIGKILL), waitpid(child, 0, 0);
    errno = error;
    return is_done;
}
/* Another thread writes to whatever is open before anybody has looked at what that is. */
static volatile int is_written, lowest;
static void *write_to_the_number(void *at) {
    for (int i = 0; !is_written && is_time_left(i); i++)
        for (int fd = lowest; fd < lowest + 3; fd++)
            if (pwrite(fd, mark, SIZE, (long)at) == SIZE) is_written = 1;
    return 0;
}
static int number_race(char *at) {
    pthread_t thread;
    int error = 0;
    is_written = 0, lowest = dup(0);
    close(lowest);
    pthread_create(&thread, 0, write_to_the_number, at);
    for (int i = 0; !is_written && is_time_left(i); i++) {
        int fd = open("/proc/self/mem", O_RDWR);
        if (fd < 0 && errno == EACCES) error = EACCES;
        if (fd >= 0) sched_yield(), close(fd);
    }
    pthread_join(thread, 0);
    errno = error;
    return is_written;
}

/* A child with a stack or a thread pointer of the parent's choice, which it uses. */
static long clone_with(long flags, void *stack, void *thread_pointer) {
    register void *fourth asm("r10") = 0;
    register void *fifth asm("r8") = thread_pointer;
    long result;
    asm volatile("syscall; test %%rax, %%rax; jnz 1f\n"
                 "test %%rbx, %%rbx; jz 2f; push %%rbx; push %%rbx; jmp 3f\n"
                 "2: mov %%r12, %%fs:0; mov %%r12, %%fs:8\n"
                 "3: mov $60, %%eax; xor %%edi, %%edi; syscall\n1:"
                 : "=a"(result) : "a"(SYS_clone), "D"(flags | CLONE_VM | CLONE_VFORK | SIGCHLD), "S"(stack), "d"(0l), "r"(fourth), "r"(fifth),
                   "b"(stack ? 0x6e657474697277l : 0l) : "rcx", "r11", "memory");
    return result;
}
static int has_ended_well(pid_t child) {
    int status;
    errno = child < 0 ? -child : EFAULT;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
static int clone_stack(char *at) { return has_ended_well(clone_with(0, at + SIZE, 0)); }
static int clone_tls(char *at) { return has_ended_well(clone_with(CLONE_SETTLS, 0, at)); }

/* Segment bases. */
static sigjmp_buf back;
static void give_up(int signal) { siglongjmp(back, signal); }
static int through_segment(char *at, int option) {
    uint64_t words[2];
    struct sigaction action = {.sa_handler = give_up, .sa_flags = SA_NODEFER}, before;
    sigaction(SIGSEGV, &action, &before);
    int is_done = 0;
    if (sigsetjmp(back, 1) == 0) {
        if (syscall(SYS_arch_prctl, option, at) == 0) {
            asm volatile("movq %%gs:0, %0\n movq %%gs:8, %1" : "=r"(words[0]), "=r"(words[1]));
            memcpy(stolen, words, SIZE);
            is_done = 1;
        }
    }
    sigaction(SIGSEGV, &before, 0);
    return is_done;
}
static int gs_base(char *at) { return through_segment(at, ARCH_SET_GS); }
static int local_descriptor_table(char *at) {
    struct user_desc entry = {.entry_number = 0, .base_addr = (uint32_t)(uintptr_t)at, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1};
    return syscall(SYS_modify_ldt, 1, &entry, sizeof entry) == 0;
}
static int vsyscall(char *at) {
    struct sigaction action = {.sa_handler = give_up, .sa_flags = SA_NODEFER}, before;
    int is_done = 0;
    sigaction(SIGSEGV, &action, &before);
    if (sigsetjmp(back, 1) == 0) is_done = ((int (*)(void *, void *))0xffffffffff600000ul)(at, 0) == 0;
    sigaction(SIGSEGV, &before, 0);
    return is_done;
}

/* What would blind or bind the monitor. */
static int seccomp_(char *at) {
    struct sock_filter allow = {BPF_RET, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};
    (void)at;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}
static int seccomp_by_prctl(char *at) {
    struct sock_filter allow = {BPF_RET, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};
    (void)at;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}
static int user_dispatch(char *at) { (void)at; return prctl(59, 0, 0, 0, 0) == 0; }
static int perf_event(char *at) {
    struct perf_event_attr what = {.type = PERF_TYPE_BREAKPOINT, .size = sizeof what, .bp_type = 2, .bp_addr = (uintptr_t)at & ~7ul, .bp_len = 8, .exclude_kernel = 1, .exclude_hv = 1};
    return syscall(SYS_perf_event_open, &what, 0, -1, -1, 0) >= 0;
}
static int bpf_(char *at) {
    union bpf_attr what = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    (void)at;
    return syscall(SYS_bpf, BPF_MAP_CREATE, &what, sizeof what) >= 0;
}
static int iopl_(char *at) { (void)at; return iopl(3) == 0; }
static int ioperm_(char *at) { (void)at; return ioperm(0x80, 1, 1) == 0; }
static int time_stamps(char *at) { (void)at; return prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0; }
static int cpuid_faults(char *at) { (void)at; return syscall(SYS_arch_prctl, 0x1012, 0) == 0; }
static int shadow_stack(char *at) { (void)at; return syscall(SYS_arch_prctl, 0x5001, 1) == 0; }
static int map_shadow_stack(char *at) { (void)at; return syscall(453, 0, 4096, 0) > 0; }
static int kvm(char *at) { (void)at; return ioctl(open("/dev/kvm", O_RDWR), 0xae01, 0) >= 0; }
static int pidfd_getfd_(char *at) {
    (void)at;
    return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, getpid(), 0), 0, 0) >= 0;
}
static int kcmp_(char *at) { (void)at; return syscall(SYS_kcmp, getpid(), getpid(), 1, 0l, 0l) >= 0; }
static int chroot_(char *at) { (void)at; return chroot("/") == 0; }
static int unshare_(char *at) { (void)at; return unshare(CLONE_NEWNS) == 0; }
static int setns_(char *at) { (void)at; return setns(open("/proc/self/ns/uts", O_RDONLY), 0) == 0; }
static int open_by_handle(char *at) {
    struct { struct file_handle handle; char bytes[128]; } file = {.handle.handle_bytes = 128};
    int mount;
    (void)at;
    return name_to_handle_at(AT_FDCWD, "/", &file.handle, &mount, 0) == 0 && open_by_handle_at(AT_FDCWD, &file.handle, O_RDONLY) >= 0;
}
static int machine_memory(char *at) { (void)at; return open("/dev/mem", O_RDONLY) >= 0; }
static int kernel_memory(char *at) { (void)at; return open("/proc/kcore", O_RDONLY) >= 0; }

#define ATTACK(name) {#name, name}
static const struct { const char *name; int (*act)(char *at); } attacks[] = {
    {"process_vm_readv", process_vm_readv_}, {"process_vm_writev", process_vm_writev_}, ATTACK(process_vm_writev_of_the_parent),
    ATTACK(proc_mem), ATTACK(proc_mem_of_the_parent), ATTACK(ptrace_of_the_parent), ATTACK(ptrace_traceme), ATTACK(pagemap),
    ATTACK(map_files), ATTACK(clear_refs), {"munmap", munmap_}, ATTACK(map_fixed), {"mprotect", mprotect_},
    {"pkey_mprotect", pkey_mprotect_}, ATTACK(mprotect_straddling), ATTACK(mremap_away), ATTACK(mremap_onto), {"madvise", madvise_},
    {"process_madvise", process_madvise_}, {"shmat", shmat_}, {"userfaultfd", userfaultfd_}, {"mseal", mseal_},
    {"mincore", mincore_}, {"mlock", mlock_}, {"msync", msync_}, {"move_pages", move_pages_}, ATTACK(prctl_set_mm),
    ATTACK(prctl_name), ATTACK(prctl_mdwe), {"personality", personality_}, {"vmsplice", vmsplice_}, ATTACK(write_to_pipe),
    ATTACK(read_from_pipe), {"io_submit", io_submit_}, {"io_uring_setup", io_uring_setup_}, {"set_tid_address", set_tid_address_},
    ATTACK(clone_parent_settid), ATTACK(clone_child_cleartid), {"rseq", rseq_}, ATTACK(futex_wake_op),
    {"set_robust_list", set_robust_list_}, ATTACK(gs_base), ATTACK(local_descriptor_table), ATTACK(vsyscall), {"seccomp", seccomp_},
    ATTACK(seccomp_by_prctl), ATTACK(user_dispatch), ATTACK(perf_event), {"bpf", bpf_}, {"iopl", iopl_}, {"ioperm", ioperm_},
    ATTACK(time_stamps), ATTACK(cpuid_faults), ATTACK(shadow_stack), ATTACK(map_shadow_stack), ATTACK(kvm),
    {"pidfd_getfd", pidfd_getfd_}, {"kcmp", kcmp_}, {"chroot", chroot_}, {"unshare", unshare_}, {"setns", setns_},
    ATTACK(open_by_handle), ATTACK(writev_race), ATTACK(sendmsg_race), ATTACK(readv_race),
    ATTACK(recvmsg_race), ATTACK(recvmmsg_race), ATTACK(clone_stack), ATTACK(clone_tls), ATTACK(link_race), ATTACK(number_race), ATTACK(machine_memory), ATTACK(kernel_memory)};

static void attempt(int (*act)(char *), const char *what, char *at) {
    memset(stolen, 0, SIZE), errno = 0;
    int is_done = act(at), error = errno;
    printf("%s %s ", what, is_done ? "done" : strerrorname_np(error));
    for (int i = 0; i < SIZE; i++) printf("%02x", (unsigned char)stolen[i]);
    printf("\n"), fflush(stdout);
}

int main(int argc, char **argv) {
    char line[64];
    char *own = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* Pages around them keep them apart from what a call does to its neighbours. */
    char *victim = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
    own += 4096;
    memset(own, 'o', 4096), memset(victim, 's', 4096);
    printf("victim %lx\n", (unsigned long)victim), fflush(stdout);
    for (unsigned i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        if (strcmp(argv[1], attacks[i].name) != 0) continue;
        attempt(attacks[i].act, "own", own);
        if (!fgets(line, sizeof line, stdin)) return 2;
        attempt(attacks[i].act, "target", (char *)strtoul(line, 0, 16));
        /* Stays until somebody has looked. */
        return fgets(line, sizeof line, stdin) ? 0 : 3;
    }
    return 4;
}

/* What runs the snippets of snippets.h: no C library, so that the program holds little else. */
#include "runtime.h"

struct state before, after;
unsigned char source[AREA], target[AREA], stack[AREA] __attribute__((aligned(4096)));
const char *snippet_name;
static struct state initial;
static char line[4096];
static unsigned long length;

long system_call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

void *memset(void *to, int value, unsigned long size)
{
    for (unsigned long i = 0; i < size; i++)
        ((volatile char *)to)[i] = (char)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long size)
{
    for (unsigned long i = 0; i < size; i++)
        ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}

void text(const char *s)
{
    while (*s)
        line[length++] = *s++;
}

void hexadecimal(unsigned long value)
{
    int shift = 60;
    while (shift > 0 && value >> shift == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        line[length++] = "0123456789abcdef"[value >> shift & 15];
}

void flush(void)
{
    line[length++] = '\n';
    for (unsigned long done = 0; done < length;) {
        long written = system_call(1, 1, (long)(line + done), (long)(length - done), 0);
        if (written <= 0)
            break;
        done += (unsigned long)written;
    }
    length = 0;
}

static unsigned long checksum(const void *data, unsigned long size)
{
    unsigned long sum = 0xcbf29ce484222325;
    for (unsigned long i = 0; i < size; i++)
        sum = (sum ^ ((const unsigned char *)data)[i]) * 0x100000001b3;
    return sum;
}

static const char names[16][7] = {" rax=", " rcx=", " rdx=", " rbx=", " rsp=", " rbp=", " rsi=", " rdi=",
                                      " r8=",  " r9=",  " r10=", " r11=", " r12=", " r13=", " r14=", " r15="};

static void changes(const char *what, const void *area, const void *other, unsigned long size)
{
    const unsigned char *a = area, *b = other;
    unsigned long first = size, last = 0;
    for (unsigned long i = 0; i < size; i++)
        if (a[i] != b[i]) {
            if (first == size)
                first = i;
            last = i;
        }
    if (first == size)
        return;
    text(what);
    hexadecimal(first);
    text("..");
    hexadecimal(last);
    text("=");
    if (last - first < 16)
        for (unsigned long i = last + 1; i-- > first;) {
            line[length++] = "0123456789abcdef"[a[i] >> 4];
            line[length++] = "0123456789abcdef"[a[i] & 15];
        }
    else
        hexadecimal(checksum(a + first, last + 1 - first));
}

static unsigned char pattern(unsigned long i, int which)
{
    return (unsigned char)(i * 37 + (i >> 8) * 11 + (unsigned long)which * 101 + 5);
}

void fill_memory(void)
{
    for (unsigned long i = 0; i < AREA; i++) {
        source[i] = pattern(i, 0);
        target[i] = pattern(i, 1);
        stack[i] = pattern(i, 2);
    }
}

static unsigned char original[AREA];

static void area(const char *what, const unsigned char *bytes, int which)
{
    for (unsigned long i = 0; i < AREA; i++)
        original[i] = pattern(i, which);
    changes(what, bytes, original, AREA);
}

void prepare(unsigned long flags)
{
    static int first = 1;
    if (first) {
        first = 0;
        for (unsigned i = 0; i < 16; i++)
            initial.general[i] = 0x1111111111111111u * i + 0x0102030405060708u;
        initial.general[4] = (unsigned long)stack + AREA / 2;
        initial.general[5] = (unsigned long)stack + 1024;
        initial.general[6] = (unsigned long)source + 256;
        initial.general[7] = (unsigned long)target + 256;
        for (unsigned i = 0; i < sizeof initial.vectors; i++)
            initial.vectors[i] = pattern(i, 3);
    }
    fill_memory();
    before = initial;
    before.flags = flags;
}

void report(void)
{
    text(snippet_name);
    text(":");
    for (int i = 0; i < 16; i++)
        if (after.general[i] != before.general[i]) {
            text(names[i]);
            hexadecimal(after.general[i]);
        }
    text(" flags=");
    hexadecimal(after.flags);
    for (int i = 0; i < 16; i++)
        if (checksum(after.vectors + 16 * i, 16) != checksum(before.vectors + 16 * i, 16)) {
            text(" xmm");
            hexadecimal((unsigned long)i);
            text("=");
            hexadecimal(((unsigned long *)(after.vectors + 16 * i))[1]);
            text(":");
            hexadecimal(((unsigned long *)(after.vectors + 16 * i))[0]);
        }
    area(" source", source, 0);
    area(" target", target, 1);
    area(" stack", stack, 2);
    flush();
}

struct info {
    int signal, error, code, padding;
    unsigned long address;
};

struct context {
    unsigned long flags, link, stack[3];
    unsigned long registers[23]; /* r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags … */
};

static const unsigned char place_of[16] = {13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7};

/* Tells what the signal said and has the next snippet run. */
static void on_signal(int signal, struct info *info, struct context *context)
{
    text(snippet_name);
    text(": signal ");
    hexadecimal((unsigned long)signal);
    text(" code ");
    hexadecimal((unsigned)info->code);
    text(" address ");
    hexadecimal(info->address);
    text(" rip=");
    hexadecimal(context->registers[16]);
    for (int i = 0; i < 16; i++)
        if (context->registers[place_of[i]] != before.general[i]) {
            text(names[i]);
            hexadecimal(context->registers[place_of[i]]);
        }
    text(" flags=");
    hexadecimal(context->registers[17] & ~0x10000ul);
    area(" source", source, 0);
    area(" target", target, 1);
    area(" stack", stack, 2);
    flush();
    context->registers[16] = (unsigned long)after_fault;
    context->registers[17] = 0x202;
}

static unsigned char signal_stack[65536];

void install_handlers(void)
{
    system_call(10, (long)before_nowhere, AREA, 7, 0);
    system_call(11, (long)nowhere, AREA, 0, 0);
    struct { void *base; int flags; unsigned long size; } alternate = {signal_stack, 0, sizeof signal_stack};
    system_call(131, (long)&alternate, 0, 0, 0);
    static const int signals[] = {4, 5, 7, 8, 11};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } action = {
            (void *)on_signal, 0x4 | 0x08000000 | 0x04000000 | 0x40000000, (void *)return_from_signal, 0};
        system_call(13, signals[i], (long)&action, 0, 8);
    }
}

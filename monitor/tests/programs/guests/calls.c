/* Function pointers, jump tables, deep and mutual recursion, variable arguments, big functions and frames. */
#include "checksum.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t (*operation)(uint64_t, uint64_t);

static uint64_t add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t subtract(uint64_t a, uint64_t b) { return a - b; }
static uint64_t multiply(uint64_t a, uint64_t b) { return a * b; }
static uint64_t rotate(uint64_t a, uint64_t b) { return a << (b & 63) | a >> (-b & 63); }
static uint64_t divide(uint64_t a, uint64_t b) { return a / (b | 1); }

static operation operations[] = {add, subtract, multiply, rotate, divide};

static uint64_t interpret(const unsigned char *code, size_t size)
{
    uint64_t stack[64] = {1, 2, 3};
    int top = 2;
    for (size_t i = 0; i < size; i++) {
        switch (code[i] % 23) {
        case 0: stack[top] += i; break;
        case 1: stack[top] *= 3; break;
        case 2: if (top < 60) { stack[top + 1] = stack[top]; top++; } break;
        case 3: if (top > 1) { stack[top - 1] ^= stack[top]; top--; } break;
        case 4: stack[top] = ~stack[top]; break;
        case 5: stack[top] >>= 3; break;
        case 6: stack[top] <<= 5; break;
        case 7: if (top > 0) { uint64_t t = stack[top]; stack[top] = stack[top - 1]; stack[top - 1] = t; } break;
        case 8: stack[top] = operations[stack[top] % 5](stack[top], i); break;
        case 9: stack[top] += stack[0]; break;
        case 10: if (stack[top] & 1) i++; break;
        case 11: stack[top] -= 77; break;
        case 12: stack[0] ^= stack[top]; break;
        case 13: stack[top] = (uint64_t)((double)(stack[top] >> 12) * 1.25); break;
        case 14: stack[top] |= 0x100; break;
        case 15: stack[top] &= ~0x10ul; break;
        case 16: stack[top] = __builtin_bswap64(stack[top]); break;
        case 17: stack[top] += __builtin_popcountll(stack[top]); break;
        case 18: stack[top] = -stack[top]; break;
        case 19: stack[top] %= 1000003; break;
        case 20: stack[top]++; break;
        case 21: stack[top] = stack[top] * stack[top]; break;
        default: stack[top] ^= 0x5555; break;
        }
    }
    return stack[top];
}

static int is_odd(unsigned n);
static __attribute__((noinline)) int is_even(unsigned n) { return n == 0 ? 1 : is_odd(n - 1) + (n == 7777777); }
static __attribute__((noinline)) int is_odd(unsigned n) { return n == 0 ? 0 : is_even(n - 1) + (n == 7777777); }

static __attribute__((noinline)) uint64_t deep(unsigned n)
{
    volatile char frame[100];
    frame[n % 100] = (char)n;
    return n == 0 ? 1 : deep(n - 1) * 3 + frame[n % 100];
}

static unsigned ackermann(unsigned m, unsigned n)
{
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static double sum(int count, ...)
{
    va_list arguments;
    double total = 0;
    va_start(arguments, count);
    for (int i = 0; i < count; i++)
        total += i % 2 ? va_arg(arguments, double) : va_arg(arguments, int);
    va_end(arguments);
    return total;
}

#define LINE(n) x = x * 31 + n; if (x & 64) y ^= x >> 7; else y += n; z[(x ^ y) & 15] += (unsigned)y;
#define TEN(n) LINE(n) LINE(n + 1) LINE(n + 2) LINE(n + 3) LINE(n + 4) LINE(n + 5) LINE(n + 6) LINE(n + 7) LINE(n + 8) LINE(n + 9)
#define HUNDRED(n) TEN(n) TEN(n + 10) TEN(n + 20) TEN(n + 30) TEN(n + 40) TEN(n + 50) TEN(n + 60) TEN(n + 70) TEN(n + 80) TEN(n + 90)

static __attribute__((noinline)) uint64_t huge(uint64_t x)
{
    uint64_t y = 1;
    unsigned z[16] = {0};
    HUNDRED(0) HUNDRED(100) HUNDRED(200) HUNDRED(300) HUNDRED(400) HUNDRED(500) HUNDRED(600) HUNDRED(700)
    for (int i = 0; i < 16; i++)
        y = y * 17 + z[i];
    return x ^ y;
}

static __attribute__((noinline)) uint64_t big_frame(int n)
{
    volatile uint64_t frame[40000];
    frame[0] = 1;
    for (int i = 1; i < 40000; i += 997)
        frame[i] = frame[i > 997 ? i - 997 : 0] * 3 + (uint64_t)i;
    uint64_t here = frame[39881];
    return n == 0 ? here : here + big_frame(n - 1);
}

int main(void)
{
    unsigned char code[20000];
    uint64_t seed = 42;
    for (size_t i = 0; i < sizeof code; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        code[i] = seed >> 56;
    }
    printf("interpret %016llx\n", (unsigned long long)interpret(code, sizeof code));
    uint64_t value = 7;
    for (unsigned i = 1; i < 100000; i++)
        value = operations[(value ^ i) % 5](value, i) | 1;
    printf("pointers %016llx\n", (unsigned long long)value);
    printf("parity %d %d\n", is_even(10001), is_odd(10001));
    printf("deep %016llx\n", (unsigned long long)deep(40000));
    printf("ackermann %u\n", ackermann(2, 300) + ackermann(3, 5));
    printf("sum %g\n", sum(8, 1, 2.5, 3, 4.5, 5, 6.5, 7, 8.5));
    printf("huge %016llx\n", (unsigned long long)huge(99));
    printf("frames %016llx\n", (unsigned long long)big_frame(12));
    char *words[] = {"pear", "apple", "fig", "date", "cherry"};
    qsort(words, 5, sizeof *words, (int (*)(const void *, const void *))strcmp);
    mix(operations, 0);
    return 0;
}

/* Small computations, one after the name of each: the time goes where the name says. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t run_fib(long scale)
{
    uint64_t sum = 0;
    for (long i = 0; i < scale; i++)
        sum += fib(30);
    return sum;
}

/* An interpreter with a switch, on a program that counts primes. */
static uint64_t run_switch(long scale)
{
    enum { PUSH, ADD, SUB, MUL, DUP, SWAP, JUMP_IF, LOAD, STORE, LESS, MOD, HALT };
    static const int code[] = {PUSH, 0, STORE, 0,
                               /* 4 */ LOAD, 0, PUSH, 7, MUL, PUSH, 13, ADD, PUSH, 10007, MOD, LOAD, 1, ADD, STORE, 1,
                               LOAD, 0, PUSH, 1, ADD, DUP, STORE, 0, PUSH, 1000, LESS, JUMP_IF, 4, LOAD, 1, HALT};
    uint64_t total = 0;
    for (long round = 0; round < scale * 400; round++) {
        long stack[32], variables[4] = {0}, *top = stack;
        for (const int *at = code;;) {
            switch (*at++) {
            case PUSH: *++top = *at++; continue;
            case ADD: top--; *top += top[1]; continue;
            case SUB: top--; *top -= top[1]; continue;
            case MUL: top--; *top *= top[1]; continue;
            case DUP: top++; *top = top[-1]; continue;
            case SWAP: { long t = *top; *top = top[-1]; top[-1] = t; continue; }
            case JUMP_IF: { int target = *at++; if (*top--) at = code + target; continue; }
            case LOAD: *++top = variables[*at++]; continue;
            case STORE: variables[*at++] = *top--; continue;
            case LESS: top--; *top = *top < top[1]; continue;
            case MOD: top--; *top %= top[1]; continue;
            case HALT: break;
            }
            break;
        }
        total += (uint64_t)*top;
    }
    return total;
}

static void quicksort(uint32_t *a, long n)
{
    while (n > 1) {
        uint32_t pivot = a[n / 2];
        long i = 0, j = n - 1;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) { uint32_t t = a[i]; a[i++] = a[j]; a[j--] = t; }
        }
        quicksort(a, j + 1);
        a += i;
        n -= i;
    }
}

static uint64_t run_quicksort(long scale)
{
    enum { N = 200000 };
    static uint32_t a[N];
    uint64_t sum = 0;
    for (long round = 0; round < scale; round++) {
        for (long i = 0; i < N; i++) a[i] = (uint32_t)draw();
        quicksort(a, N);
        sum += a[N / 2];
    }
    return sum;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t run_qsort(long scale)
{
    enum { N = 100000 };
    static uint32_t a[N];
    uint64_t sum = 0;
    for (long round = 0; round < scale; round++) {
        for (long i = 0; i < N; i++) a[i] = (uint32_t)draw();
        qsort(a, N, sizeof *a, by_value);
        sum += a[N / 2];
    }
    return sum;
}

static uint64_t run_list(long scale)
{
    enum { N = 1 << 19 };
    static struct node { struct node *next; uint64_t value; } nodes[N];
    static uint32_t order[N];
    for (uint32_t i = 0; i < N; i++) order[i] = i;
    for (uint32_t i = N - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(draw() % (i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < N; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % N]];
        nodes[order[i]].value = i;
    }
    uint64_t sum = 0;
    struct node *at = nodes;
    for (long i = 0; i < scale * 300000; i++) {
        sum += at->value;
        at = at->next;
    }
    return sum;
}

static uint64_t run_matrix(long scale)
{
    enum { N = 160 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) { a[i][j] = i * 0.5 + j; b[i][j] = i - j * 0.25; }
    for (long round = 0; round < scale; round++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
                c[i][j] = sum + c[i][j] * 0.5;
            }
    return (uint64_t)c[N / 3][N / 2];
}

static uint64_t run_nbody(long scale)
{
    static double p[5][7] = {{0, 0, 0, 0, 0, 0, 39.4}, {4.84, -1.16, -0.1, 0.6, 2.8, -0.02, 0.037}, {8.34, 4.12, -0.4, -1.01, 1.8, 0.008, 0.011},
                             {12.8, -15.1, -0.2, 1.08, 0.86, -0.01, 0.0017}, {15.3, -25.9, 0.17, 0.97, 0.59, -0.03, 0.002}};
    for (long step = 0; step < scale * 20000; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double x = p[i][0] - p[j][0], y = p[i][1] - p[j][1], z = p[i][2] - p[j][2];
                double d = x * x + y * y + z * z, m = 0.001 / (d * sqrt(d));
                for (int k = 0; k < 3; k++) {
                    double difference = p[i][k] - p[j][k];
                    p[i][3 + k] -= difference * p[j][6] * m;
                    p[j][3 + k] += difference * p[i][6] * m;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++) p[i][k] += 0.001 * p[i][3 + k];
    }
    return (uint64_t)(p[0][0] * 1e12);
}

static uint64_t run_hash(long scale)
{
    enum { SLOTS = 1 << 17 };
    static struct { uint64_t key, value; } table[SLOTS];
    uint64_t sum = 0;
    for (long i = 0; i < scale * 200000; i++) {
        uint64_t key = draw() % 90000 + 1, at = key * 0x9e3779b97f4a7c15u >> 47;
        while (table[at].key && table[at].key != key) at = (at + 1) % SLOTS;
        table[at].key = key;
        sum += ++table[at].value;
    }
    return sum;
}

static uint64_t run_strings(long scale)
{
    static char text[20000], copy[20000];
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) text[i] = (char)('a' + draw() % 26);
    for (long round = 0; round < scale * 40; round++) {
        text[round % 19000] = ' ';
        strcpy(copy, text);
        for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
            sum += strlen(word);
            sum += (uint64_t)(strchr(word, 'q') != NULL) + (strstr(word, "xyz") != NULL);
        }
        char number[32];
        for (int i = 0; i < 100; i++) {
            snprintf(number, sizeof number, "%d:%s", (int)(round * i), "tail");
            sum += (uint64_t)atoi(number) + (uint64_t)memcmp(text, copy, 50) % 3;
        }
    }
    return sum;
}

static uint64_t run_malloc(long scale)
{
    static void *blocks[4096];
    uint64_t sum = 0;
    for (long i = 0; i < scale * 150000; i++) {
        size_t at = draw() % 4096, size = 16 + draw() % 500;
        free(blocks[at]);
        blocks[at] = malloc(size);
        *(char *)blocks[at] = (char)i;
        sum += size;
    }
    return sum;
}

static uint64_t add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t exclusive(uint64_t a, uint64_t b) { return a ^ b * 3; }
static uint64_t less(uint64_t a, uint64_t b) { return a - b; }
static uint64_t turn(uint64_t a, uint64_t b) { return (a << 7 | a >> 57) ^ b; }

static uint64_t run_pointers(long scale)
{
    static uint64_t (*volatile operations[4])(uint64_t, uint64_t) = {add, exclusive, less, turn};
    uint64_t value = 1;
    for (long i = 0; i < scale * 2000000; i++)
        value = operations[(value >> 3 ^ (uint64_t)i) & 3](value, (uint64_t)i);
    return value;
}

static uint64_t run_sieve(long scale)
{
    enum { N = 1 << 20 };
    static unsigned char composite[N];
    uint64_t count = 0;
    for (long round = 0; round < scale; round++) {
        memset(composite, 0, N);
        for (long i = 2; i < N; i++)
            if (!composite[i]) {
                count++;
                for (long j = i * 2; j < N; j += i) composite[j] = 1;
            }
    }
    return count;
}

static const struct { const char *name; uint64_t (*run)(long); } all[] = {
    {"fib", run_fib}, {"switch", run_switch}, {"quicksort", run_quicksort}, {"qsort", run_qsort}, {"list", run_list},
    {"matrix", run_matrix}, {"nbody", run_nbody}, {"hash", run_hash}, {"strings", run_strings}, {"malloc", run_malloc},
    {"pointers", run_pointers}, {"sieve", run_sieve}};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 2 && i < sizeof all / sizeof *all; i++)
        if (!strcmp(argv[1], all[i].name))
            return printf("%llu\n", (unsigned long long)all[i].run(atol(argv[2]))), 0;
    return 2;
}

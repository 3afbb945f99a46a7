/* A small JIT: compiles random expressions, runs them, compares with an interpreter, frees and reuses the memory. */
#include "checksum.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int64_t (*function)(int64_t, int64_t);

enum { LEAF_A, LEAF_B, LEAF_NUMBER, ADD, SUBTRACT, MULTIPLY, AND, XOR, LESS, CHOOSE };

struct node {
    int kind;
    int32_t number;
    struct node *left, *right;
};

static uint64_t seed = 2463534242u;
static struct node pool[4096];
static int used;

static unsigned draw(unsigned limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 20) % limit;
}

static struct node *grow(int depth)
{
    struct node *node = &pool[used++];
    node->kind = depth == 0 || used > 4000 ? (int)draw(3) : ADD + (int)draw(7);
    node->number = (int32_t)draw(100000) - 50000;
    if (node->kind >= ADD) {
        node->left = grow(depth - 1);
        node->right = grow(depth - 1);
    }
    return node;
}

static int64_t evaluate(const struct node *n, int64_t a, int64_t b)
{
    int64_t x, y;
    switch (n->kind) {
    case LEAF_A: return a;
    case LEAF_B: return b;
    case LEAF_NUMBER: return n->number;
    }
    x = evaluate(n->left, a, b);
    if (n->kind == CHOOSE)
        return x < 0 ? evaluate(n->right, a, b) : x;
    y = evaluate(n->right, a, b);
    switch (n->kind) {
    case ADD: return (int64_t)((uint64_t)x + (uint64_t)y);
    case SUBTRACT: return (int64_t)((uint64_t)x - (uint64_t)y);
    case MULTIPLY: return (int64_t)((uint64_t)x * (uint64_t)y);
    case AND: return x & y;
    case XOR: return x ^ y;
    default: return x < y;
    }
}

static unsigned char *put(unsigned char *at, const char *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

#define PUT(text) (at = put(at, text, sizeof text - 1))

/* Leaves the value in rax; a is in rdi, b in rsi. */
static unsigned char *generate(unsigned char *at, const struct node *n)
{
    switch (n->kind) {
    case LEAF_A: return PUT("\x48\x89\xf8");
    case LEAF_B: return PUT("\x48\x89\xf0");
    case LEAF_NUMBER: PUT("\x48\xc7\xc0"); return put(at, (const char *)&n->number, 4);
    }
    at = generate(at, n->left);
    if (n->kind == CHOOSE) {
        PUT("\x48\x85\xc0\x0f\x89\0\0\0\0");
        unsigned char *after = at;
        at = generate(at, n->right);
        int32_t distance = (int32_t)(at - after);
        memcpy(after - 4, &distance, 4);
        return at;
    }
    PUT("\x50");
    at = generate(at, n->right);
    PUT("\x59");
    switch (n->kind) {
    case ADD: return PUT("\x48\x01\xc8");
    case SUBTRACT: return PUT("\x48\x29\xc1\x48\x89\xc8");
    case MULTIPLY: return PUT("\x48\x0f\xaf\xc1");
    case AND: return PUT("\x48\x21\xc8");
    case XOR: return PUT("\x48\x31\xc8");
    default: return PUT("\x48\x39\xc1\x0f\x9c\xc0\x0f\xb6\xc0");
    }
}

/* Memory for code that grows by mapping more behind it, with an instruction across the border. */
static int runs_across_a_border(void)
{
    enum { PAGE = 4096 };
    static const unsigned char code[] = {0x48, 0x8d, 0x84, 0x37, 0x78, 0x56, 0x34, 0x12, 0xc3}; /* lea rax, [rdi+rsi+…] */
    int rights = PROT_READ | PROT_WRITE | PROT_EXEC, kind = MAP_PRIVATE | MAP_ANONYMOUS;
    unsigned char *start = mmap(NULL, 2 * PAGE, PROT_NONE, kind, -1, 0);
    if (mmap(start, PAGE, rights, kind | MAP_FIXED, -1, 0) != start ||
        mmap(start + PAGE, PAGE, rights, kind | MAP_FIXED, -1, 0) != start + PAGE)
        return 0;
    memcpy(start + PAGE - 3, code, sizeof code);
    return ((function)(start + PAGE - 3))(1, 2) == 0x1234567b;
}

int main(void)
{
    enum { SIZE = 1 << 16, SLOTS = 8 };
    unsigned char *slots[SLOTS] = {0};
    int wrong = 0;
    size_t bytes = 0;
    for (int round = 0; round < 3000; round++) {
        unsigned char **slot = &slots[round % SLOTS];
        if (*slot == NULL || round % 5 == 0) {
            if (*slot != NULL)
                munmap(*slot, SIZE);
            int rights = PROT_READ | PROT_WRITE | (round % 2 ? PROT_EXEC : 0);
            *slot = mmap(NULL, SIZE, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (*slot == MAP_FAILED)
                return perror("mmap"), 1;
        }
        used = 0;
        struct node *tree = grow(1 + (int)draw(7));
        mprotect(*slot, SIZE, PROT_READ | PROT_WRITE | (round % 3 ? PROT_EXEC : 0));
        unsigned char *start = *slot + draw(64), *at = generate(start, tree);
        PUT("\xc3");
        bytes += (size_t)(at - start);
        if (round % 3 == 0)
            mprotect(*slot, SIZE, PROT_READ | PROT_EXEC);
        for (int i = 0; i < 8; i++) {
            int64_t a = (int64_t)draw(1u << 31) - (1 << 30), b = (int64_t)draw(1000) - 500;
            int64_t value = ((function)start)(a, b);
            wrong += value != evaluate(tree, a, b);
            mix(&value, sizeof value);
        }
    }
    wrong += !runs_across_a_border();
    printf("%zu bytes, %d wrong\n", bytes, wrong);
    show("values");
    return wrong != 0;
}

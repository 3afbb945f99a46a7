/* One kind of operation after the other, each in a loop of assembly that holds nearly nothing else.
 *
 *     costs places         name, operations in the stretch, guest addresses of the stretches that one operation is made of
 *     costs KIND BATCHES   nanoseconds an operation, of the fastest of so many batches
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPERATIONS = 16, ROUNDS = 4000 };

/* void NAME(long rounds): REGISTERS set up, then BODY in a loop that counts in rbp; rbx points to `cells`. A stretch of code
 * from NAME_from to NAME_to holds OPERATIONS operations, one from NAME_target to NAME_target_end is run once for each. */
#define KIND(name, set_up, body, target)                                                                       \
    void name(long rounds);                                                                                    \
    extern char name##_from[], name##_to[], name##_target[], name##_target_end[];                              \
    __asm__(".text\n.p2align 6\n.globl " #name "\n" #name ":\n"                                                \
            "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nsub $8,%rsp\n"                  \
            "mov %rdi,%rbp\nmov $cells,%ebx\nmov %rsp,8(%rbx)\nxor %r12d,%r12d\n" set_up                       \
            "\n.p2align 6\n1000:\n" #name "_from:\n.rept 16\n" body "\n.endr\n" #name "_to:\n"                 \
            "dec %rbp\njnz 1000b\n"                                                                            \
            "add $8,%rsp\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"                   \
            ".p2align 5\n" #name "_target:\n" target "\n" #name "_target_end:\n")

uint64_t cells[64];
void (*targets[4])(void);

KIND(dependent_add, "", "add %r12,%r12", "");
KIND(register_move, "", "mov %r12,%rax", "");
KIND(load, "", "mov 16(%rbx),%rax", "");
KIND(load_chain, "", "mov (%rbx),%rbx", "");
KIND(store, "", "mov %r12,16(%rbx)", "");
KIND(load_vector, "", "movups 16(%rbx),%xmm0", "");
KIND(relative_load, "", "mov cells+16(%rip),%rax", "");
KIND(relative_store, "", "mov %r12,cells+16(%rip)", "");
KIND(segment_load, "", "mov %fs:0x28,%rax", "");
KIND(segment_indexed, "", "mov %fs:0x28(%r12),%rax", "");
KIND(lea, "", "lea 8(%r12,%r12,2),%rax", "");
KIND(relative_lea, "", "lea cells(%rip),%rax", "");
KIND(stack_add, "", "add $-16,%rsp\nadd $16,%rsp\nxor %eax,%eax", "");
KIND(stack_add_flags, "", "add $-16,%rsp\nsetc %al\nadd $16,%rsp\nsetc %al", "");
KIND(stack_load, "", "mov 8(%rbx),%rsp", "");
KIND(push_pop, "", "push %r12\npop %rax", "");
KIND(string_store, "mov $cells+64,%r13d", "mov %r13,%rdi\nstosq", "");
KIND(string_move, "mov $cells+64,%r13d\nmov $cells+256,%r14d", "mov %r13,%rdi\nmov %r14,%rsi\nmovsq", "");
KIND(string_repeat, "mov $cells+64,%r13d\nmov $cells+256,%r14d", "mov %r13,%rdi\nmov %r14,%rsi\nmov $64,%ecx\nrep movsb", "");
KIND(write_r11, "", "mov %r12,%r11", "");
KIND(loop_instruction, "", "mov $1,%ecx\nloop 2000f\n2000:", "");
KIND(direct_jump, "", "jmp 2001f\n2001:", "");
KIND(linked_jump, "", "jmp 2002f\n.subsection 1\n.skip 4096,0xcc\n2002: jmp 2003f\n.previous\n2003:", "");
KIND(direct_call, "", "call 2004f\n2004: pop %rax", "");
KIND(call_return, "", "call call_return_target", "ret");
KIND(pointer_call, "mov $pointer_call_target,%r13d", "call *%r13", "ret");
KIND(memory_call, "movq $memory_call_target,cells+128", "call *128(%rbx)", "ret");
KIND(four_calls, "", "inc %r12d\nmov %r12d,%eax\nand $3,%eax\ncall *targets(,%rax,8)", "ret");
KIND(random_calls, "mov $1,%r12d", "mov %r12,%rax\nshl $13,%rax\nxor %rax,%r12\nmov %r12,%rax\nshr $7,%rax\nxor %rax,%r12\n"
     "mov %r12,%rax\nshl $17,%rax\nxor %rax,%r12\nmov %r12d,%eax\nand $3,%eax\ncall *targets(,%rax,8)", "ret");
/* As compilers translate a switch with eight cases. */
KIND(switch_table, "", "inc %r12d\nmov %r12d,%eax\nand $7,%eax\nlea 2010f(%rip),%rdx\nmovslq (%rdx,%rax,4),%rax\nadd %rdx,%rax\njmp *%rax\n"
     ".subsection 1\n2011: jmp 2015f\n2012: jmp 2015f\n2013: jmp 2015f\n2014: jmp 2015f\n.previous\n2015:\n"
     ".pushsection .rodata\n.p2align 2\n2010: .long 2011b-2010b,2012b-2010b,2013b-2010b,2014b-2010b,2011b-2010b,2013b-2010b,2014b-2010b,2012b-2010b\n.popsection", "");
KIND(linkage_call, "", "call labs@PLT", "");

static void first(void) { __asm__ volatile(""); }
static void second(void) { __asm__ volatile("nop"); }
static void third(void) { __asm__ volatile("nop\nnop"); }
static void fourth(void) { __asm__ volatile("nop\nnop\nnop"); }

#define ROW(name) {#name, name, name##_from, name##_to, name##_target, name##_target_end}
static const struct {
    const char *name;
    void (*run)(long);
    const char *from, *to, *target, *target_end;
} kinds[] = {
    ROW(dependent_add), ROW(register_move), ROW(load), ROW(load_chain), ROW(store), ROW(load_vector), ROW(relative_load), ROW(relative_store),
    ROW(segment_load), ROW(segment_indexed), ROW(lea), ROW(relative_lea), ROW(stack_add), ROW(stack_add_flags), ROW(stack_load), ROW(push_pop),
    ROW(string_store), ROW(string_move), ROW(string_repeat), ROW(write_r11), ROW(loop_instruction), ROW(direct_jump), ROW(linked_jump),
    ROW(direct_call), ROW(call_return), ROW(pointer_call), ROW(memory_call), ROW(four_calls), ROW(random_calls), ROW(switch_table),
    ROW(linkage_call)};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char **argv)
{
    void (*const all[4])(void) = {first, second, third, fourth};
    memcpy(targets, all, sizeof targets);
    cells[0] = (uint64_t)cells;
    for (size_t i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++) {
        if (!strcmp(argv[1], "places")) {
            printf("%s %d %lx-%lx", kinds[i].name, OPERATIONS, (long)kinds[i].from, (long)kinds[i].to);
            printf(kinds[i].target == kinds[i].target_end ? "\n" : " %lx-%lx\n", (long)kinds[i].target, (long)kinds[i].target_end);
        } else if (!strcmp(argv[1], kinds[i].name) && argc > 2) {
            double best = 1e300;
            kinds[i].run(64);
            for (long batch = 0; batch < atol(argv[2]); batch++) {
                double start = now();
                kinds[i].run(ROUNDS);
                double took = (now() - start) / (ROUNDS * OPERATIONS);
                best = took < best ? took : best;
            }
            printf("%.4f\n", best);
            return 0;
        }
    }
    return argc < 2 || strcmp(argv[1], "places");
}

/* setjmp and longjmp, and contexts that switch among each other. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

static jmp_buf back;
static ucontext_t main_context, contexts[3];
static char stacks[3][65536];

static __attribute__((noinline)) void leap(int depth, int value)
{
    volatile char frame[64];
    frame[depth & 63] = (char)depth;
    if (depth == 0)
        longjmp(back, value);
    leap(depth - 1, value);
    printf("never %d\n", frame[0]);
}

static void worker(int self, int other)
{
    double x = self + 0.5;
    for (int i = 0; i < 5; i++) {
        x = x * 1.5 + i;
        printf("context %d step %d %.6f\n", self, i, x);
        swapcontext(&contexts[self], &contexts[other]);
    }
    printf("context %d ends\n", self);
}

int main(void)
{
    volatile int rounds = 0;
    int value = setjmp(back);
    printf("setjmp %d\n", value);
    if (rounds++ < 4)
        leap(rounds * 100, rounds == 3 ? 0 : rounds);

    sigjmp_buf with_mask;
    volatile int times = 0;
    if (sigsetjmp(with_mask, 1) == 0 || times < 3) {
        times++;
        siglongjmp(with_mask, times);
    }
    printf("sigsetjmp %d\n", times);

    unsigned long total = 0;
    for (volatile int i = 0; i < 20000; i++) {
        jmp_buf here;
        int which = setjmp(here);
        if (which == 0)
            longjmp(here, i % 7 + 1);
        total += (unsigned long)which;
    }
    printf("total %lu\n", total);

    for (int i = 0; i < 3; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = sizeof stacks[i];
        contexts[i].uc_link = i == 2 ? &main_context : &contexts[i + 1];
        makecontext(&contexts[i], (void (*)(void))worker, 2, i, (i + 1) % 3);
    }
    swapcontext(&main_context, &contexts[0]);
    puts("back in main");
    volatile int again = 0;
    ucontext_t here;
    getcontext(&here);
    if (again++ < 3)
        setcontext(&here);
    printf("again %d\n", again);
    return 0;
}

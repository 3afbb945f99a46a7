/* The x87: transcendental functions, control word, environment and whole state in memory, stack, long double. */
#include "checksum.h"
#include <fenv.h>
#include <math.h>
#include <string.h>

static void transcendental(void)
{
    for (int i = -20; i <= 20; i++) {
        long double x = i * 0.37L, sine, cosine, tangent, power, logarithm;
        long double one;
        __asm__("fsincos" : "=t"(cosine), "=u"(sine) : "0"(x));
        __asm__("fptan" : "=t"(one), "=u"(tangent) : "0"(x));
        __asm__("f2xm1" : "=t"(power) : "0"(i / 21.0L));
        __asm__("fyl2x" : "=t"(logarithm) : "0"(fabsl(x) + 1), "u"(2.5L) : "st(1)");
        printf("%d %.20Lg %.20Lg %.20Lg %.20Lg %.20Lg %.20Lg\n", i, sine, cosine, tangent, power, logarithm, one);
    }
    printf("%La %.25Lf %Le\n", sinl(1), expl(1), powl(1.0000001L, 1e9L));
}

static void control(void)
{
    unsigned short saved, word;
    __asm__ volatile("fnstcw %0" : "=m"(saved));
    for (int precision = 0; precision < 4; precision++) {
        for (int rounding = 0; rounding < 4; rounding++) {
            word = (unsigned short)((saved & ~0x0f00) | precision << 8 | rounding << 10);
            long double third;
            short integer;
            __asm__ volatile("fldcw %2; fld1; fldl %3; fdivrp; fstpt %0; fldl %4; fistps %1; fldcw %5"
                             : "=m"(third), "=m"(integer) : "m"(word), "m"((double){3}), "m"((double){-2.5}), "m"(saved));
            mix(&third, 10);
            printf("%d %d %.21Lg %d\n", precision, rounding, third, integer);
        }
    }
}

static void state(void)
{
    struct { uint16_t word, a, status, b, tag, c; uint32_t ip; uint16_t cs, opcode; uint32_t dp; uint16_t ds, d; } __attribute__((packed)) environment;
    unsigned char all[108];
    memset(all, 0, sizeof all);
    __asm__ volatile("fninit; fld1; fldpi; fldl2e; fnstenv %0; fldenv %0; fldlg2; fnsave %1; frstor %1; fcompp; fcompp"
                     : "=m"(environment), "=m"(all));
    printf("%04x %04x %04x\n", environment.word, environment.status, environment.tag);
    mix(all + 28, 80);
    printf("%02x%02x %02x%02x %02x%02x\n", all[1], all[0], all[5], all[4], all[9], all[8]);
    unsigned char area[512] __attribute__((aligned(16)));
    memset(area, 0, sizeof area);
    __asm__ volatile("fldz; fldln2; fxsave %0; fstp %%st(0); fstp %%st(0); fxrstor %0; fstp %%st(0); fstp %%st(0)" : "+m"(area));
    mix(area, 5);
    mix(area + 32, 128);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double zero = 0, big = 1e308;
    volatile double result = 1 / zero + big * 10;
    printf("%x %g\n", fetestexcept(FE_ALL_EXCEPT), result);
    fesetround(FE_UPWARD);
    volatile float third = 1.0f / 3;
    printf("%a %ld %ld\n", third, lrint(0.5), lrintl(-0.5L));
    fesetround(FE_TONEAREST);
    show("state");
}

static void forms(void)
{
    unsigned char decimal[10];
    double value = 123456789012345.0;
    int64_t integer = -77;
    float single = 1.25f;
    long double result;
    unsigned short status;
    unsigned flags;
    __asm__("fldl %1; fbstp %0" : "=m"(decimal) : "m"(value));
    mix(decimal, sizeof decimal);
    __asm__("fbld %1; fildll %2; fadds %3; fsubrp; fimull %4; fxch; fstpt %0; "
            : "=m"(result) : "m"(decimal), "m"(integer), "m"(single), "m"((int){3}) : "st");
    printf("%.20Lg\n", result);
    __asm__("fldz; fld1; fcomip; fstp %%st(0); pushfq; pop %q0; and $0x45, %0; fld1; fchs; fxam; fnstsw %1; fstp %%st(0); ftst; fnstsw %1"
            : "=r"(flags), "=m"(status) : : "cc", "st");
    printf("%x %x\n", flags, status & 0x4700);
    __asm__("fninit");
    /* Prefixes of MMX and its end. */
    uint64_t packed;
    __asm__("movq %1, %%mm0; paddb %1, %%mm0; pshufw $0x1b, %%mm0, %%mm1; movq %%mm1, %0; emms" : "=m"(packed) : "m"(value) : "mm0", "mm1");
    mix(&packed, 8);
    show("forms");
}

int main(void)
{
    transcendental();
    control();
    state();
    forms();
    return 0;
}

/* What the processor says about itself that stays the same from run to run, and its clock. */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <x86intrin.h>

int main(void)
{
    unsigned a, b, c, d;
    char vendor[13] = {0}, brand[49] = {0};
    __cpuid(0, a, b, c, d);
    memcpy(vendor, &b, 4);
    memcpy(vendor + 4, &d, 4);
    memcpy(vendor + 8, &c, 4);
    printf("vendor %s, leaves %d\n", vendor, a >= 7);
    __cpuid(1, a, b, c, d);
    printf("family %08x, sse2 %d, cx16 %d, avx %d, osxsave %d\n", a, d >> 26 & 1, c >> 13 & 1, c >> 28 & 1, c >> 27 & 1);
    for (unsigned i = 0; i < 3; i++) {
        __cpuid(0x80000002 + i, a, b, c, d);
        memcpy(brand + 16 * i, &a, 4);
        memcpy(brand + 16 * i + 4, &b, 4);
        memcpy(brand + 16 * i + 8, &c, 4);
        memcpy(brand + 16 * i + 12, &d, 4);
    }
    printf("brand %s\n", brand);
    printf("avx2 %d\n", __builtin_cpu_supports("avx2") != 0);
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    printf("xcr0 %x\n", low & 7);
    uint64_t last = __rdtsc();
    int backwards = 0;
    for (int i = 0; i < 1000; i++) {
        unsigned processor;
        uint64_t now = i % 2 ? __rdtsc() : __rdtscp(&processor);
        backwards += now < last;
        last = now;
    }
    printf("backwards %d\n", backwards);
    __asm__ volatile("pause; lfence; mfence; sfence; nop; .byte 0x0f,0x1f,0x84,0,0,0,0,0; .byte 0xf3,0x0f,0x1e,0xfa");
    __builtin_prefetch(vendor);
    __asm__ volatile("clflush %0" : "+m"(vendor));
    puts("done");
    return 0;
}

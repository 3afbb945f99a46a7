/* AVX2 and AVX-512 where the processor has them: arithmetic, gathers and scatters, masks, permutations, conversions.
 * Built with AVX2; the functions for AVX-512 say so themselves. */
#include "checksum.h"
#include <immintrin.h>
#include <string.h>

#define COUNT 4096
static float floats[COUNT];
static double doubles[COUNT];
static int32_t ints[COUNT];
static uint8_t bytes[COUNT];
static int64_t longs[COUNT];

static void fill(void)
{
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < COUNT; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        floats[i] = (float)(x % 10007) / 7;
        doubles[i] = (double)(x % 1000003) / 13;
        ints[i] = (int32_t)(x >> 11);
        bytes[i] = (uint8_t)(x >> 23);
        longs[i] = (int64_t)(x >> 1);
    }
}

static void with_avx2(void)
{
    __m256 sum = _mm256_setzero_ps();
    __m256d products = _mm256_set1_pd(1.5);
    __m256i hash = _mm256_set1_epi32(0x1234567);
    for (int i = 0; i < COUNT - 32; i += 8) {
        __m256 a = _mm256_loadu_ps(floats + i), b = _mm256_loadu_ps(floats + i + 3);
        sum = _mm256_fmadd_ps(a, _mm256_set1_ps(0.25f), _mm256_add_ps(sum, _mm256_sqrt_ps(b)));
        sum = _mm256_blendv_ps(sum, _mm256_div_ps(a, _mm256_add_ps(b, _mm256_set1_ps(1))), _mm256_cmp_ps(a, b, _CMP_GT_OQ));
        products = _mm256_add_pd(products, _mm256_i32gather_pd(doubles, _mm_and_si128(_mm_loadu_si128((void *)(ints + i)), _mm_set1_epi32(COUNT - 1)), 8));
        __m256i index = _mm256_and_si256(_mm256_loadu_si256((void *)(ints + i)), _mm256_set1_epi32(COUNT - 1));
        __m256i gathered = _mm256_i32gather_epi32(ints, index, 4);
        hash = _mm256_add_epi32(_mm256_mullo_epi32(hash, _mm256_set1_epi32(31)), gathered);
        hash = _mm256_xor_si256(hash, _mm256_shuffle_epi8(_mm256_loadu_si256((void *)(bytes + i)), _mm256_set1_epi8(5)));
        hash = _mm256_permutevar8x32_epi32(hash, _mm256_loadu_si256((void *)(ints + i + 1)));
        __m256i wide = _mm256_and_si256(_mm256_loadu_si256((void *)(longs + i)), _mm256_set1_epi64x(COUNT - 1));
        hash = _mm256_xor_si256(hash, _mm256_i64gather_epi64((const long long *)longs, wide, 8));
        /* A gather under a mask, with a base in the middle and negative indices. */
        __m256i negative = _mm256_sub_epi32(index, _mm256_set1_epi32(COUNT / 2));
        hash = _mm256_xor_si256(hash, _mm256_mask_i32gather_epi32(hash, ints + COUNT / 2, negative, gathered, 4));
        _mm256_maskstore_epi32(ints + i + 9, _mm256_loadu_si256((void *)(ints + i + 2)), hash);
    }
    mix(&sum, sizeof sum);
    mix(&products, sizeof products);
    mix(&hash, sizeof hash);
    mix(ints, sizeof ints);
    show("avx2");
}

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static void with_avx512(void)
{
    __m512i hash = _mm512_set1_epi64(0x9e3779b97f4a7c15);
    __m512d sum = _mm512_setzero_pd();
    for (int i = 0; i < COUNT - 64; i += 8) {
        __m512i a = _mm512_loadu_si512(longs + i), b = _mm512_loadu_si512(longs + i + 5);
        __mmask8 less = _mm512_cmplt_epi64_mask(a, b);
        hash = _mm512_mask_add_epi64(hash, less, _mm512_rol_epi64(hash, 7), _mm512_mullo_epi64(a, b));
        hash = _mm512_ternarylogic_epi64(hash, a, b, 0x96);
        __m512i index = _mm512_and_si512(a, _mm512_set1_epi64(COUNT - 1));
        sum = _mm512_add_pd(sum, _mm512_mask_i64gather_pd(sum, less, index, doubles, 8));
        __m256i narrow = _mm512_cvtepi64_epi32(index);
        hash = _mm512_xor_si512(hash, _mm512_i32gather_epi64(narrow, longs, 8));
        _mm512_mask_i32scatter_epi64(longs, (__mmask8)~less, narrow, hash, 8);
        _mm512_i64scatter_epi32(ints, index, _mm512_cvtepi64_epi32(hash), 4);
        _mm512_mask_compressstoreu_epi64(longs + i + 20, less, a);
        hash = _mm512_mask_expandloadu_epi64(hash, (__mmask8)(less ^ 0x5a), longs + i + 3);
        hash = _mm512_add_epi64(hash, _mm512_set1_epi64(longs[i + 1]));
        sum = _mm512_fmadd_pd(sum, _mm512_set1_pd(0.999), _mm512_loadu_pd(doubles + i));
        sum = _mm512_mask_sqrt_pd(sum, less, _mm512_abs_pd(sum));
        __m512i packed = _mm512_mask_loadu_epi8(hash, 0x0ff0f00f12345678, bytes + i);
        hash = _mm512_xor_si512(hash, _mm512_shuffle_epi8(packed, a));
        _mm512_mask_storeu_epi16(bytes + i + 7, 0x0f0f33aa, hash);
    }
    mix(&hash, sizeof hash);
    mix(&sum, sizeof sum);
    mix(longs, sizeof longs);
    mix(ints, sizeof ints);
    mix(bytes, sizeof bytes);
    show("avx512");
}

int main(void)
{
    fill();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        with_avx2();
    else
        puts("no avx2");
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        with_avx512();
    else
        puts("no avx512");
    return 0;
}

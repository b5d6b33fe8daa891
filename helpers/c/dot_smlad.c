/* The same with SMLAD: two 16-bit products in one instruction, and their sum.
 *
 * One load brings four weights. SXTB16 makes 16-bit numbers of bytes 0 and 2, and after a rotation
 * of bytes 1 and 3. So that its partners lie side by side, the window has the order 0, 2, 1, 3.
 */
#include "kernels.h"

#ifdef __ARM_FEATURE_SIMD32
#include <arm_acle.h>
#define even_bytes(w) __sxtb16(w)
#define odd_bytes(w) __sxtb16((w) >> 8 | (w) << 24)
#define two_products(a, b, sum) __smlad(a, b, sum)
#else /* the same in plain C, so that every machine can test it */
static uint32_t even_bytes(uint32_t w)
{
    return (uint16_t)(int8_t)w | (uint32_t)(uint16_t)(int8_t)(w >> 16) << 16;
}
static uint32_t odd_bytes(uint32_t w)
{
    return even_bytes(w >> 8);
}
static int32_t two_products(uint32_t a, uint32_t b, int32_t sum)
{
    return sum + (int16_t)a * (int16_t)b + (int16_t)(a >> 16) * (int16_t)(b >> 16);
}
#endif

void arrange(int16_t *v, int length)
{
    for (int16_t *end = v + (length & ~3); v < end; v += 4) {
        int16_t second = v[1];
        v[1] = v[2];
        v[2] = second;
    }
}

int32_t dot(const int8_t *w, const int16_t *v, int length, int32_t sum)
{
    const int8_t *end = w + (length & ~3);
    for (; w < end; w += 4, v += 4) {
        uint32_t four, pairs[2];
        __builtin_memcpy(&four, w, 4);
        __builtin_memcpy(pairs, v, 8);
        sum = two_products(even_bytes(four), pairs[0], sum);
        sum = two_products(odd_bytes(four), pairs[1], sum);
    }
    for (end += length & 3; w < end; w++, v++)
        sum += *w * *v;
    return sum;
}

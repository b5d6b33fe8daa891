/* The same with WebAssembly's 128-bit registers: eight 16-bit products in one instruction, which
 * leaves four sums of two. Eight weights are widened from 8 to 16 bits as they are loaded.
 */
#include "kernels.h"

void arrange(int16_t *v, int length)
{
    (void)v, (void)length;
}

#ifdef __wasm_simd128__
#include <wasm_simd128.h>
typedef v128_t four_sums;
static four_sums add_products(const int8_t *w, const int16_t *v, four_sums sums)
{
    v128_t products = wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(w), wasm_v128_load(v));
    return wasm_i32x4_add(sums, products);
}
#else /* the same in plain C, so that every machine can test it */
typedef struct {
    int32_t of[4];
} four_sums;
static four_sums add_products(const int8_t *w, const int16_t *v, four_sums sums)
{
    for (int k = 0; k < 8; k++)
        sums.of[k / 2] += w[k] * v[k];
    return sums;
}
#endif

int32_t dot(const int8_t *w, const int16_t *v, int length, int32_t sum)
{
    four_sums sums = {0};
    int32_t parts[4];
    int k = 0;
    for (; k + 8 <= length; k += 8)
        sums = add_products(w + k, v + k, sums);
    __builtin_memcpy(parts, &sums, sizeof parts);
    sum += parts[0] + parts[1] + parts[2] + parts[3];
    for (; k < length; k++)
        sum += w[k] * v[k];
    return sum;
}

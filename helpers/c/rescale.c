/* A real factor F = m / 2^31 / 2^n as an integer m and a number n of places (lesson 43). */
#include "kernels.h"

/* round(a m / 2^31), halves upwards */
int32_t high_multiply(int32_t a, int32_t m)
{
    return (int32_t)(((int64_t)a * m + (1 << 30)) >> 31);
}

/* round(a / 2^n), halves away from zero; n from 0 to 31, |a| < 2^30 */
int32_t right_shift(int32_t a, int n)
{
    int32_t half = n > 0 ? 1 << (n - 1) : 0;
    return (a + half - (a < 0 && n > 0)) >> n;
}

/* a F, rounded twice: convolutions, additions */
int32_t rescale_twice(int32_t a, int32_t m, int n)
{
    if (n < 0) { /* F >= 1: to the left first */
        a = (int32_t)((uint32_t)a << -n);
        n = 0;
    }
    return right_shift(high_multiply(a, m), n);
}

/* a F, rounded once, halves away from zero: dense layers */
int32_t rescale_once(int32_t a, int32_t m, int n)
{
    int64_t product = (int64_t)a * m, half = (int64_t)1 << (30 + n);
    return (int32_t)((product + half - (product < 0)) >> (31 + n));
}

/* a rescaled sum as an int8 output */
int8_t to_int8(int32_t a, int zero, int low, int high)
{
    a += zero;
    return (int8_t)(a < low ? low : a > high ? high : a);
}

/* The operators of an int8 .tflite file, as LiteRT's reference kernels compute them.
 *
 * A tensor is rows of pixels of channels, [H, W, C], as the file stores it, for a batch of one.
 * Weights are int8 with zero point 0. Nothing here allocates memory or uses floats.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

/* What brings a sum to the output: for each output channel a factor m / 2^31 / 2^n, then the zero
 * point, then the limits of int8 or of the activation that is part of the layer. */
struct finish {
    const int32_t *m;
    const int8_t *n;
    int16_t zero, low, high;
};

struct conv {
    const int8_t *weights; /* [out_c, k_h, k_w, in_c] */
    const int32_t *bias;   /* [out_c] */
    int16_t in_h, in_w, in_c, out_h, out_w, out_c;
    int16_t k_h, k_w, step_h, step_w, top, left; /* top, left: rows and columns of padding */
    int16_t x_zero;
    struct finish finish;
};

struct dense {
    const int8_t *weights; /* [out, in] */
    const int32_t *bias;   /* [out] */
    int32_t in, out;
    int16_t x_zero;
    struct finish finish;
};

struct add {
    int32_t size, a_m, b_m, y_m;
    int8_t a_n, b_n, y_n;
    int16_t a_zero, b_zero, y_zero, low, high;
};

struct pool {
    int16_t in_h, in_w, channels, out_h, out_w;
    int16_t k_h, k_w, step_h, step_w, top, left;
    int16_t low, high;
};

struct mean { /* over height and width */
    int32_t places, channels, m, offset;
    int8_t left, right;
    int16_t y_zero;
};

struct pad {
    int16_t in_h, in_w, channels, top, left, out_h, out_w, value;
};

void conv_2d(const struct conv *p, const int8_t *x, int8_t *y);
void fully_connected(const struct dense *p, const int8_t *x, int8_t *y);
void add(const struct add *p, const int8_t *a, const int8_t *b, int8_t *y);
void max_pool_2d(const struct pool *p, const int8_t *x, int8_t *y);
void mean(const struct mean *p, const int8_t *x, int8_t *y);
void pad(const struct pad *p, const int8_t *x, int8_t *y);

/* conv_window.c: a window in the order that dot likes, and sum + the products of w and v */
void arrange(int16_t *v, int length);
int32_t dot(const int8_t *w, const int16_t *v, int length, int32_t sum);

int32_t high_multiply(int32_t a, int32_t m);
int32_t right_shift(int32_t a, int n);
int32_t rescale_twice(int32_t a, int32_t m, int n);
int32_t rescale_once(int32_t a, int32_t m, int n);
int8_t to_int8(int32_t a, int zero, int low, int high);

#endif

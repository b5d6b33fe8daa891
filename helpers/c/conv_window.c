/* The same convolution in two steps: what one place sees is written out as a row of 16-bit
 * differences q - x_zero, once for all output channels, and then multiplied with each filter. */
#include "kernels.h"
#include "model.h" /* MODEL_WINDOW: products of the longest sum of a convolution */

static int16_t window[MODEL_WINDOW] __attribute__((aligned(4)));

static void fill_window(const struct conv *p, const int8_t *x, int i, int j)
{
    int16_t *v = window;
    for (int m = 0; m < p->k_h; m++)
        for (int n = 0; n < p->k_w; n++, v += p->in_c) {
            int row = i * p->step_h + m - p->top, column = j * p->step_w + n - p->left;
            int inside = row >= 0 && row < p->in_h && column >= 0 && column < p->in_w;
            const int8_t *q = x + (row * p->in_w + column) * p->in_c;
            for (int c = 0; c < p->in_c; c++)
                v[c] = inside ? q[c] - p->x_zero : 0;
        }
}

void conv_2d(const struct conv *p, const int8_t *x, int8_t *y)
{
    const struct finish *f = &p->finish;
    int length = p->k_h * p->k_w * p->in_c;
    for (int i = 0; i < p->out_h; i++)
        for (int j = 0; j < p->out_w; j++) {
            fill_window(p, x, i, j);
            arrange(window, length);
            for (int o = 0; o < p->out_c; o++) {
                int32_t sum = dot(p->weights + o * length, window, length, p->bias[o]);
                *y++ = to_int8(rescale_twice(sum, f->m[o], f->n[o]), f->zero, f->low, f->high);
            }
        }
}

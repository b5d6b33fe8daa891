/* A convolution, one product after the other. */
#include "kernels.h"

void conv_2d(const struct conv *p, const int8_t *x, int8_t *y)
{
    const struct finish *f = &p->finish;
    for (int i = 0; i < p->out_h; i++)
        for (int j = 0; j < p->out_w; j++)
            for (int o = 0; o < p->out_c; o++) {
                const int8_t *w = p->weights + o * p->k_h * p->k_w * p->in_c;
                int32_t sum = p->bias[o];
                for (int m = 0; m < p->k_h; m++)
                    for (int n = 0; n < p->k_w; n++, w += p->in_c) {
                        int row = i * p->step_h + m - p->top, column = j * p->step_w + n - p->left;
                        if (row < 0 || row >= p->in_h || column < 0 || column >= p->in_w)
                            continue; /* outside stands 0.0, which adds nothing */
                        const int8_t *q = x + (row * p->in_w + column) * p->in_c;
                        for (int c = 0; c < p->in_c; c++)
                            sum += (q[c] - p->x_zero) * w[c];
                    }
                *y++ = to_int8(rescale_twice(sum, f->m[o], f->n[o]), f->zero, f->low, f->high);
            }
}

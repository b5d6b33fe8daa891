/* The operators without a faster version; see kernels.h. */
#include "kernels.h"

void fully_connected(const struct dense *p, const int8_t *x, int8_t *y)
{
    const struct finish *f = &p->finish;
    const int8_t *w = p->weights;
    for (int o = 0; o < p->out; o++, w += p->in) {
        int32_t sum = p->bias[o];
        for (int k = 0; k < p->in; k++)
            sum += (x[k] - p->x_zero) * w[k];
        y[o] = to_int8(rescale_once(sum, f->m[o], f->n[o]), f->zero, f->low, f->high);
    }
}

void add(const struct add *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    for (int k = 0; k < p->size; k++) { /* y may be a or b */
        int32_t left = rescale_twice((a[k] - p->a_zero) * (1 << 20), p->a_m, p->a_n);
        int32_t right = rescale_twice((b[k] - p->b_zero) * (1 << 20), p->b_m, p->b_n);
        int32_t sum = rescale_twice(left + right, p->y_m, p->y_n);
        y[k] = to_int8(sum, p->y_zero, p->low, p->high);
    }
}

void max_pool_2d(const struct pool *p, const int8_t *x, int8_t *y)
{
    for (int i = 0; i < p->out_h; i++)
        for (int j = 0; j < p->out_w; j++)
            for (int c = 0; c < p->channels; c++) {
                int largest = -128;
                for (int m = 0; m < p->k_h; m++)
                    for (int n = 0; n < p->k_w; n++) {
                        int row = i * p->step_h + m - p->top, column = j * p->step_w + n - p->left;
                        if (row < 0 || row >= p->in_h || column < 0 || column >= p->in_w)
                            continue;
                        int q = x[(row * p->in_w + column) * p->channels + c];
                        largest = q > largest ? q : largest;
                    }
                *y++ = to_int8(largest, 0, p->low, p->high);
            }
}

void mean(const struct mean *p, const int8_t *x, int8_t *y)
{
    for (int c = 0; c < p->channels; c++) {
        int32_t sum = p->offset;
        for (int k = 0; k < p->places; k++)
            sum += x[k * p->channels + c];
        sum = high_multiply((int32_t)((uint32_t)sum << p->left), p->m);
        y[c] = to_int8(right_shift(sum, p->right), p->y_zero, -128, 127);
    }
}

void pad(const struct pad *p, const int8_t *x, int8_t *y)
{
    for (int i = 0; i < p->out_h; i++)
        for (int j = 0; j < p->out_w; j++)
            for (int c = 0; c < p->channels; c++) {
                int row = i - p->top, column = j - p->left;
                int inside = row >= 0 && row < p->in_h && column >= 0 && column < p->in_w;
                *y++ = (int8_t)(inside ? x[(row * p->in_w + column) * p->channels + c] : p->value);
            }
}

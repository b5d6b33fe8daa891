"""Checks of the try-it and the exercises of lesson 12."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def _windows_sum(x, w, product):
    (H, W), (kh, kw) = x.shape, w.shape
    y = np.zeros((H - kh + 1, W - kw + 1), np.result_type(x, w))
    for i, j in np.ndindex(y.shape):
        y[i, j] = product(x[i : i + kh, j : j + kw], w).sum()
    return y


def cross_correlate(x, w):
    return _windows_sum(x, w, np.multiply)


def _last_product(x, w):
    """Each product replaces the one before, where it should be added."""
    return cross_correlate(x, w * (np.arange(w.size) == w.size - 1).reshape(w.shape))


def _centered(x, w):
    """As many outputs as pixels: zeros around the image."""
    top, left = (k // 2 for k in w.shape)
    padded = np.pad(x, ((top, w.shape[0] - 1 - top), (left, w.shape[1] - 1 - left)))
    return cross_correlate(padded, w)


@exercise(
    "12.0",
    cross_correlate,
    {
        "that is a true convolution, with the kernel flipped: w[m, n] lies on x[i + m, j + n]": (
            lambda x, w: cross_correlate(x, w[::-1, ::-1])
        ),
        "only the last product of each window is left: add them up with +=": _last_product,
        "that is the mean of the products: take their sum": (
            lambda x, w: cross_correlate(x, w) / w.size
        ),
        "that is the sum of the window: multiply it with the kernel first": (
            lambda x, w: cross_correlate(x, np.ones_like(w))
        ),
        "that is the matrix product of window and kernel: multiply entry by entry, with *": (
            lambda x, w: _windows_sum(x, w, np.matmul)
        ),
        "rows and columns trade places: i counts rows and j columns": (
            lambda x, w: cross_correlate(x, w).T
        ),
        "there is no place for the window at the edge: the output is [H - kh + 1, W - kw + 1]": (
            _centered
        ),
        "one row and one column are missing: there are H - kh + 1 by W - kw + 1 places": (
            lambda x, w: cross_correlate(x, w)[:-1, :-1]
        ),
    },
)
def check_cross_correlate(answer: Answer) -> None:
    """An array [H - kh + 1, W - kw + 1]."""
    rng = np.random.default_rng(12)
    by_hand = np.array([[1.0, 2, 0], [0, 1, 3], [2, 1, 1]]), np.array([[1.0, 2], [-1, 3]])
    cases = [by_hand]
    for size, kernel in (((5, 7), (3, 2)), ((4, 6), (1, 4)), ((6, 4), (2, 3)), ((5, 5), (3, 3))):
        cases.append((rng.standard_normal(size), rng.standard_normal(kernel)))
    compare(answer, cases, advice="y[i, j] is the sum of w * x[i : i + kh, j : j + kw]")


def least_zeros(H, H_out, kernel, stride, dilation):
    return max((H_out - 1) * stride + dilation * (kernel - 1) + 1 - H, 0)


@exercise(
    "12.1",
    least_zeros,
    {
        "fewer than no zeros cannot be added: return 0 where the windows fit already": (
            lambda H, o, k, s, d: (o - 1) * s + d * (k - 1) + 1 - H
        ),
        "the dilation has no effect: the kernel reaches over dilation * (kernel - 1) + 1 pixels": (
            lambda H, o, k, s, d: least_zeros(H, o, k, s, 1)
        ),
        "a kernel of k entries reaches over dilation * (k - 1) + 1 pixels, not over dilation * k": (
            lambda H, o, k, s, d: max((o - 1) * s + d * k - H, 0)
        ),
        "the last of H_out windows begins at (H_out - 1) * stride, not at H_out * stride": (
            lambda H, o, k, s, d: max(o * s + d * (k - 1) + 1 - H, 0)
        ),
        "the last window begins at pixel (H_out - 1) * stride: the stride has no effect": (
            lambda H, o, k, s, d: least_zeros(H, o, k, 1, d)
        ),
        "that is one zero too few: the last window ends at its begin + dilation * (kernel - 1), "
        "and pixels count from 0": lambda H, o, k, s, d: max((o - 1) * s + d * (k - 1) - H, 0),
        "that is the number at one end: both ends together are asked for": (
            lambda H, o, k, s, d: least_zeros(H, o, k, s, d) // 2
        ),
        "that is the number at one end, rounded up: both ends together are asked for": (
            lambda H, o, k, s, d: -(-least_zeros(H, o, k, s, d) // 2)
        ),
        "an odd number of zeros is allowed, too: the two ends need not be alike": (
            lambda H, o, k, s, d: 2 * -(-least_zeros(H, o, k, s, d) // 2)
        ),
        "half of the zeros, rounded down, at both ends is one too few where their number is odd": (
            lambda H, o, k, s, d: least_zeros(H, o, k, s, d) // 2 * 2
        ),
    },
)
def check_least_zeros(answer: Answer) -> None:
    """An int, at least 0."""
    cases = [(28, 14, 3, 2, 1), (28, 28, 3, 1, 1), (9, 9, 3, 1, 2), (28, 7, 1, 4, 1)]
    cases += [(10, 4, 5, 3, 2), (30, 10, 4, 3, 1), (12, 2, 3, 5, 1)]
    compare(answer, cases, advice="where does the last window begin, and where does it end?")


def _depthwise(c_in: int, c_out: int, kernel: int) -> int:
    return c_in * kernel**2


def _mixing(c_in: int, c_out: int, kernel: int) -> int:
    return c_in * c_out


def _block(first: Callable, second: Callable) -> Callable:
    """(parameters, MACs) of two convolutions, each given as its number of weights."""

    def cost(c_in, c_out, kernel, height, width):
        weights = first(c_in, c_out, kernel) + second(c_in, c_out, kernel)
        return weights, weights * height * width

    return cost


separable_cost = _block(_depthwise, _mixing)


@exercise(
    "12.2",
    separable_cost,
    {
        "the numbers are right and trade places: parameters first, then MACs": (
            lambda *a: separable_cost(*a)[::-1]
        ),
        "the parameters are right; each is used at height x width places": (
            lambda *a: (separable_cost(*a)[0],) * 2
        ),
        "the parameters are right; each is used at height x width places, not at height**2": (
            lambda c, o, k, h, w: separable_cost(c, o, k, h, h)
        ),
        "the size of the maps is kept: there are height x width places, as many as pixels": (
            lambda c, o, k, h, w: (
                separable_cost(c, o, k, h, w)[0],
                separable_cost(c, o, k, h - k + 1, w - k + 1)[1],
            )
        ),
        "that is the full convolution, which the block replaces": (
            _block(lambda c, o, k: c * o * k**2, lambda *a: 0)
        ),
        "the 1x1 convolution that mixes the maps is missing": _block(_depthwise, lambda *a: 0),
        "the depthwise convolution is missing": _block(lambda *a: 0, _mixing),
        "depthwise: each map has one kernel, groups = c_in": (
            _block(lambda c, o, k: c * c * k**2, _mixing)
        ),
        "the mixing convolution is 1x1, not k x k": (
            _block(_depthwise, lambda c, o, k: c * o * k**2)
        ),
        "the depthwise convolution comes first: it runs on c_in maps": (
            _block(lambda c, o, k: o * k**2, _mixing)
        ),
        "a kernel has k x k weights, not k": _block(lambda c, o, k: c * k, _mixing),
        "leave the biases out: bias=False": (
            lambda c, o, k, h, w: (
                separable_cost(c, o, k, h, w)[0] + c + o,
                separable_cost(c, o, k, h, w)[1],
            )
        ),
    },
)
def check_separable_cost(answer: Answer) -> None:
    """Two ints, (parameters, MACs)."""
    compare(answer, [(16, 32, 3, 14, 14), (8, 24, 5, 10, 6)], "parameters, MACs")


def _walk(backward=True, pad=True, last=lambda k: k - 1, clip=False) -> Callable:
    """The walk of exercise 12.3 through the layers, or with one step changed."""

    def seen(place, layers):
        low = high = place
        for kernel, stride, padding in reversed(layers) if backward else layers:
            shift = padding if pad else 0
            low, high = low * stride - shift, high * stride - shift + last(kernel)
        return (max(low, 0), high) if clip else (low, high)

    return seen


seen = _walk()


def _from_the_first(place, layers):
    """The last pixel is reckoned from the first one of the layer above."""
    low = high = place
    for kernel, stride, padding in reversed(layers):
        low = low * stride - padding
        high = low + kernel - 1
    return low, high


def _width(place, layers):
    """First pixel right, and the field's width in place of the last pixel."""
    low, high = seen(place, layers)
    return low, high - low + 1


def _grown(place, layers):
    """The kernel is added before the stride multiplies."""
    low = high = place
    for kernel, stride, padding in reversed(layers):
        low, high = low * stride - padding, (high + kernel - 1) * stride - padding
    return low, high


@exercise(
    "12.3",
    seen,
    {
        "walk backward, from the last layer to the first: reversed(layers)": _walk(backward=False),
        "the padding has no effect: output 0 begins `padding` pixels before the image": (
            _walk(pad=False)
        ),
        "a window of k pixels ends k - 1 pixels after its first one, not k": _walk(
            last=lambda k: k
        ),
        "pixels in the padding count, too: first may be negative": _walk(clip=True),
        "the second number is the last pixel, not the width": _width,
        "stride first, then the kernel: the last input is stride * high - padding + kernel - 1": (
            _grown
        ),
        "keep two numbers: the last input follows from the last output, not from the first": (
            _from_the_first
        ),
        "the numbers trade places: the first pixel, then the last": lambda *a: seen(*a)[::-1],
    },
)
def check_seen(answer: Answer) -> None:
    """Two ints, (first, last)."""
    conv, pool, halving = (3, 1, 1), (2, 2, 0), (3, 2, 1)
    cases = [
        (2, [conv]),
        (0, [conv, pool]),
        (5, [pool, conv]),
        (1, [(5, 3, 2), (4, 1, 0), halving]),
    ]
    cases += [(3, [conv, conv, conv, halving, conv, halving, conv])]
    compare(answer, cases, "the first pixel, the last pixel")


def fourier_correlate(x, w):
    product = np.fft.rfft2(x) * np.conj(np.fft.rfft2(w, x.shape))
    (H, W), (kh, kw) = x.shape, w.shape
    return np.fft.irfft2(product, x.shape)[: H - kh + 1, : W - kw + 1]


def _circle(
    x, w, *, kernel=np.conj, image=lambda X: X, invert=lambda P, shape: np.fft.ifft2(P).real
):
    """The transform's whole result, with one step changed."""
    return invert(image(np.fft.fft2(x)) * kernel(np.fft.fft2(w, x.shape)), x.shape)


def _cut(y, x, w, down=0.0):
    """As many windows as fit, from `down` times the kernel's size on."""
    top, left = (int(down * (k - 1)) for k in w.shape)
    return y[top : top + x.shape[0] - w.shape[0] + 1, left : left + x.shape[1] - w.shape[1] + 1]


@exercise(
    "12.4",
    fourier_correlate,
    {
        "that is the convolution: conjugate the kernel's transform to undo a flip": (
            lambda x, w: _cut(_circle(x, w, kernel=lambda W: W), x, w, down=1)
        ),
        "that is the convolution, and cut where it is wrong: conjugate the kernel's transform": (
            lambda x, w: _cut(_circle(x, w, kernel=lambda W: W), x, w)
        ),
        "cut away the windows that went round the edge: keep H - kh + 1 by W - kw + 1": _circle,
        "you cut at the wrong end: the complete windows come first": (
            lambda x, w: _cut(_circle(x, w), x, w, down=1)
        ),
        "the complete windows come first: they begin at row 0, column 0": (
            lambda x, w: _cut(_circle(x, w), x, w, down=0.5)
        ),
        "conjugate the kernel's transform, not the image's": (
            lambda x, w: _cut(_circle(x, w, kernel=lambda W: W, image=np.conj), x, w)
        ),
        "with the kernel flipped, the complete windows begin at row kh - 1, column kw - 1": (
            lambda x, w: _cut(_circle(x, w[::-1, ::-1], kernel=lambda W: W), x, w)
        ),
        "the absolute value loses the sign: take the real part": (
            lambda x, w: np.abs(fourier_correlate(x, w))
        ),
        "tell irfft2 the shape of the image: without it, it assumes an even width": (
            lambda x, w: _cut(
                np.fft.irfft2(np.fft.rfft2(x) * np.conj(np.fft.rfft2(w, x.shape))), x, w
            )
        ),
    },
)
def check_fourier_correlate(answer: Answer) -> None:
    """An array [H - kh + 1, W - kw + 1]."""
    rng = np.random.default_rng(123)
    sizes = ((8, 12), (3, 4)), ((9, 7), (4, 3)), ((5, 5), (1, 5)), ((6, 3), (6, 3))
    cases = [tuple(rng.standard_normal(size) for size in pair) for pair in sizes]
    compare(answer, cases, advice="compare with scipy.signal.correlate2d(x, w, 'valid')")

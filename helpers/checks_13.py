"""Checks of the try-it and the exercises of lesson 13."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def input_gradient(dy, w):
    (H_out, W_out), (kh, kw) = dy.shape, w.shape
    dx = np.zeros((H_out + kh - 1, W_out + kw - 1), np.result_type(dy, w))
    for i, j in np.ndindex(H_out, W_out):
        dx[i : i + kh, j : j + kw] += dy[i, j] * w
    return dx


def _overwritten(dy, w):
    """The last stamp on a pixel replaces the earlier ones."""
    kh, kw = w.shape
    dx = np.zeros_like(input_gradient(dy, w))
    for i, j in np.ndindex(dy.shape):
        dx[i : i + kh, j : j + kw] = dy[i, j] * w
    return dx


def _valid(dy, w):
    """The forward pass's sum of dy and w, where the kernel fits."""
    (H, W), (kh, kw) = dy.shape, w.shape
    y = np.zeros((H - kh + 1, W - kw + 1), np.result_type(dy, w))
    for i, j in np.ndindex(y.shape):
        y[i, j] = (w * dy[i : i + kh, j : j + kw]).sum()
    return y


@exercise(
    "13.0",
    input_gradient,
    {
        "the kernel is upside down: dy[i, j] * w[m, n] goes to pixel (i + m, j + n)": (
            lambda dy, w: input_gradient(dy, w[::-1, ::-1])
        ),
        "stamps overlap, and what arrives at a pixel is added up: += in place of =": _overwritten,
        "dx has the size of the image, [H_out + kh - 1, W_out + kw - 1]: you cut the stamps off": (
            lambda dy, w: input_gradient(dy, w)[: dy.shape[0], : dy.shape[1]]
        ),
        "that is the forward pass's sum of dy and w: what was read there is written here": _valid,
        "that is the stamp without its gradient: multiply the kernel with dy[i, j]": (
            lambda dy, w: input_gradient(np.ones_like(dy), w)
        ),
        "rows and columns trade places: i counts rows and j columns": (
            lambda dy, w: input_gradient(dy, w).T
        ),
    },
)
def check_input_gradient(answer: Answer) -> None:
    """An array [H_out + kh - 1, W_out + kw - 1]."""
    rng = np.random.default_rng(13)
    cases = [(np.array([[1.0, 0], [0, 2]]), np.array([[1.0, 2], [-1, 3]]))]
    for size, kernel in (((3, 5), (2, 3)), ((4, 3), (3, 1)), ((4, 4), (3, 3))):
        cases.append((rng.standard_normal(size), rng.standard_normal(kernel)))
    compare(answer, cases, advice="dx[i : i + kh, j : j + kw] gets dy[i, j] * w")


def strided_weight_gradient(dy, x, kernel, stride):
    dw = np.zeros(kernel, np.result_type(dy, x))
    for i, j in np.ndindex(dy.shape):
        for m, n in np.ndindex(*kernel):
            dw[m, n] += dy[i, j] * x[stride * i + m, stride * j + n]
    return dw


def _dilated(dy, x, kernel, stride):
    """The stride multiplies the place in the kernel."""
    dw = np.zeros(kernel, np.result_type(dy, x))
    for i, j in np.ndindex(dy.shape):
        for m, n in np.ndindex(*kernel):
            dw[m, n] += dy[i, j] * x[i + stride * m, j + stride * n]
    return dw


def _every_other(dy, x, kernel, stride):
    """Only every stride-th pixel of the image is read."""
    dw = np.zeros(kernel, np.result_type(dy, x))
    for m, n in np.ndindex(*kernel):
        for i, j in np.ndindex(dy.shape):
            place = stride * (i + m), stride * (j + n)
            dw[m, n] += dy[i, j] * x[place] if np.all(np.less(place, x.shape)) else 0
    return dw


def _last_place(dy, x, kernel, stride):
    only = np.zeros_like(dy)
    only[-1, -1] = dy[-1, -1]
    return strided_weight_gradient(only, x, kernel, stride)


@exercise(
    "13.1",
    strided_weight_gradient,
    {
        "the stride has no effect: window (i, j) begins at pixel (stride * i, stride * j)": (
            lambda dy, x, kernel, stride: strided_weight_gradient(dy, x, kernel, 1)
        ),
        "the stride belongs to the place (i, j) of the window, not to the place (m, n) in the "
        "kernel": _dilated,
        "the stride moves the window; inside it all pixels are read, and not every stride-th": (
            _every_other
        ),
        "only the last place is left: a weight collects from all of them, with +=": _last_place,
        "that is the mean over the places: take the sum": (
            lambda dy, x, kernel, stride: strided_weight_gradient(dy, x, kernel, stride) / dy.size
        ),
        "the kernel is upside down: w[m, n] lies on x[stride * i + m, stride * j + n]": (
            lambda *a: strided_weight_gradient(*a)[::-1, ::-1]
        ),
        "that is the sum of the windows: weigh each one with dy[i, j]": (
            lambda dy, *a: strided_weight_gradient(np.ones_like(dy), *a)
        ),
        "rows and columns trade places: i counts rows and j columns": (
            lambda *a: strided_weight_gradient(*a).T
        ),
    },
)
def check_strided_weight_gradient(answer: Answer) -> None:
    """An array [kh, kw]."""
    rng = np.random.default_rng(131)
    line = np.array([[1.0, 10]]), np.array([[1.0, 2, 3, 4, 5]])
    cases = [(*line, (1, 3), 2), (*line, (1, 2), 2)]
    for outputs, kernel, stride in (((3, 3), (2, 3), 2), ((4, 3), (3, 2), 3), ((3, 2), (2, 2), 1)):
        size = [stride * (o - 1) + k for o, k in zip(outputs, kernel, strict=True)]
        cases.append((rng.standard_normal(outputs), rng.standard_normal(size), kernel, stride))
    compare(answer, cases, advice="dw[m, n] adds up dy[i, j] * x[stride * i + m, stride * j + n]")


def average_kernel(channels, size):
    return np.full((channels, 1, size, size), 1 / size**2, np.float32)


@exercise(
    "13.2",
    average_kernel,
    {
        "ones give the sum of the window: divide by the number of its pixels": (
            lambda c, s: np.ones((c, 1, s, s))
        ),
        "a window has size x size pixels, not size": lambda c, s: np.full((c, 1, s, s), 1 / s),
        "the mean is over one map's window, not over the channels": (
            lambda c, s: np.full((c, 1, s, s), 1 / (c * s**2))
        ),
        "with groups = channels each kernel reads one map: the second size is 1": (
            lambda c, s: np.full((c, c, s, s), 1 / s**2)
        ),
    },
)
def check_average_kernel(answer: Answer) -> None:
    """A float32 array [channels, 1, size, size]."""
    compare(
        answer,
        [(3, 2), (5, 3), (1, 4)],
        "the kernel",
        advice="every pixel of the window contributes 1 / size**2 to the mean",
    )


def mean_backward(dy, shape):
    return np.zeros(shape) + dy[:, :, None, None] / (shape[2] * shape[3])


@exercise(
    "13.3",
    mean_backward,
    {
        "each pixel is one of H * W: divide by their number": (
            lambda dy, shape: np.zeros(shape) + dy[:, :, None, None]
        ),
        "divide by H * W, not by H": lambda dy, shape: mean_backward(dy, shape) * shape[3],
        "divide by H * W, not by W": lambda dy, shape: mean_backward(dy, shape) * shape[2],
        "divide by H * W alone: the mean is over places, not over channels": (
            lambda dy, shape: mean_backward(dy, shape) / shape[1]
        ),
        "divide by H * W alone: the mean over images is the loss's": (
            lambda dy, shape: mean_backward(dy, shape) / shape[0]
        ),
        "divide by H * W alone: the mean is neither over images nor over channels": (
            lambda dy, shape: mean_backward(dy, shape) / (shape[0] * shape[1])
        ),
        "the shape is right up to spreading: dx is [N, C, H, W], every pixel of a map alike": (
            lambda dy, shape: dy[:, :, None, None] / (shape[2] * shape[3])
        ),
        "all pixels of a map get the gradient, not only its first one": (
            lambda dy, shape: (
                mean_backward(dy, shape)
                * (np.arange(shape[2] * shape[3]) == 0).reshape(shape[2:])
                * (shape[2] * shape[3])
            )
        ),
    },
)
def check_mean_backward(answer: Answer) -> None:
    """An array of the given shape."""
    rng = np.random.default_rng(133)
    cases = [(np.array([[8.0]]), (1, 1, 2, 2))]
    for shape in ((2, 3, 4, 5), (3, 2, 1, 7), (2, 4, 7, 7)):
        cases.append((rng.standard_normal(shape[:2]), shape))
    compare(answer, cases, advice="each of the H * W pixels gets dy / (H * W)")

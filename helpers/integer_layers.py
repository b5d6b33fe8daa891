"""The layers with weights of an int8 .tflite file, in integers: convolutions and dense layers.

Activations are int8 with one scale and zero point, weights int8 with a scale for each output
channel and zero point 0, biases int32 with scale s_x s_w (Jacob et al. 2018, section 2.3; LiteRT's
8-bit quantization specification). Each function here prepares an operator of a file and returns
what computes it: int8 arrays in, an int8 array out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.fixed_point import rescale_in_float32, rescale_in_float64, rescale_twice
from helpers.integer_ops import limits, windows_of
from helpers.tflite_file import Operator

XNNPACK_LIMIT = 256  # XNNPACK leaves layers with such a factor to other kernels


def conv_2d(op: Operator, rounding: str) -> Callable:
    """Convolution with weights [O, kh, kw, I]: [N, H, W, I] -> [N, H', W', O]."""
    weights = op.inputs[1].values
    outputs, *kernel, _ = weights.shape
    rows = weights.reshape(outputs, -1).T
    product = product_with(rows)
    windows, finish = windows_of(op, kernel), finisher(op, rounding, weights.sum((1, 2, 3), int))

    def run(q: np.ndarray) -> np.ndarray:
        seen = windows(q)  # [N, H', W', kh, kw, I]
        return finish(product(seen.reshape(-1, len(rows))).reshape(*seen.shape[:3], outputs))

    return run


def depthwise_conv_2d(op: Operator, rounding: str) -> Callable:
    """m kernels for each channel, weights [1, kh, kw, C m]: [N, H, W, C] -> [N, H', W', C m]."""
    weights = op.inputs[1].values
    _, *kernel, outputs = weights.shape
    by_channel = weights.astype(np.int32).reshape(*kernel, op.inputs[0].shape[3], -1)
    windows, finish = windows_of(op, kernel), finisher(op, rounding, weights.sum((0, 1, 2), int))

    def run(q: np.ndarray) -> np.ndarray:
        seen = windows(q)
        products = np.zeros((*seen.shape[:3], *by_channel.shape[2:]), np.int32)
        for i, j in np.ndindex(*kernel):
            products += seen[:, :, :, i, j, :, None] * by_channel[i, j]
        return finish(products.reshape(*seen.shape[:3], outputs))

    return run


def fully_connected(op: Operator, rounding: str) -> Callable:
    """Dense layer with weights [O, I]: [N, ...] of I values -> [N, ..., O]."""
    weights = op.inputs[1].values
    product, finish = product_with(weights.T), finisher(op, rounding, weights.sum(1, int))
    shape = op.outputs[0].shape[1:]

    def run(q: np.ndarray) -> np.ndarray:
        return finish(product(q.reshape(len(q), -1))).reshape(-1, *shape)

    return run


def product_with(w: np.ndarray) -> Callable:
    """A function from int8 [M, K] to its product with int8 w [K, O]: the exact integers, as floats.

    NumPy multiplies matrices of integers without BLAS, many times slower. A product in float32 is
    exact while each partial sum is an integer of at most 2^24, in whatever order they are added;
    in float64, which is taken beyond, it is up to 2^53.

    >>> product_with(np.array([[127], [-3]], np.int8))(np.array([[-128, 127]], np.int8))
    array([[-16637.]], dtype=float32)
    """
    largest = 128 * int(np.abs(w.astype(np.int64)).sum(0).max())
    kind = np.float32 if largest <= 2**24 else np.float64
    w = np.ascontiguousarray(w, kind)
    return lambda q: q.astype(kind) @ w


def finisher(op: Operator, rounding: str, sums: np.ndarray) -> Callable:
    """From the sums of w q to int8: bias, factor, zero point, limits of the fused activation.

    sums: of the weights of each output channel. Since the sum of w (q - z_x) is the sum of w q
    less z_x times the sum of w, an input's zero point goes into the bias.
    """
    x, w, *rest = op.inputs
    (y,) = op.outputs
    row = y.shape[2:]  # constants of a whole row of pixels: short ones are slow to broadcast
    bias = np.tile((rest[0].values if rest else 0) - x.zero_points[0] * sums, (*row[:-1], 1))
    low, high = limits(op, rounding)
    factor = x.scales.astype(np.float64) * w.scales / y.scales
    rescale = rescale_in_float64 if op.name == "FULLY_CONNECTED" else rescale_twice
    if rounding == "xnnpack":
        factor, rescale = x.scales * w.scales / y.scales, rescale_in_float32
        if factor.max() >= XNNPACK_LIMIT:
            raise ValueError(
                f"multiplies by {factor.max():.3g}; XNNPACK leaves factors from {XNNPACK_LIMIT} "
                "on to other kernels: use rounding 'reference'"
            )

    factor = np.tile(factor, (*row[:-1], 1))

    def finish(products: np.ndarray) -> np.ndarray:
        q = rescale(products.astype(np.int64) + bias, factor) + y.zero_points[0]
        return q.clip(low, high).astype(np.int8)

    return finish

"""The operations without weights of an int8 .tflite file, in integers.

Each function prepares an operator of a file and returns what computes it: int8 arrays in, an int8
array out (SPLIT: several). rounding: "reference" as LiteRT's plain kernels, "xnnpack" as XNNPACK.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.fixed_point import (
    away_from_zero,
    doubling_high_multiply,
    multiplier_and_shift,
    rescale_in_float32,
    rescale_twice,
    rounding_right_shift,
)
from helpers.tflite_file import Operator

BOUNDS = {  # of fused activations, as the format numbers them: none, ReLU, -1 to 1, ReLU6
    0: (-np.inf, np.inf),
    1: (0, np.inf),
    2: (-1, 1),
    3: (0, 6),
}
SAME = 0  # padding; 1 is VALID
LONGEST = 1024  # pixels that a kernel may reach over
LEFT_SHIFT = 20  # of the inputs of an addition, so that rescaling them loses nothing that counts
ACTIVATIONS = {"LOGISTIC": lambda x: 1 / (1 + np.exp(-x)), "TANH": np.tanh}


def limits(op: Operator, rounding: str) -> tuple[int, int]:
    """The smallest and largest integer that the operator returns: its fused activation.

    A ReLU costs nothing: it is the lower limit z_y, where 0.0 stands.
    """
    y = op.outputs[0]
    bounds = BOUNDS[op.options.get("fusedActivationFunction", 0)]
    steps = (np.array(bounds, np.float32) / y.scales[0]).clip(-999, 999)
    if rounding == "xnnpack":
        steps = np.rint(steps + y.zero_points[0].astype(np.float32))
    else:
        steps = away_from_zero(steps) + y.zero_points[0]
    low, high = steps.clip(-128, 127)
    return int(low), int(high)


def windows_of(op: Operator, kernel: tuple[int, int], outside: int | None = None) -> Callable:
    """A function from [N, H, W, C] to [N, H', W', kh, kw, C], what each output position sees.

    outside: what stands beyond the image's edge; the zero point, which is 0.0, if it is None.
    """
    settings, x = op.options, op.inputs[0]
    steps = settings["strideH"], settings["strideW"]
    spread = settings.get("dilationHFactor", 1), settings.get("dilationWFactor", 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    if max(reach) > LONGEST or min(steps) < 1:
        raise ValueError(f"reaches over {reach} pixels in steps of {steps}")
    added = [(0, 0), (0, 0)]
    if settings["padding"] == SAME:  # ceil(n / step) positions; an odd pixel is added at the end
        for i, (n, step) in enumerate(zip(x.shape[1:3], steps, strict=True)):
            missing = max((-(-n // step) - 1) * step + reach[i] - n, 0)
            added[i] = missing // 2, missing - missing // 2
    value = int(x.zero_points[0]) if outside is None else outside

    def run(q: np.ndarray) -> np.ndarray:
        q = np.pad(q, ((0, 0), *added, (0, 0)), constant_values=value)
        seen = np.lib.stride_tricks.sliding_window_view(q, reach, (1, 2))
        seen = seen[:, :: steps[0], :: steps[1], :, :: spread[0], :: spread[1]]
        return seen.transpose(0, 1, 2, 4, 5, 3)

    return run


def add(op: Operator, rounding: str) -> Callable:
    """Sum or difference of two tensors with scales of their own."""
    a, b = op.inputs
    (y,) = op.outputs
    low, high = limits(op, rounding)
    sign = -1 if op.name == "SUB" else 1
    total = (_xnnpack_sum if rounding == "xnnpack" else _reference_sum)(op, sign)

    def run(q_a: np.ndarray, q_b: np.ndarray) -> np.ndarray:
        r_a, r_b = (q.astype(np.int64) - t.zero_points[0] for q, t in ((q_a, a), (q_b, b)))
        return (total(r_a, r_b) + y.zero_points[0]).clip(low, high).astype(np.int8)

    return run


def _reference_sum(op: Operator, sign: int) -> Callable:
    """Both inputs to one scale, twice the larger / 2^20, then their sum to the output's."""
    s_a, s_b, s_y = (np.float64(t.scales[0]) for t in (*op.inputs, *op.outputs))
    common = 2 * max(s_a, s_b)
    last = common / (s_y * 2**LEFT_SHIFT)
    if last >= 1:
        raise ValueError(f"has an output scale of {s_y:.3g}, so small that LiteRT aborts")

    def total(r_a: np.ndarray, r_b: np.ndarray) -> np.ndarray:
        a = rescale_twice(r_a << LEFT_SHIFT, s_a / common)
        b = rescale_twice(r_b << LEFT_SHIFT, s_b / common)
        return rescale_twice(a + sign * b, last)

    return total


def _xnnpack_sum(op: Operator, sign: int) -> Callable:
    """Both inputs times a factor of at most 21 bits, their sum shifted once, halves upwards."""
    s_a, s_b, s_y = (t.scales[0] for t in (*op.inputs, *op.outputs))
    ratios = s_a / s_y, s_b / s_y
    if not all(2**-10 <= ratio < 2**8 for ratio in ratios):
        raise ValueError(
            f"has scales {s_a:.3g}, {s_b:.3g} -> {s_y:.3g}, and XNNPACK adds only where "
            "input / output lies from 2^-10 to 2^8: use rounding 'reference'"
        )
    shift = 21 - int(np.frexp(max(ratios))[1])
    m_a, m_b = (int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios)
    return lambda r_a, r_b: (r_a * m_a + r_b * (sign * m_b) + (1 << (shift - 1))) >> shift


def mul(op: Operator, rounding: str) -> Callable:
    """The product of two tensors."""
    a, b = op.inputs
    (y,) = op.outputs
    low, high = limits(op, rounding)
    rescale, factor = rescale_twice, np.float64(a.scales[0]) * b.scales[0] / y.scales[0]
    if rounding == "xnnpack":
        rescale, factor = rescale_in_float32, a.scales[0] * b.scales[0] / y.scales[0]

    def run(q_a: np.ndarray, q_b: np.ndarray) -> np.ndarray:
        product = (q_a.astype(np.int64) - a.zero_points[0]) * (q_b - b.zero_points[0])
        return (rescale(product, factor) + y.zero_points[0]).clip(low, high).astype(np.int8)

    return run


def relu(op: Operator, rounding: str) -> Callable:
    """A ReLU that no layer before it has taken in: rescaled, and not below the output's 0.0.

    XNNPACK leaves it to LiteRT's own kernel, which rounds twice.
    """
    x, (y,) = op.inputs[0], op.outputs
    factor, zero = np.float64(x.scales[0]) / y.scales[0], int(y.zero_points[0])

    def run(q: np.ndarray) -> np.ndarray:
        q = rescale_twice(q.astype(np.int64) - x.zero_points[0], factor) + zero
        return q.clip(zero, 127).astype(np.int8)

    return run


def max_pool_2d(op: Operator, rounding: str) -> Callable:
    """The largest of each window: the order of integers is that of the numbers."""
    kernel = op.options["filterHeight"], op.options["filterWidth"]
    windows, (low, high) = windows_of(op, kernel, outside=-128), limits(op, rounding)
    return lambda q: windows(q).max((3, 4)).clip(low, high)


def average_pool_2d(op: Operator, rounding: str) -> Callable:
    """The mean of each window's integers inside the image, halves away from zero."""
    kernel = op.options["filterHeight"], op.options["filterWidth"]
    windows, (low, high) = windows_of(op, kernel, outside=0), limits(op, rounding)
    inside = windows(np.ones((1, *op.inputs[0].shape[1:]), np.int8)).sum((3, 4), int)

    def run(q: np.ndarray) -> np.ndarray:
        total = windows(q).sum((3, 4), int)
        mean = np.sign(total) * ((np.abs(total) + inside // 2) // inside)
        return mean.clip(low, high).astype(np.int8)

    return run


def mean(op: Operator, rounding: str) -> Callable:
    """The mean over some axes: 1 / count goes into the factor."""
    x, axes = op.inputs
    (y,) = op.outputs
    over = tuple(int(axis) % len(x.shape) for axis in axes.values.ravel())
    count = int(np.prod([x.shape[axis] for axis in over]))
    multiplier, shift = multiplier_and_shift(np.float64(x.scales[0]) / y.scales[0])
    places = min(count.bit_length() - 1, 31 + int(shift))
    multiplier, shift = (int(multiplier) << places) // count, int(shift) - places

    def run(q: np.ndarray) -> np.ndarray:
        total = q.sum(over, np.int64) - count * x.zero_points[0]
        if rounding == "xnnpack":
            total = rescale_in_float32(total, x.scales[0] / (y.scales[0] * np.float32(count)))
        else:
            total = doubling_high_multiply(total << max(shift, 0), multiplier)
            total = rounding_right_shift(total, max(-shift, 0))
        return (total + y.zero_points[0]).clip(-128, 127).astype(np.int8).reshape(-1, *y.shape[1:])

    return run


def table(op: Operator, rounding: str) -> Callable:
    """Sigmoid or tanh: 256 inputs have 256 outputs, computed once in float32 and looked up."""
    x, (y,) = op.inputs[0], op.outputs
    q = np.arange(-128, 128, dtype=np.int64)
    real = (x.scales[0] * (q - x.zero_points[0])).astype(np.float32)
    real = ACTIVATIONS[op.name](real)
    steps = real * (np.float32(1) / y.scales[0])
    steps = np.rint(steps) if rounding == "xnnpack" else away_from_zero(steps)
    found = (steps + y.zero_points[0]).clip(-128, 127).astype(np.int8)
    return lambda q: found[q.astype(np.int16) + 128]


def softmax(op: Operator, rounding: str) -> Callable:
    """exp(beta s (q - largest)) from a table, over its sum: LiteRT's int8 kernel is in float32."""
    x, (y,) = op.inputs[0], op.outputs
    exponents = -x.scales[0] * np.float32(op.options["beta"]) * np.arange(256, dtype=np.float32)
    powers = np.exp(exponents)

    def run(q: np.ndarray) -> np.ndarray:
        below = q.max(-1, keepdims=True).astype(np.int16) - q
        found = powers[below]
        total = np.zeros((*q.shape[:-1], 1), np.float32)
        for k in range(q.shape[-1]):  # in order, since float32 sums depend on it
            total += found[..., k : k + 1]
        share = found * (np.float32(1) / (total * y.scales[0]))
        return (away_from_zero(share) + y.zero_points[0]).clip(-128, 127).astype(np.int8)

    return run


def pad(op: Operator, rounding: str) -> Callable:
    """More pixels around the image: the zero point stands for 0.0."""
    x, widths = op.inputs[:2]
    around, value = [tuple(map(int, pair)) for pair in widths.values], int(x.zero_points[0])
    made = tuple(n + sum(pair) for n, pair in zip(x.shape, around, strict=True))
    if made != op.outputs[0].shape or np.min(around) < 0:
        raise ValueError(f"adds {around} to {x.shape}, and should make {op.outputs[0].shape}")
    return lambda q: np.pad(q, around, constant_values=value)


def reshape(op: Operator, rounding: str) -> Callable:
    """The same integers in another shape."""
    return lambda q: q.reshape(-1, *op.outputs[0].shape[1:])


def split(op: Operator, rounding: str) -> Callable:
    """Equal parts along an axis."""
    axis, x = op.inputs
    return lambda q: np.split(q, len(op.outputs), int(axis.values.item()) % len(x.shape))

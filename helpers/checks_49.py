"""Checks of lesson 49, Harder conversions."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def requantize(q, s_out, z_out, s_in, z_in, *, rounding=np.rint, clip=True, wide=True):
    """The integers of 49.0, or with an option changed, one of its mistakes."""
    away = q.astype(np.float64) - z_out if wide else (q - np.int8(z_out)).astype(np.float64)
    found = rounding(s_out * away / s_in) + z_in
    return (np.clip(found, -128, 127) if clip else found.astype(np.int64)).astype(np.int8)


@exercise(
    "49.0",
    requantize,
    {
        "that is the copy: what the integer stands for has changed": (
            lambda q, s_out, z_out, s_in, z_in: q.copy()
        ),
        "clip to -128 … 127 before int8, or 128 becomes -128": partial(requantize, clip=False),
        "q - z_out left int8: make q a float first": partial(requantize, wide=False),
        "the zero point of the output is subtracted first": (
            lambda q, s_out, z_out, s_in, z_in: requantize(q, s_out, 0, s_in, z_in)
        ),
        "the zero point of the input is added last": (
            lambda q, s_out, z_out, s_in, z_in: requantize(q, s_out, z_out, s_in, 0)
        ),
        "the scales have changed places": (
            lambda q, s_out, z_out, s_in, z_in: requantize(q, s_in, z_out, s_out, z_in)
        ),
        "the zero points have changed places": (
            lambda q, s_out, z_out, s_in, z_in: requantize(q, s_out, z_in, s_in, z_out)
        ),
        "the scales are missing: equal numbers of steps stand for different numbers": (
            lambda q, s_out, z_out, s_in, z_in: requantize(q, 1, z_out, 1, z_in)
        ),
        "round to the nearest: astype(np.int8) cuts off toward zero": partial(
            requantize, rounding=np.trunc
        ),
        "round to the nearest, not down": partial(requantize, rounding=np.floor),
    },
)
def check_requantize(answer: Answer) -> None:
    """An int8 array of the shape of q."""
    q = np.arange(-128, 128).astype(np.int8)
    cases = [
        (q, 0.02, -40, 0.025, 0),
        (q.reshape(16, 16), 0.1994, -21, 0.1971, -20),
        (q[::5], 0.0078125, 0, 0.0078432, -1),
        (q, 0.03, 90, 0.025, -7),
    ]
    compare(answer, cases)


def standardize_inside(W, b, mean, deviation, *, shift=None, scaled=None):
    """The layer of 49.1, or with an option changed, one of its mistakes."""
    new = W / deviation if scaled is None else scaled(W, deviation)
    return new, b - W @ (mean / deviation) if shift is None else shift(W, b, mean, deviation)


@exercise(
    "49.1",
    standardize_inside,
    {
        "the sign: the mean is subtracted from x, so W (mean / deviation) leaves the bias": partial(
            standardize_inside, shift=lambda W, b, m, d: b + W @ (m / d)
        ),
        "the bias moves by W (mean / deviation): the deviation is missing there": partial(
            standardize_inside, shift=lambda W, b, m, d: b - W @ m
        ),
        "the deviation divides twice: use the old W for the bias, or the new W with mean alone": (
            partial(standardize_inside, shift=lambda W, b, m, d: b - (W / d) @ (m / d))
        ),
        "the mean has not gone into the bias": partial(
            standardize_inside, shift=lambda W, b, m, d: b.copy()
        ),
        "the old bias belongs to the new one": partial(
            standardize_inside, shift=lambda W, b, m, d: -W @ (m / d)
        ),
        "standardizing divides by the deviation": partial(
            standardize_inside, scaled=lambda W, d: W * d
        ),
        "the weights are divided by the deviation, too": partial(
            standardize_inside, scaled=lambda W, d: W.copy()
        ),
        "the inputs are the columns of W: divide column by column": partial(
            standardize_inside, scaled=lambda W, d: W / np.resize(d, len(W))[:, None]
        ),
        "divide by the deviation itself, not by its root": partial(
            standardize_inside, scaled=lambda W, d: W / np.sqrt(d)
        ),
    },
)
def check_standardize_inside(answer: Answer) -> None:
    """Two arrays, (W_new, b_new)."""
    rng = np.random.default_rng(0)
    cases = []
    for out, inputs in ((3, 5), (4, 4)):
        W, b = rng.normal(size=(out, inputs)), rng.normal(size=out)
        cases.append((W, b, rng.normal(size=inputs), rng.uniform(0.3, 4, inputs)))
    cases.append((np.array([[2.0]]), np.array([1.0]), np.array([3.0]), np.array([4.0])))
    compare(answer, cases, "W_new, b_new")


def mean_logits(q, scale, zero_point, *, dtype=np.int32, times=None, over=None, axis=0):
    """The mean of 49.2, or with an option changed, one of its mistakes."""
    steps = len(q) if axis == 0 else q.shape[1]
    total = q.sum(axis, dtype=dtype).astype(np.int64)
    total = total - (steps if times is None else times) * zero_point
    return total * (scale / (steps if over is None else over))


@exercise(
    "49.2",
    mean_logits,
    {
        "the sum leaves int8: add in int32 (q.sum(0, dtype=np.int32), or q.astype first)": partial(
            mean_logits, dtype=np.int8
        ),
        "the sum leaves int16 in a long window: add in int32": partial(mean_logits, dtype=np.int16),
        "the zero point is in the sum once for each step": partial(mean_logits, times=1),
        "the zero point is still in it: subtract it, T times from the sum": partial(
            mean_logits, times=0
        ),
        "that is the sum: divide by the number of steps": partial(mean_logits, over=1),
        "the mean is over the steps, axis 0, one for each class": partial(mean_logits, axis=1),
        "the scale is missing": lambda q, scale, zero_point: mean_logits(q, 1.0, zero_point),
        "the zero point is subtracted, not added": (
            lambda q, scale, zero_point: mean_logits(q, scale, -zero_point)
        ),
        "divide once, at the end: an integer division loses the rest": (
            lambda q, scale, zero_point: (
                scale * (q.sum(0, dtype=np.int32) // len(q) - zero_point).astype(float)
            )
        ),
    },
)
def check_mean_logits(answer: Answer) -> None:
    """An array of K floats."""
    rng = np.random.default_rng(0)
    cases = [(np.array([[10, 0], [30, 0]], np.int8), 0.5, 10)]
    for steps, classes, low, high, zero_point in ((100, 7, -128, 128, -9), (700, 3, 60, 128, 37)):
        q = rng.integers(low, high, (steps, classes)).astype(np.int8)
        cases.append((q, 0.113, zero_point))
    compare(answer, cases[1:] + cases[:1])


def equalize_sum(w1, w2, v, largest, a, *, factor=None, change=(1, 1, 1)):
    """The layers of 49.3, or with an option changed, one of its mistakes."""
    e = (largest.max() / largest) ** a if factor is None else factor(largest, a)
    parts = e[:, None] * w1, e[:, None] * w2, v / e
    return tuple(n if c else o.copy() for n, o, c in zip(parts, (w1, w2, v), change, strict=True))


@exercise(
    "49.3",
    equalize_sum,
    {
        "the network has changed: w2 adds to the same channels and needs the same factors": partial(
            equalize_sum, change=(1, 0, 1)
        ),
        "the network has changed: divide the columns of v": partial(equalize_sum, change=(1, 1, 0)),
        "the network has changed: both writers are multiplied": partial(
            equalize_sum, change=(0, 0, 1)
        ),
        "nothing has changed": partial(equalize_sum, change=(0, 0, 0)),
        "the network has changed: v is divided where w1 and w2 are multiplied": (
            lambda w1, w2, v, largest, a: (
                *equalize_sum(w1, w2, v, largest, a)[:2],
                v * (largest.max() / largest) ** a,
            )
        ),
        "the large channels have grown: the factor is upside down": partial(
            equalize_sum, factor=lambda r, a: (r / r.max()) ** a
        ),
        "R is the largest of all channels: the factor has it above r_c": partial(
            equalize_sum, factor=lambda r, a: (1 / r) ** a
        ),
        "the exponent a is missing": partial(equalize_sum, factor=lambda r, a: r.max() / r),
        "the exponent is a, not always one half": partial(
            equalize_sum, factor=lambda r, a: np.sqrt(r.max() / r)
        ),
    },
)
def check_equalize_sum(answer: Answer) -> None:
    """Three arrays, (w1, w2, v)."""
    rng = np.random.default_rng(0)
    cases = []
    for channels, inputs, out, a in ((5, 3, 2, 0.8), (4, 4, 4, 0.3)):
        w1, w2 = rng.normal(size=(2, channels, inputs))
        largest = 10.0 ** rng.uniform(-1, 1.5, channels)
        cases.append((w1, w2, rng.normal(size=(out, channels)), largest, a))
    ones = np.ones((2, 1)), np.array([[2.0], [3.0]]), np.ones((1, 2))
    cases.append((*ones, np.array([4.0, 0.25]), 0.5))
    compare(answer, cases, "w1, w2, v")

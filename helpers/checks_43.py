"""Checks of lesson 43, integer-only inference.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def right_shift(a, n, *, half=lambda n: (1 << n) >> 1, less=lambda a: a < 0):
    return (np.asarray(a) + half(n) - less(np.asarray(a))) >> n


@exercise(
    "43.0",
    right_shift,
    {
        "a plain shift rounds down: add half of 2^n first": dict(
            half=lambda n: 0, less=lambda a: 0
        ),
        "a negative half goes up here: for negative numbers add one less": dict(less=lambda a: 0),
        "only negative numbers get one less: positive halves go up": dict(less=lambda a: 1),
        "that adds 2^n, a whole step: add half of it": dict(half=lambda n: 1 << n),
        "halves go away from zero, not to the even neighbor": lambda a, n: np.rint(
            np.asarray(a) / 2**n
        ).astype(int),
        "it is the negative numbers that get one less": dict(less=lambda a: a > 0),
    },
)
def check_right_shift(answer: Answer) -> None:
    """An array of integers of the shape of a."""
    near = np.arange(-9, 10)
    wide = np.random.default_rng(43).integers(-(2**31), 2**31, 40)
    compare(answer, [(near, 1), (near, 2), (near * 4, 3), (wide, 9), (wide.reshape(5, 8), 31)])


def bias_for(q_w, b, z_x, *, sign=-1, axis=1, kind=np.int64):
    w = np.asarray(q_w)
    return np.asarray(b, np.int64) + sign * z_x * w.sum(axis, dtype=kind)


@exercise(
    "43.1",
    bias_for,
    {
        "the sum of q_w (q_x - z_x) holds minus z_x times the sum of q_w": dict(sign=1),
        "the zero point of the input is missing": lambda q_w, b, z_x: np.asarray(b, np.int64),
        "that is what the zero point adds: the bias b is missing": lambda q_w, b, z_x: bias_for(
            q_w, 0, z_x
        ),
        "sum in int64: the sum of int8 weights wraps in int8": dict(kind=np.int8),
        "one sum for each output: over the weights of its row": lambda q_w, b, z_x: (
            np.asarray(b, np.int64) - z_x * int(np.asarray(q_w, int).sum())
        ),
        "each product has z_x once, whatever the weights: multiply it with them": (
            lambda q_w, b, z_x: np.asarray(b, np.int64) - z_x * np.shape(q_w)[1]
        ),
    },
)
def check_bias_for(answer: Answer) -> None:
    """An array of integers, one for each output."""
    rng = np.random.default_rng(43)
    hand = np.array([[1, -2, 3]], np.int8), np.array([10], np.int32), -128
    w = rng.integers(-20, 128, (4, 9)).astype(np.int8)
    b = rng.integers(-5000, 5000, 4).astype(np.int32)
    compare(answer, [hand, (w, b, -128), (w, b, 7), (w, b, 0)])


def factor_as_integer(factor, *, carry=True, sign=-1, rule=lambda v: math.floor(v + 0.5), bits=31):
    fraction, exponent = math.frexp(factor)
    m = rule(fraction * 2**bits)
    if carry and m == 2**bits:
        m, exponent = m // 2, exponent + 1
    return m, sign * exponent


@exercise(
    "43.2",
    factor_as_integer,
    {
        "a fraction may round up to 2^31, which is one bit too many: halve it, shift one less": (
            dict(carry=False)
        ),
        "n counts places to the right: it is minus the exponent": dict(sign=1),
        "round m, do not cut it off": dict(rule=math.floor),
        "keep 31 bits: m is the fraction times 2^31": dict(bits=30),
        "m must use all of its bits: shift until it lies between 2^30 and 2^31": lambda factor: (
            round(factor * 2**31),
            0,
        ),
    },
)
def check_factor_as_integer(answer: Answer) -> None:
    """Two integers, m and n."""
    rng = np.random.default_rng(43)
    drawn = (2.0 ** rng.uniform(-20, 14, 20)).tolist()
    cases = [0.75, 3.0, 0.25, 1.0, 0.003, math.nextafter(1, 0), math.nextafter(0.5, 0), *drawn]
    compare(answer, [(factor,) for factor in cases], "m, n")


def _windows(q):
    n, h, w, c = np.shape(q)
    return np.asarray(q, int).reshape(n, h // 2, 2, w // 2, 2, c)


def average_pool(q, *, mean=None):
    total = _windows(q).sum((2, 4))
    found = np.sign(total) * ((np.abs(total) + 2) // 4) if mean is None else mean(total)
    return found.astype(np.int8)


@exercise(
    "43.3",
    average_pool,
    {
        "halves go away from zero: // rounds down": dict(mean=lambda total: total // 4),
        "a negative half must go down: -1.5 becomes -2": dict(mean=lambda total: (total + 2) // 4),
        "round: the integers of a window are cut off": dict(
            mean=lambda total: np.sign(total) * (np.abs(total) // 4)
        ),
        "halves go away from zero, not to the even neighbor": dict(
            mean=lambda total: np.rint(total / 4)
        ),
        "sum in wider integers: four int8 leave int8": lambda q: average_pool(
            q, mean=lambda total: np.rint(total.astype(np.int8) / 4)
        ),
        "that is the largest of a window: pool their mean": lambda q: (
            _windows(q).max((2, 4)).astype(np.int8)
        ),
        "divide by the four values of a window": dict(mean=lambda total: total),
    },
)
def check_average_pool(answer: Answer) -> None:
    """An int8 array of half the height and width."""
    rng = np.random.default_rng(43)
    hand = np.array([[1, 2, -1, -2], [2, 1, -2, -1]], np.int8).reshape(1, 2, 4, 1)
    wide = rng.integers(-128, 128, (2, 6, 4, 3)).astype(np.int8)
    compare(answer, [(hand,), (rng.integers(-4, 5, (1, 4, 8, 2)).astype(np.int8),), (wide,)])


def saturated(total, bits, *, low=lambda b: -(2 ** (b - 1)), high=lambda b: 2 ** (b - 1) - 1):
    return np.clip(np.asarray(total), low(bits), high(bits))


@exercise(
    "43.4",
    saturated,
    {
        "that wraps: hold what leaves the range at its end": lambda total, bits: (
            (np.asarray(total) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
        ),
        "one bit is the sign: the largest number is 2^(b - 1) - 1": dict(
            low=lambda b: -(2**b), high=lambda b: 2**b - 1
        ),
        "2^(b - 1) itself does not fit: the largest is one less": dict(high=lambda b: 2 ** (b - 1)),
        "the smallest number of b bits is -2^(b - 1)": dict(low=lambda b: -(2 ** (b - 1)) + 1),
        "sums may be negative: the lower end is not 0": dict(low=lambda b: 0),
    },
)
def check_saturated(answer: Answer) -> None:
    """An array of integers of the shape of total."""
    rng = np.random.default_rng(43)
    hand = np.array([300, -300, 5, 127, 128, -128, -129])
    compare(answer, [(hand, 8), (rng.integers(-(2**20), 2**20, (3, 5)), 16), (hand, 12)])

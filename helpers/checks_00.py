"""Checks of lesson 00, Start here."""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def to_real(q, scale, zero_point):
    return scale * (q.astype(int) - zero_point)


@exercise(
    "00.0",
    to_real,
    {
        "the difference left the int8 and wrapped around: widen first, with q.astype(int)": (
            lambda q, scale, zero_point: scale * (q - np.int8(zero_point))
        ),
        "take the zero point away before you multiply: s (q - z), not s q - z": (
            lambda q, scale, zero_point: scale * q.astype(int) - zero_point
        ),
        "the sign is wrong: the zero point is subtracted": (
            lambda q, scale, zero_point: scale * (q.astype(int) + zero_point)
        ),
        "the sign is wrong: q - z, not z - q": (
            lambda q, scale, zero_point: scale * (zero_point - q.astype(int))
        ),
        "multiply by the scale: dividing is the way to the integers": (
            lambda q, scale, zero_point: (q.astype(int) - zero_point) / scale
        ),
        "that is the way to the integers, q = x / s + z: here it goes back": (
            lambda q, scale, zero_point: q / scale + zero_point
        ),
        "the zero point is missing": lambda q, scale, zero_point: scale * q,
        "the scale is missing": lambda q, scale, zero_point: q.astype(int) - zero_point,
        "the result is real: do not round it": (
            lambda q, scale, zero_point: np.rint(to_real(q, scale, zero_point))
        ),
        "the result is real: do not cut it off to integers": (
            lambda q, scale, zero_point: to_real(q, scale, zero_point).astype(int)
        ),
    },
)
def check_to_real(answer: Answer) -> None:
    """A float array of the shape of q."""
    some = np.array([-3, -2, 3, 0], np.int8)
    every = np.arange(-128, 128).astype(np.int8)
    cases = [(some, 0.5, -3), (every, 1 / 255, -128), (every.reshape(2, 8, 16), 0.0625, 100)]
    compare(answer, cases)


def to_int8(pixels):
    return (pixels.astype(int) - 128).astype(np.int8)


@exercise(
    "00.1",
    to_int8,
    {
        "that is the real value x; the file wants q = x / s + z": lambda pixels: pixels / 255,
        "pixel 0 became 128: uint8 has no negative numbers, so 0 - 128 wrapped around. Widen the "
        "dtype before you subtract": lambda pixels: pixels - np.uint8(128),
        "pixel 200 became -56: a cast to int8 wraps beyond 127. Subtract first": (
            lambda pixels: pixels.astype(np.int8)
        ),
        "bright pixels were clipped to 127: shift by the zero point instead": (
            lambda pixels: pixels.clip(0, 127)
        ),
        "the zero point is -128, not -127": (
            lambda pixels: (pixels.astype(int) - 127).clip(-128, 127)
        ),
        "the sign is wrong: add the zero point, which is -128": (
            lambda pixels: 128 - pixels.astype(int)
        ),
    },
)
def check_to_int8(answer: Answer) -> None:
    """An int8 array of the shape of the pixels."""
    some = np.array([[0, 1, 127], [128, 200, 255]], np.uint8)
    every = np.arange(256, dtype=np.uint8)
    cases = [(some,), (every,), (every.reshape(4, 8, 8),)]
    compare(answer, cases, advice="q = x / s + z with x = pixel / 255")


def tosses(n01, n10, *, sides=2, further=1, most=1.0):
    """The p-value of 00.2, or with an option changed, one of its mistakes."""
    n = n01 + n10
    one_side = sum(math.comb(n, k) for k in range(min(n01, n10) + further))
    return min(most, sides * one_side / 2**n)


def p_value(n01, n10):
    return tosses(n01, n10)


def normal_tail(n01, n10, less):
    """The two-sided tail of the normal distribution that approximates the tosses."""
    distance = max(abs(n01 - n10) - less, 0) / max(n01 + n10, 1) ** 0.5
    return math.erfc(distance / 2**0.5)


@exercise(
    "00.2",
    p_value,
    {
        "that counts one side only: 1 to 4 is as uneven as 4 to 1": (
            lambda n01, n10: tosses(n01, n10, sides=1)
        ),
        "that is above 1 for an even split, where the middle is counted twice: take the smaller "
        "of it and 1": lambda n01, n10: tosses(n01, n10, most=math.inf),
        "the split itself counts, too: at least as uneven, not more uneven": (
            lambda n01, n10: tosses(n01, n10, further=0)
        ),
        "that is the probability of exactly this split: add those that are more uneven": (
            lambda n01, n10: math.comb(n01 + n10, n01) / 2 ** (n01 + n10)
        ),
        "that is the probability of this split and of its mirror image: add those that are more "
        "uneven": lambda n01, n10: min(1.0, 2 * math.comb(n01 + n10, n01) / 2 ** (n01 + n10)),
        "which of the two is larger must not matter: count up to the smaller one": (
            lambda n01, n10: min(
                1.0,
                2 * sum(math.comb(n01 + n10, k) for k in range(n01 + 1)) / 2 ** (n01 + n10),
            )
        ),
        "which of the two is larger must not matter: count up to the smaller of them": (
            lambda n01, n10: min(
                1.0,
                2 * sum(math.comb(n01 + n10, k) for k in range(n10 + 1)) / 2 ** (n01 + n10),
            )
        ),
        "that is the number of outcomes: divide by all 2^n of them": (
            lambda n01, n10: 2 * sum(math.comb(n01 + n10, k) for k in range(min(n01, n10) + 1))
        ),
        "that is the chi-squared approximation: count the outcomes exactly": (
            lambda n01, n10: normal_tail(n01, n10, 0)
        ),
        "that is the chi-squared approximation, with its correction: count exactly": (
            lambda n01, n10: normal_tail(n01, n10, 1)
        ),
        "that is the probability of no difference this large: take it from 1": (
            lambda n01, n10: 1 - tosses(n01, n10)
        ),
    },
)
def check_p_value(answer: Answer) -> None:
    """One float in 0..1."""
    compare(answer, [(4, 1), (1, 4), (16, 13), (0, 6), (6, 6), (8, 21), (0, 0)])

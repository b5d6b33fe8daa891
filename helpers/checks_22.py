"""Checks of lesson 22, Number formats."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def lloyd_round(x, book, *, empty=True, center=np.mean, distance=np.abs, rounds=1):
    """The moved codebook of 22.0, or with an option changed, one of its mistakes."""
    for _ in range(rounds):
        index = distance(x[:, None] - book).argmin(1)
        moved = np.full(len(book), np.nan) if empty is None else book * empty
        for level in range(len(book)):
            if (index == level).any():
                moved[level] = center(x[index == level])
        book = moved
    return book


def _index(x, book):
    return np.abs(x[:, None] - book).argmin(1)


@exercise(
    "22.0",
    lloyd_round,
    {
        "nothing has moved: put each level at the mean of its weights": lambda x, book: book.copy(),
        "those are the indices: move each level to the mean of the weights with its index": _index,
        "those are the weights on their levels: return the moved levels": (
            lambda x, book: book[_index(x, book)]
        ),
        "a level that is nobody's nearest stays where it is: the mean of nothing is NaN": partial(
            lloyd_round, empty=None
        ),
        "a level that is nobody's nearest stays where it is, it does not become 0": partial(
            lloyd_round, empty=0.0
        ),
        "the mean makes the squared error smallest, the median the absolute one": partial(
            lloyd_round, center=np.median
        ),
        "the mean of a level's weights, not the middle of their range": partial(
            lloyd_round, center=lambda v: (v.min() + v.max()) / 2
        ),
        "that is their sum: divide by how many there are": partial(lloyd_round, center=np.sum),
        "the nearest has the smallest distance, whatever its sign: take np.abs first": partial(
            lloyd_round, distance=lambda d: d
        ),
        "one round is asked for": partial(lloyd_round, rounds=100),
    },
)
def check_lloyd_round(answer: Answer) -> None:
    """An array of the length of book."""
    rng = np.random.default_rng(0)
    bell, heavy = rng.normal(size=300), rng.standard_t(3, size=200)
    cases = [
        (np.array([1.0, 2.0, 3.0, 6.0, 10.0, 14.0]), np.array([1.0, 14.0])),
        (bell, np.array([-2.0, -0.5, 0.1, 1.5])),
        (heavy, np.linspace(heavy.min(), heavy.max(), 16)),  # some levels are nobody's nearest
    ]
    compare(answer, cases)


def unpack_int4(packed, count, *, low_first=True, sign=lambda n: np.where(n > 7, n - 16, n)):
    """The integers of 22.1, or with an option changed, one of its mistakes."""
    packed = np.asarray(packed).astype(int)
    nibbles = [packed & 15, packed >> 4]
    nibbles = np.stack(nibbles if low_first else nibbles[::-1], axis=1).ravel()
    return sign(nibbles)[:count]


@exercise(
    "22.1",
    unpack_int4,
    {
        "15 is -1: a nibble above 7 stands for itself minus 16": partial(
            unpack_int4, sign=lambda n: n
        ),
        "the first integer is in the low nibble, not in the high one": partial(
            unpack_int4, low_first=False
        ),
        "uint8 has no negative numbers, so n - 16 wrapped around: widen the dtype first": partial(
            unpack_int4, sign=lambda n: np.where(n > 7, n + 240, n)
        ),
        "the integers of a pair are neighbors: first all low nibbles, then all high ones, is "
        "another order": (
            lambda packed, count: np.concatenate(
                [unpack_int4(packed, 2 * len(packed))[k::2] for k in (0, 1)]
            )[:count]
        ),
        "8 is -8: only the nibbles 0 to 7 stand for themselves": partial(
            unpack_int4, sign=lambda n: np.where(n > 8, n - 16, n)
        ),
        "a nibble above 7 stands for itself minus 16, not minus 8": partial(
            unpack_int4, sign=lambda n: np.where(n > 7, n - 8, n)
        ),
        "7 is 7: only the nibbles 8 to 15 are negative": partial(
            unpack_int4, sign=lambda n: np.where(n >= 7, n - 16, n)
        ),
        "nibbles are in two's complement, not shifted by 8": partial(
            unpack_int4, sign=lambda n: n - 8
        ),
        "in two's complement 15 is -1, not -7: there is no separate sign bit": partial(
            unpack_int4, sign=lambda n: np.where(n > 7, 8 - n, n)
        ),
        "an odd count leaves the last high nibble unused: return `count` integers": (
            lambda packed, count: unpack_int4(packed, 2 * len(packed))
        ),
    },
)
def check_unpack_int4(answer: Answer) -> None:
    """Integers, an array of length count."""
    rng = np.random.default_rng(0)
    cases = [(np.array([127, 8], np.uint8), 3), (np.array([0x81, 0xF7, 0x70], np.uint8), 6)]
    cases += [(np.arange(256, dtype=np.uint8), 512), (np.array([0x0C], np.uint8), 1)]
    cases += [(rng.integers(0, 256, 20, dtype=np.uint8) & 0x0F | 0x90, 39)]
    compare(answer, cases, "q")


def decode_e4m3(byte, *, bias=7, one=1.0, subnormal=True, least=-6, digits=8, exponent_bits=4):
    """The value of 22.2, or with an option changed, one of its mistakes."""
    mantissa_bits = 7 - exponent_bits
    e, m = byte >> mantissa_bits & (2**exponent_bits - 1), byte & (2**mantissa_bits - 1)
    size = 2.0 ** (e - bias) * (one + m / digits)
    if e == 0 and subnormal:
        size = 2.0**least * m / digits
    return float(np.copysign(size, -1.0 if byte >> 7 else 1.0))


@exercise(
    "22.2",
    decode_e4m3,
    {
        "keep the sign: the top bit says minus": lambda byte: abs(decode_e4m3(byte)),
        "the top bit is 1 for minus, 0 for plus": lambda byte: -decode_e4m3(byte),
        "the exponent is e - 7: e itself is never negative": partial(decode_e4m3, bias=0),
        "four exponent bits have the bias 7, not 8": partial(decode_e4m3, bias=8),
        "the 1 before the point is missing: it is not stored": partial(decode_e4m3, one=0.0),
        "e = 0 is subnormal: there the 1 before the point is missing": partial(
            decode_e4m3, subnormal=False
        ),
        "subnormal numbers have the exponent -6, that of e = 1: else a gap opens": partial(
            decode_e4m3, least=-7
        ),
        "m counts eighths: 3 bits hold 0 to 7": partial(decode_e4m3, digits=7),
        "that is e5m2: here 4 bits are the exponent and 3 the mantissa": partial(
            decode_e4m3, exponent_bits=5, bias=15, digits=4, least=-14
        ),
        "that is the byte as an integer": lambda byte: float(byte - 256 if byte > 127 else byte),
    },
)
def check_decode_e4m3(answer: Answer) -> None:
    """One float."""
    bytes_ = [42, 170, 56, 1, 7, 8, 126, 254, 0, *range(127), *range(129, 255)]
    compare(answer, [(byte,) for byte in bytes_])


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def round_to_e2m1(x, *, largest=6.0, smallest=0, rule=np.rint):
    """The rounding of 22.3, or with an option changed, one of its mistakes."""
    size = np.minimum(np.abs(x), largest)
    step = np.exp2(np.maximum(np.frexp(size)[1] - 1, smallest) - 1)
    return np.copysign(rule(size / step) * step, x)


@exercise(
    "22.3",
    round_to_e2m1,
    {
        "nothing is larger than 6, so what lies beyond becomes 6": partial(
            round_to_e2m1, largest=np.inf
        ),
        "nothing is smaller than -6 either: clip the size, and then give it the sign": (
            lambda x: np.minimum(round_to_e2m1(x, largest=np.inf), 6.0)
        ),
        "0.5 is one of the numbers: below 1 the step stays 0.5 (subnormal)": partial(
            round_to_e2m1, smallest=1
        ),
        "below 1 the step stays 0.5: there are no finer numbers": partial(
            round_to_e2m1, smallest=-9
        ),
        "what lies in the middle goes to the even mantissa, not up": partial(
            round_to_e2m1, rule=lambda v: np.floor(v + 0.5)
        ),
        "what lies in the middle goes to the even mantissa, not down": partial(
            round_to_e2m1, rule=lambda v: np.ceil(v - 0.5)
        ),
        "round to the nearest, do not cut off": partial(round_to_e2m1, rule=np.floor),
        "round to the nearest, not up": partial(round_to_e2m1, rule=np.ceil),
        "keep the sign": lambda x: np.abs(round_to_e2m1(x)),
        "the numbers do not lie evenly: 1.5 is one of them, and 2.5 and 5 are not": (
            lambda x: np.rint(np.clip(x, -6, 6) * 7 / 6) * 6 / 7
        ),
    },
)
def check_round_to_e2m1(answer: Answer) -> None:
    """A float array of the shape of x."""
    plain = np.array([0.2, 0.3, 0.7, 1.1, 1.3, 1.6, 1.9, 2.2, 2.6, 3.4, 3.6, 4.9, 5.1])
    ties = (E2M1[1:] + E2M1[:-1]) / 2
    cases = [(E2M1[1:],), (plain,), (np.array([6.5, 7.0, 99.0, -99.0, -6.9]),)]
    cases += [(-plain,), (ties,), (-ties,), (np.array([[0.0, -6.0], [2.9, -0.1]]),)]
    compare(answer, cases, advice="the sizes are 0, 0.5, 1, 1.5, 2, 3, 4 and 6")

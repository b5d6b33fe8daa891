"""Checks of lesson 47, microcontroller.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers import toolchain
from helpers.exercises import Answer, NotYet, exercise
from helpers.mistakes import compare


def in_32_bits(x):
    """What is left of integers in a signed register of 32 bits."""
    return (np.asarray(x) + 2**31) % 2**32 - 2**31


def rescale_twice(a, m, n, *, wide=lambda product: product, add=2**30, less=None, shift=None):
    a = np.asarray(a)
    b = (wide(a * m) + add) >> 31
    if shift:
        return shift(b, n)
    half = (1 << n) >> 1
    negative = b < 0 if less is None else less(b)
    return (b + half - (negative & (n > 0))) >> n


def once(a, m, n):
    product = np.asarray(a) * m
    return (product + (1 << (30 + n)) - (product < 0)) >> (31 + n)


@exercise(
    "47.0",
    rescale_twice,
    {
        "the product of two int32 has 32 bits in C: make it 64 wide, (int64_t)a * m": dict(
            wide=in_32_bits
        ),
        "add 2^30 before the shift by 31, or the first rounding cuts off": dict(add=0),
        "a plain shift rounds down: add half of 2^n first": dict(shift=lambda b, n: b >> n),
        "a negative half goes up here: for negative numbers add one less": dict(
            less=lambda b: b != b
        ),
        "only negative numbers get one less: positive halves go up": dict(less=lambda b: b == b),
        "that rounds once, as dense layers do: round after the multiply, and again": once,
        "shift by n as well: that is a m / 2^31": dict(shift=lambda b, n: b),
        "/ rounds towards zero: add half of 2^n, and shift": dict(
            shift=lambda b, n: np.sign(b) * (np.abs(b) >> n)
        ),
    },
)
def check_rescale_twice(answer: Answer) -> None:
    """An array of integers of the shape of a."""
    if hasattr(answer.function, "c") and toolchain.missing():
        raise NotYet(toolchain.missing())
    near = np.arange(-40, 41)
    wide = np.random.default_rng(47).integers(-(2**24), 2**24, 50)
    cases = [(near, 2**30, 1), (near, 1288490189, 1), (near * 5, 2**30, 3), (near, 2**31 - 1, 0)]
    compare(answer, [*cases, (wide, 1649267442, 8), (wide, 1177366401, 5)])


def lowest_gap(size, taken, *, order=lambda t: t[t[:, 0].argsort()], fits=None, past=max):
    free = 0
    for start, length in order(np.asarray(taken).reshape(-1, 2)).tolist():
        if fits(free, size, start) if fits else free + size <= start:
            break
        free = past(free, start + length)
    return free


def best_fit(size, taken):
    """The start of the smallest gap that is wide enough."""
    gaps, free = [], 0
    for start, length in sorted(np.asarray(taken).reshape(-1, 2).tolist()):
        if free + size <= start:
            gaps.append((start - free, free))
        free = max(free, start + length)
    return min(gaps, default=(0, free))[1]


@exercise(
    "47.1",
    lowest_gap,
    {
        "the rows come in no order: sort them by their start": dict(order=lambda t: t),
        "a gap of exactly `size` bytes is wide enough": dict(
            fits=lambda free, size, start: free + size < start
        ),
        "rows may overlap: what is free begins at the largest end so far": dict(
            past=lambda free, end: end
        ),
        "there may be a gap before the end: look between the rows, too": lambda size, taken: max(
            [0, *(start + length for start, length in np.asarray(taken).reshape(-1, 2).tolist())]
        ),
        "any gap will not do: it must have room for `size` bytes": dict(
            fits=lambda free, size, start: free < start
        ),
        "take the lowest gap that is wide enough, not the tightest": best_fit,
    },
)
def check_lowest_gap(answer: Answer) -> None:
    """One integer, the offset."""
    rng = np.random.default_rng(47)
    by_hand = [
        (3, [[5, 4], [0, 2]]),
        (4, [[5, 4], [0, 2]]),
        (1, [[0, 8], [2, 3], [9, 1]]),
        (2, [[1, 5], [20, 1], [8, 9]]),
        (3, [[0, 2], [9, 4], [15, 3], [7, 1]]),
        (2, [[0, 1], [6, 2], [11, 1]]),
    ]
    drawn = [(int(rng.integers(1, 9)), rng.integers(1, 30, (6, 2))) for _ in range(12)]
    cases = [(size, np.array(taken)) for size, taken in [*by_hand, *drawn]]
    compare(answer, [*cases, (5, np.zeros((0, 2), int))])


def _half(x):
    return (x + 2**15) % 2**16 - 2**15


def smlad(x, y, total, *, half=_half, low=1, high=1, cross=False, wrap=in_32_bits, start=1):
    first, second = half(y % 2**16), half(y >> 16)
    if cross:
        first, second = second, first
    products = low * half(x % 2**16) * first + high * half(x >> 16) * second
    return int(wrap(start * total + products))


@exercise(
    "47.2",
    smlad,
    {
        "halves are signed: one of 2^15 or more stands for itself minus 2^16": dict(
            half=lambda x: x
        ),
        "the high halves are multiplied, too": dict(high=0),
        "the low halves are multiplied, too": dict(low=0),
        "low with low and high with high": dict(cross=True),
        "the sum wraps in 32 bits, signed": dict(wrap=lambda x: x),
        "the sum wraps, it does not stay at the limit": dict(
            wrap=lambda x: np.clip(x, -(2**31), 2**31 - 1)
        ),
        "the result is signed: 2^31 and more are negative": dict(wrap=lambda x: x % 2**32),
        "both products are added to total": dict(start=0),
    },
)
def check_smlad(answer: Answer) -> None:
    """One integer, signed, of 32 bits."""
    rng = np.random.default_rng(47)
    words = rng.integers(0, 2**32, (12, 2)).tolist()
    totals = rng.integers(-(2**31), 2**31, 12).tolist()
    hand = [(0x0002_FFFF, 0x0003_0005, 10), (0x7FFF_0001, 0x0001_0003, 0), (0, 0, -5)]
    ends = [(0x8000_8000, 0x8000_8000, 0), (0x7FFF_7FFF, 0x7FFF_7FFF, 2**31 - 1)]
    compare(answer, [*hand, *ends, *((x, y, t) for (x, y), t in zip(words, totals, strict=True))])


def peak_in_place(rows, pairs, *, allowed=lambda i, o: i[2] == o[1], later=1, drop=False):
    rows = np.array(rows).tolist()
    dies = [list(row) for row in rows]
    for i, o in pairs:
        if allowed(dies[i], dies[o]):
            rows[o][1] += later
            if drop:
                rows[i][0] = 0
    steps = range(max(last for _, _, last in rows) + 1)
    return max(sum(size for size, first, last in rows if first <= k <= last) for k in steps)


@exercise(
    "47.3",
    peak_in_place,
    {
        "an input that is read again later must keep its bytes": dict(allowed=lambda i, o: True),
        "the output of a pair uses the input's bytes: count them once": dict(
            allowed=lambda i, o: False
        ),
        "until the addition the input's bytes are in use: count them there": dict(drop=True),
        "the output counts again from the next operator on": dict(later=99),
        "at one operator, not all tensors together": lambda rows, pairs: int(
            np.asarray(rows)[:, 0].sum()
        ),
        "the most bytes, not the largest tensor": lambda rows, pairs: int(
            np.asarray(rows)[:, 0].max()
        ),
    },
)
def check_peak_in_place(answer: Answer) -> None:
    """One integer, bytes."""
    hand = np.array([[4, 0, 1], [4, 1, 2]])
    shortcut = np.array([[5, 0, 2], [5, 0, 1], [5, 1, 2], [5, 2, 3], [7, 3, 3]])
    read_again = np.array([[6, 0, 3], [6, 0, 1], [6, 1, 3], [2, 3, 3]])
    wide = np.array([[9, 0, 1], [9, 1, 2], [3, 2, 3], [9, 3, 4], [9, 4, 5]])
    long = np.array([[4, 0, 0], [4, 0, 1], [4, 1, 4], [3, 2, 4], [1, 4, 4]])
    compare(
        answer,
        [
            (hand, [(0, 1)]),
            (np.array([[4, 0, 1], [4, 1, 2], [6, 2, 2]]), [(0, 1)]),
            (hand, []),
            (shortcut, [(2, 3)]),
            (shortcut, [(0, 3)]),
            (read_again, [(0, 2)]),
            (wide, [(0, 1), (3, 4)]),
            (long, [(1, 2)]),
        ],
    )

"""Checks of lesson 42, ONNX and ExecuTorch.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def quantize_linear(
    x, scale, zero_point, *, rule=np.rint, low=0, high=255, kind=np.uint8, late=False, divide=True
):
    v = x / np.float32(scale) if divide else x * np.float32(scale)
    q = rule(v + zero_point) if late else rule(v) + zero_point
    return np.clip(q, low, high).astype(kind)


@exercise(
    "42.0",
    quantize_linear,
    {
        "round first, then add the zero point: a tie goes to the even neighbor of x / s": dict(
            late=True
        ),
        "divide by the scale: multiplying is the way back": dict(divide=False),
        "uint8 holds 0 to 255: clip there before you make integers of it": (
            lambda x, scale, z: (np.rint(x / np.float32(scale)) + z).astype(int) % 256
        ),
        "an integer leaves 0 to 255: clip it": dict(low=-np.inf, high=np.inf, kind=int),
        "that is the range of int8: uint8 goes from 0 to 255": dict(low=-128, high=127, kind=int),
        "the zero point is missing": lambda x, scale, z: quantize_linear(x, scale, 0),
        "the zero point is added, not subtracted": (
            lambda x, scale, z: quantize_linear(x, scale, -z)
        ),
        "clip after the zero point is added: the integer in the file must fit": (
            lambda x, scale, z: np.clip(np.rint(x / np.float32(scale)), 0, 255) + z
        ),
        "a tie goes to the even integer, not up: np.rint does it": dict(
            rule=lambda v: np.floor(v + 0.5)
        ),
        "round to the nearest, do not cut off": dict(rule=np.trunc),
        "round to the nearest, not down": dict(rule=np.floor),
        "that is the real number that q stands for: return q itself": (
            lambda x, scale, z: scale * (quantize_linear(x, scale, z).astype(float) - z)
        ),
    },
)
def check_quantize_linear(answer: Answer) -> None:
    """An array of uint8 of the shape of x."""
    rng = np.random.default_rng(42)
    hand = np.array([0.75, 0.25, -2.0], np.float32)
    ties = np.arange(-9, 9, dtype=np.float32) * 0.125
    wide = rng.normal(0, 40, 60).astype(np.float32)
    cases = [(hand, 0.5, 3), (ties, 0.25, 5), (wide, 0.25, 131), (wide.reshape(6, 10), 0.5, 0)]
    compare(answer, cases)


def saturating_dot(a, w, *, first=np.asarray, pairs=lambda v: v.reshape(-1, 2), low=-(2**15)):
    products = first(np.asarray(a, int) * np.asarray(w, int))
    return int(np.clip(pairs(products).sum(-1), low, 2**15 - 1).sum())


def _saturated(v):
    return np.clip(v, -(2**15), 2**15 - 1)


def _wrapped(a, w):
    sums = (np.asarray(a, int) * np.asarray(w, int)).reshape(-1, 2).sum(-1)
    return int(((sums + 2**15) % 2**16 - 2**15).sum())


def _one_by_one(a, w):
    total = 0
    for pair in (np.asarray(a, int) * np.asarray(w, int)).reshape(-1, 2).sum(-1):
        total = int(_saturated(total + _saturated(pair)))
    return total


@exercise(
    "42.1",
    saturating_dot,
    {
        "that is the exact sum: each pair's sum stops at 32,767 or -32,768": (
            lambda a, w: int(np.dot(np.asarray(a, int), np.asarray(w, int)))
        ),
        "each pair saturates by itself, not the whole sum": (
            lambda a, w: int(_saturated(np.dot(np.asarray(a, int), np.asarray(w, int))))
        ),
        "to saturate is to stop at the limit, not to start again at the other end": _wrapped,
        "the sums of pairs are added exactly, in more than 16 bits": _one_by_one,
        "neighbors make a pair: elements 0 and 1, not 0 and K/2": dict(
            pairs=lambda v: v.reshape(2, -1).T
        ),
        "the least int16 is -32,768": dict(low=1 - 2**15),
        "sums below zero saturate too, at -32,768": dict(low=-np.inf),
        "return the dot product: one integer, the sum over the pairs": (
            lambda a, w: _saturated((np.asarray(a, int) * w).reshape(-1, 2).sum(-1))
        ),
    },
)
def check_saturating_dot(answer: Answer) -> None:
    """One integer."""
    rng = np.random.default_rng(421)
    cases = [(np.array([200, 200, 10, 10]), np.array([100, 100, -3, 5]))]
    for k in (2, 8, 40):
        cases.append((rng.integers(150, 256, k), rng.integers(-127, 128, k)))
    cases.append((np.full(8, 255), np.array([127, 127, -128, -128, 90, 90, 80, -80])))
    cases.append((np.full(6, 255), np.full(6, -127)))
    compare(answer, cases)


def safe_weight(top, *, limit=2**15 - 1, products=2, most=127, whole=int):
    return min(most, whole(limit / (products * top)))


@exercise(
    "42.2",
    safe_weight,
    {
        "two products are added: each may take half of 32,767": dict(products=1),
        "a weight is an int8: it is at most 127": dict(most=np.inf),
        "round down: the next larger weight may overflow": partial(safe_weight, whole=round),
        "round down, not up": partial(safe_weight, whole=lambda v: int(np.ceil(v))),
        "the weight is a whole number": partial(safe_weight, whole=float),
        "four products are what VNNI adds, in 32 bits: here it is two": dict(products=4),
    },
)
def check_safe_weight(answer: Answer) -> None:
    """An int from 1 to 127."""
    compare(answer, [(255,), (200,), (130,), (129,), (128,), (150,), (1,)])


def pieces(known, *, starts=lambda before, now: now and not before):
    path = [False, *known]
    calls = sum(starts(a, b) for a, b in pairwise(path))
    return calls, sum(a != b for a, b in pairwise(known))


@exercise(
    "42.3",
    pieces,
    {
        "a run of known operations is one call: count where a run begins": dict(
            starts=lambda before, now: now
        ),
        "count the runs of operations that the delegate knows, not of the others": (
            lambda known: (pieces([not k for k in known])[0], pieces(known)[1])
        ),
        "a run at the very beginning counts, too": (
            lambda known: (
                sum(b and not a for a, b in pairwise(known)),
                pieces(known)[1],
            )
        ),
        "a crossing goes either way: out of the delegate and into it": (
            lambda known: (
                pieces(known)[0],
                sum(a and not b for a, b in pairwise(known)),
            )
        ),
        "only borders between two operations count, not the chain's own ends": (
            lambda known: (
                pieces(known)[0],
                sum(a != b for a, b in zip([False, *known], [*known, False], strict=True)),
            )
        ),
        "return the calls first, then the crossings": lambda known: pieces(known)[::-1],
    },
)
def check_pieces(answer: Answer) -> None:
    """Two ints, calls and crossings."""
    chains = ("1101", "011", "1", "0", "111", "10101", "0110010", "1000011", "00")
    compare(answer, [([c == "1" for c in chain],) for chain in chains], "calls, crossings")

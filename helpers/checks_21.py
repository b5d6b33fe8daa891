"""Checks of lesson 21, Quantization formulas."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def to_steps(x, scale, bits, *, rule=np.rint, reach=None):
    """The integers of 21.0, or with an option changed, one of its mistakes."""
    top = 2 ** (bits - 1)
    low, high = (-top, top - 1) if reach is None else reach(top)
    return np.clip(rule(np.asarray(x, float) / scale), low, high).astype(int)


@exercise(
    "21.0",
    to_steps,
    {
        "an integer leaves the range: clip to -2^(bits-1) .. 2^(bits-1) - 1": partial(
            to_steps, reach=lambda top: (-np.inf, np.inf)
        ),
        "divide by the step: multiplying is the way back": (
            lambda x, scale, bits: to_steps(x, 1 / scale, bits)
        ),
        "that is the real number: return q itself, without the step": (
            lambda x, scale, bits: scale * to_steps(x, scale, bits)
        ),
        "round to the nearest, do not cut off": partial(to_steps, rule=np.trunc),
        "round to the nearest, not down": partial(to_steps, rule=np.floor),
        "round to the nearest, not up": partial(to_steps, rule=np.ceil),
        "a tie goes to the even neighbor, not up: torch.round does it": partial(
            to_steps, rule=lambda v: np.floor(v + 0.5)
        ),
        "a tie goes to the even neighbor, not away from zero: torch.round does it": partial(
            to_steps, rule=lambda v: np.copysign(np.floor(np.abs(v) + 0.5), v)
        ),
        "the largest integer is 2^(bits-1) - 1: one of the 2^bits stands for zero": partial(
            to_steps, reach=lambda top: (-top, top)
        ),
        "the least integer is -2^(bits-1), one further than the largest": partial(
            to_steps, reach=lambda top: (1 - top, top - 1)
        ),
        "2^bits integers reach from -2^(bits-1) to 2^(bits-1) - 1, not twice as far": (
            lambda x, scale, bits: to_steps(x, scale, bits + 1)
        ),
        "the integers are signed: the least is -2^(bits-1), not 0": partial(
            to_steps, reach=lambda top: (0, 2 * top - 1)
        ),
    },
)
def check_to_steps(answer: Answer) -> None:
    """A tensor of integers of the shape of x."""
    import torch  # the lesson has imported it already

    inside = torch.tensor([0.30, -0.90, 0.375, 0.125, -0.375, -0.625, 0.24, 0.0])
    beyond = torch.tensor([[0.95, -1.3, 9.0], [-9.0, 0.7, -0.2]])
    cases = [(inside, 0.25, 3), (beyond, 0.25, 3), (inside, 0.0625, 5), (beyond, 0.125, 4)]
    compare(answer, cases)


def unsigned_params(low, high, bits, *, stretch=True, extra=0, whole=round):
    """The scale and zero point of 21.1, or with an option changed, one of its mistakes."""
    if stretch:
        low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1 + extra)
    return scale, whole(-low / scale)


def _zero_point(change):
    """21.1 with the right scale, and a zero point that is `change(zero_point, bits)`."""

    def params(low, high, bits):
        scale, zero_point = unsigned_params(low, high, bits)
        return scale, change(zero_point, bits)

    return params


@exercise(
    "21.1",
    unsigned_params,
    {
        "zero lies outside of some ranges; stretch the range until it contains 0": partial(
            unsigned_params, stretch=False
        ),
        "2^bits levels have 2^bits - 1 steps between them": partial(unsigned_params, extra=1),
        "symmetric integers have no zero point: here the range is low to high": (
            lambda low, high, bits: (2 * max(-low, high) / (2**bits - 1), 2 ** (bits - 1))
        ),
        "that is the signed zero point: unsigned integers begin at 0, not at -2^(bits-1)": (
            _zero_point(lambda z, bits: z - 2 ** (bits - 1))
        ),
        "the sign is wrong: low = scale * (0 - zero_point)": _zero_point(lambda z, bits: -z),
        "that is the integer of high's side: low = scale * (0 - zero_point)": _zero_point(
            lambda z, bits: 2**bits - 1 - z
        ),
        "the zero point must lie on an integer": partial(unsigned_params, whole=float),
        "round the zero point to the nearest integer, do not cut off": partial(
            unsigned_params, whole=int
        ),
        "round the zero point to the nearest integer, not up": partial(
            unsigned_params, whole=lambda z: int(np.ceil(z))
        ),
    },
)
def check_unsigned_params(answer: Answer) -> None:
    """A float and an int, (scale, zero_point)."""
    cases = [(-1.0, 3.5, 8), (-1.0, 3.0, 8), (0.5, 2.0, 8), (-3.0, -1.0, 8), (-1.0, 2.6, 4)]
    compare(answer, cases, "scale, zero_point")


def _errors(x, bits, thresholds, *, clip=True, error=np.square, add=np.sum, step=None, reach=None):
    """What 21.2 minimizes, [K], or with an option changed, what a mistake minimizes."""
    top = 2 ** (bits - 1) - 1
    low, high = (-top, top) if reach is None else reach(top)
    found = []
    for threshold in thresholds:
        scale = threshold / (step(top) if step else top)
        q = np.rint(x / scale)
        q = np.clip(q, low, high) if clip else q
        found.append(add(error(x - scale * q)))
    return np.array(found)


def best_threshold(x, bits, thresholds, *, pick=np.argmin, **options):
    return float(thresholds[pick(_errors(x, bits, thresholds, **options))])


@exercise(
    "21.2",
    best_threshold,
    {
        "that is the error: return the threshold that belongs to it": (
            lambda *a: _errors(*a).min()
        ),
        "that is the mean error: return the threshold that belongs to it": (
            lambda *a: _errors(*a).min() / len(a[0])
        ),
        "that is the place in the list: return thresholds[place]": (
            lambda *a: int(_errors(*a).argmin())
        ),
        "without a clip the finest step always wins: clip the integers": partial(
            best_threshold, clip=False
        ),
        "that one has the largest error: take the smallest": partial(
            best_threshold, pick=np.argmax
        ),
        "that is the best for the absolute error: square the errors": partial(
            best_threshold, error=np.abs
        ),
        "that is the best for the largest error: add the squares of all of them": partial(
            best_threshold, add=np.max
        ),
        "the errors cancel when they are added: square each of them first": partial(
            best_threshold, error=lambda e: e, add=lambda e: abs(np.sum(e))
        ),
        "signed integers reach 2^(bits-1) - 1: one bit is the sign": (
            lambda x, bits, t: best_threshold(x, bits + 1, t)
        ),
        "from 0 to the threshold there are 2^(bits-1) - 1 steps, not 2^(bits-1)": partial(
            best_threshold, step=lambda top: top + 1, reach=lambda top: (-top - 1, top + 1)
        ),
        "the step is threshold / (2^(bits-1) - 1): the largest integer stands for it": partial(
            best_threshold, step=lambda top: top + 1
        ),
        "that is threshold / 2^(bits-1) with one more integer below zero, not the narrow range": (
            partial(best_threshold, step=lambda top: top + 1, reach=lambda top: (-top - 1, top))
        ),
        "the range is narrow: the integers end at -(2^(bits-1) - 1), not at -2^(bits-1)": partial(
            best_threshold, reach=lambda top: (-top - 1, top)
        ),
        "values below zero are clipped at -threshold, not at 0": partial(
            best_threshold, reach=lambda top: (0, top)
        ),
    },
)
def check_best_threshold(answer: Answer) -> None:
    """One number, one of the thresholds."""
    rng = np.random.default_rng(0)
    bell, heavy = rng.normal(size=2000), rng.standard_t(3, size=2000)
    skewed = np.where(heavy < 0, 1.6 * heavy, heavy)
    cases = [
        (bell, 4, np.array([1.6, 2.1, 2.5, 3.0, 4.0, 12.0])),
        (heavy, 3, np.linspace(1, 30, 59)),
        (skewed, 3, np.linspace(12, 1, 67)),
        (heavy, 4, np.linspace(20, 1, 39)),
    ]
    compare(answer, cases)


def bits_for(x, db, *, whole=math.ceil, offset=4.77, sign=-1, of=np.square, root=np.sqrt):
    """The bits of 21.3, or with an option changed, one of its mistakes."""
    crest = 20 * np.log10(np.max(np.abs(x)) / root(np.mean(of(np.asarray(x)))))
    return whole((db - offset - sign * crest) / 6.02)


@exercise(
    "21.3",
    bits_for,
    {
        "a bit too few misses the target: round up": partial(bits_for, whole=math.floor),
        "rounding to nearest may miss the target: round up": partial(bits_for, whole=round),
        "bits come whole: round up": partial(bits_for, whole=float),
        "a large crest factor costs dB, so it asks for more bits, not for fewer": partial(
            bits_for, sign=1
        ),
        "the law's 4.77 dB are missing": partial(bits_for, offset=0),
        "4.77 dB are won, whatever the bits: subtract them from the target": partial(
            bits_for, offset=-4.77
        ),
        "the crest factor is missing": partial(bits_for, sign=0),
        "amplitudes count 20 log10: 10 log10 is for squares": (
            lambda x, db: math.ceil(
                (db - 4.77 + 10 * np.log10(np.max(np.abs(x)) / np.sqrt(np.mean(np.square(x)))))
                / 6.02
            )
        ),
        "the logarithm has the base 10": (
            lambda x, db: math.ceil(
                (db - 4.77 + 20 * np.log(np.max(np.abs(x)) / np.sqrt(np.mean(np.square(x))))) / 6.02
            )
        ),
        "rms is the root of the mean of the squares, not the mean size": partial(
            bits_for, of=np.abs, root=lambda m: m
        ),
        "the root is missing: rms is the root of the mean square": partial(
            bits_for, root=lambda m: m
        ),
        "the largest magnitude counts, also where it is negative: take |x| first": (
            lambda x, db: math.ceil(
                (db - 4.77 + 20 * np.log10(np.max(x) / np.sqrt(np.mean(np.square(x))))) / 6.02
            )
        ),
        "rms is taken around zero, and not around the mean as the standard deviation is": (
            lambda x, db: math.ceil(
                (db - 4.77 + 20 * np.log10(np.max(np.abs(x)) / np.std(x))) / 6.02
            )
        ),
    },
)
def check_bits_for(answer: Answer) -> None:
    """One int."""
    rng = np.random.default_rng(0)
    heavy, skewed = rng.standard_t(3, size=3000), 1 - 3 * rng.exponential(size=3000)
    cases = [(np.array([1.0, -1.0, 1.0, -1.0]), 30.0), (heavy, 30.0), (skewed, 30.0)]
    cases += [(0.01 * skewed, 47.0), (100 * heavy, 20.0), (3 + rng.normal(size=500), 40.0)]
    cases += [
        (x, db) for db in (20.5, 23.0, 25.5, 28.0, 33.0) for x in (heavy, rng.uniform(-1, 1, 500))
    ]
    compare(answer, cases)

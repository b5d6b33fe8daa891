"""Checks of the try-it and the exercises of lesson 26.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def moving_range(batches, c, *, old=lambda c: 1 - c, start=lambda batch, pick: pick(batch)):
    low, high = start(batches[0], np.min), start(batches[0], np.max)
    for batch in batches[1:]:
        low = old(c) * low + c * np.min(batch)
        high = old(c) * high + c * np.max(batch)
    return low, high


@exercise(
    "26.0",
    moving_range,
    {
        "c weighs the newest batch, and 1 - c what was before": (
            lambda batches, c: moving_range(batches, 1 - c)
        ),
        "the first batch sets the range: it does not start from 0": dict(
            start=lambda batch, pick: 0.0
        ),
        "what was before is weighed with 1 - c": dict(old=lambda c: 1.0),
        "that is the range of all batches: form the moving average": lambda batches, c: (
            min(np.min(b) for b in batches),
            max(np.max(b) for b in batches),
        ),
        "that is the plain mean over batches: the newest one counts with c": lambda batches, c: (
            np.mean([np.min(b) for b in batches]),
            np.mean([np.max(b) for b in batches]),
        ),
        "the first batch is counted twice: it only sets the range": lambda batches, c: moving_range(
            [np.zeros_like(batches[0]), *batches], c
        ),
        "return low first, then high": lambda batches, c: moving_range(batches, c)[::-1],
    },
)
def check_moving_range(answer: Answer) -> None:
    """Two numbers, low and high."""
    rng = np.random.default_rng(26)
    cases = [([np.array([0.0, 4]), np.array([-1.0, 8]), np.array([0.0, 2])], 0.5)]
    for n, c in ((5, 0.1), (3, 0.3)):
        cases.append(([rng.normal(1, 2, 9) for _ in range(n)], c))
    compare(answer, cases, "low, high")


def fold_step(
    q, step, gamma, beta, mean, variance, eps,
    *, factor=lambda gamma, variance, eps: gamma / np.sqrt(variance + eps),
    sign=lambda g: np.sign(g).astype(int), size=np.abs, shift=np.positive,
):  # fmt: skip
    g = factor(gamma, variance, eps)
    return q * sign(g).reshape(-1, *[1] * (q.ndim - 1)), step * size(g), beta - mean * shift(g)


def one(g):
    return np.ones_like(g, int)


@exercise(
    "26.1",
    fold_step,
    {
        "a step is negative: take |g|, and give its sign to the integers": dict(
            size=np.positive, sign=one
        ),
        "a step is negative: take |g|, since the integers have its sign already": dict(
            size=np.positive
        ),
        "where the factor g is negative, the integers change their sign": dict(sign=one),
        "the integers change their sign where g is negative, not where it is positive": dict(
            sign=lambda g: -np.sign(g).astype(int)
        ),
        "q has fractions: only the step takes up the size of g": dict(sign=np.positive, size=one),
        "eps belongs to the variance, under the root": dict(eps=0.0),
        "eps stands under the root, not beside it": dict(
            factor=lambda gamma, variance, eps: gamma / (np.sqrt(variance) + eps)
        ),
        "divide by the deviation, the root of the variance": dict(
            factor=lambda gamma, variance, eps: gamma / (variance + eps)
        ),
        "the bias takes g with its sign": dict(shift=np.abs),
        "the mean that batch norm subtracts is missing in the bias": dict(mean=0.0),
        "the mean is multiplied by g in the bias, too": dict(shift=one),
        "the batch norm subtracts the mean": dict(shift=np.negative),
    },
)
def check_fold_step(answer: Answer) -> None:
    """Three arrays, q of integers, step and bias."""
    draw = np.random.default_rng(0)
    cases = []
    for shape, eps, kind in (((4, 3, 3, 3), 0.01, int), ((5, 6), 0.1, np.int8), ((2, 2), 0, int)):
        q, (beta, mean) = draw.integers(-7, 8, shape).astype(kind), draw.normal(size=(2, shape[0]))
        gamma = draw.uniform(0.3, 2, shape[0]) * np.resize([1, -1], shape[0])
        step, variance = draw.uniform(0.1, 0.5, shape[0]), draw.uniform(0.02, 2, shape[0])
        cases.append((q, step, gamma, beta, mean, variance, eps))
    compare(answer, cases, "q, step, bias", advice="q takes the sign of g, the step its size")


def torchao_rule(
    w, *, levels=127.5, least=2.0**-12, top=lambda w: np.abs(w).max(1), low=-128, high=127,
    nearest=np.rint,
):  # fmt: skip
    scales = np.maximum(top(w) / levels, least)
    return scales, np.clip(nearest(w / scales[:, None]), low, high).astype(int)


@exercise(
    "26.2",
    torchao_rule,
    {
        "that is the rule of lesson 21: here max|w| is divided by 127.5": dict(levels=127),
        "divide by 127.5, half of the 255 steps": dict(levels=128),
        "no scale is below 2^-12": dict(least=1e-30),
        "one scale for each filter, not one for the matrix": dict(
            top=lambda w: np.full(len(w), np.abs(w).max())
        ),
        "take the largest size, also of the negative weights": dict(top=lambda w: w.max(1)),
        "the range is clipped to 127 at the top": dict(high=128),
        "the least integer is -128 here": dict(low=-127),
        "round to the nearest, do not cut off": dict(nearest=np.trunc),
        "a tie goes to the even integer, as np.rint takes it": dict(
            nearest=lambda v: np.floor(v + 0.5)
        ),
    },
)
def check_torchao_rule(answer: Answer) -> None:
    """Two arrays: scales [filters], and q of integers [filters, inputs]."""
    rng = np.random.default_rng(262)
    cases = [(np.array([[1.0, -0.5], [0, 0]]),), (np.array([[127.5, 0.5, 2.5, -1.5]]),)]
    for scale in (1.0, 0.02):
        w = scale * rng.normal(size=(5, 8))
        w[1, 0] = -4 * scale
        w[2, 0] = 4 * scale
        w[3] *= 1e-3
        cases.append((w,))
    compare(answer, cases, "scales, q", advice="scales first, then w / scale to the nearest")

"""Checks of lesson 55, a model in the field.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def fgsm(x, gradient, eps, *, sign=np.sign, toward=1, low=0.0, high=1.0):
    return np.clip(x + toward * eps * sign(gradient), low, high)


@exercise(
    "55.0",
    fgsm,
    {
        "the sign of the gradient, not the gradient": dict(sign=lambda g: g),
        "the loss is to rise: plus, not minus": dict(toward=-1),
        "pixels stay in 0 to 1: clip": dict(low=-np.inf, high=np.inf),
        "pixels are at most 1, too": dict(high=np.inf),
        "pixels are at least 0, too": dict(low=-np.inf),
        "the change itself is not what is asked: add it to x": lambda x, gradient, eps: (
            eps * np.sign(gradient)
        ),
    },
)
def check_fgsm(answer: Answer) -> None:
    """An array of the shape of x."""
    rng = np.random.default_rng(55)
    hand = (np.array([0.5, 0.95]), np.array([-3, 0.2]), 0.1)
    ends = (np.array([0.02, 0.99, 0.4]), np.array([-1.0, 2.0, 0.0]), 0.05)
    compare(answer, [hand, ends, (rng.random((2, 4)), rng.normal(size=(2, 4)), 0.3)])


def decide(signs, q, alpha, beta, *, both=2.0, strict=False, upper=None, lower=None, swap=False):
    high = np.log((1 - beta) / alpha) if upper is None else upper(alpha, beta)
    low = np.log(beta / (1 - alpha)) if lower is None else lower(alpha, beta)
    total = 0.0
    for n, sign in enumerate(np.asarray(signs).tolist(), 1):
        total += np.log(both * (q if (sign > 0) != swap else 1 - q))
        if total > high if strict else total >= high:
            return 1, n
        if total <= low:
            return -1, n
    return 0, len(signs)


def at_the_end(signs, q, alpha, beta):
    total = np.where(np.asarray(signs) > 0, np.log(2 * q), np.log(2 * (1 - q))).sum()
    high, low = np.log((1 - beta) / alpha), np.log(beta / (1 - alpha))
    return int(total >= high) - int(total <= low), len(signs)


@exercise(
    "55.1",
    decide,
    {
        "stop at the first image at which the sum reaches a limit": at_the_end,
        "each image multiplies the odds by q / ½ or (1 - q) / ½: do not forget the ½": dict(
            both=1.0
        ),
        "1 is an image that only the old model has right: it speaks for 'worse'": dict(swap=True),
        "the upper limit is ln((1 - beta) / alpha)": dict(
            upper=lambda alpha, beta: np.log(1 / alpha)
        ),
        "the lower limit is ln(beta / (1 - alpha))": dict(lower=lambda alpha, beta: np.log(beta)),
        "there are two limits: the test may also end with 'as good'": dict(
            lower=lambda alpha, beta: -np.inf
        ),
    },
)
def check_decide(answer: Answer) -> None:
    """Decision and images."""
    rng = np.random.default_rng(55)
    hand = [(np.ones(11, int), 2 / 3, 0.05, 0.1), (np.ones(10, int), 2 / 3, 0.05, 0.1)]
    hand += [(-np.ones(9, int), 2 / 3, 0.05, 0.1), (np.ones(60, int), 0.6, 0.05, 0.1)]
    drawn = [
        (np.where(rng.random(80) < share, 1, -1), q, alpha, beta)
        for share in (0.3, 0.5, 0.6, 0.7, 0.8)
        for q, alpha, beta in ((2 / 3, 0.05, 0.1), (0.6, 0.1, 0.3), (0.75, 0.01, 0.4))
    ]
    compare(answer, [*hand, *drawn], "decision, images")


def gap(a, b, *, at=None, size=np.abs, reduce=np.max):
    places = np.concatenate([a, b]) if at is None else at(a, b)
    shares = [np.searchsorted(np.sort(s), places, "right") / len(s) for s in (a, b)]
    return float(reduce(size(shares[0] - shares[1])))


@exercise(
    "55.2",
    gap,
    {
        "without its sign: the gap may be on either side": dict(size=lambda d: d),
        "the other side counts, too: take the absolute value": dict(size=lambda d: -d),
        "look at the values of both samples": dict(at=lambda a, b: a),
        "look at the values of both samples, not only of b": dict(at=lambda a, b: b),
        "the largest gap, not the mean one": dict(reduce=np.mean),
        "shares of each sample, not differences of their means": lambda a, b: float(
            abs(a.mean() - b.mean())
        ),
    },
)
def check_gap(answer: Answer) -> None:
    """One number."""
    rng = np.random.default_rng(55)
    hand = [(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6]))]
    hand += [(np.array([1.0, 1, 1, 5]), np.array([1.0, 7])), (np.array([4.0]), np.array([1.0, 2]))]
    drawn = [
        (rng.integers(0, 9, n).astype(float), rng.integers(shift, 9 + shift, m).astype(float))
        for n, m, shift in ((7, 5, 0), (4, 9, 2), (12, 3, -3), (6, 6, 1), (5, 8, 0), (9, 4, -1))
    ]
    compare(answer, [*hand, *drawn])


def pgd_step(z, x, gradient, eps, step, *, sign=np.sign, center=None, low=0.0, high=1.0, toward=1):
    z = z + toward * step * sign(gradient)
    middle = x if center is None else center(z, x)
    return np.clip(np.clip(z, middle - eps, middle + eps), low, high)


@exercise(
    "55.3",
    pgd_step,
    {
        "back into the box around x: at most eps from the original": dict(center=lambda z, x: z),
        "the sign of the gradient, not the gradient": dict(sign=lambda g: g),
        "pixels stay in 0 to 1": dict(low=-np.inf, high=np.inf),
        "the loss is to rise: plus, not minus": dict(toward=-1),
        "go on from z, not from x": lambda z, x, gradient, eps, step: np.clip(
            np.clip(x + step * np.sign(gradient), x - eps, x + eps), 0, 1
        ),
        "a step of `step`, not of eps": lambda z, x, gradient, eps, step: np.clip(
            np.clip(z + eps * np.sign(gradient), x - eps, x + eps), 0, 1
        ),
    },
)
def check_pgd_step(answer: Answer) -> None:
    """An array of the shape of z."""
    rng = np.random.default_rng(55)
    hand = (np.array([0.55]), np.array([0.5]), np.array([2.0]), 0.1, 0.08)
    x = rng.random(12)
    cases = [
        (np.clip(x + rng.uniform(-eps, eps, 12), 0, 1), x, rng.normal(size=12), eps, step)
        for eps, step in ((0.1, 0.03), (0.2, 0.15), (0.4, 0.1))
    ]
    ends = (np.array([0.02, 0.97]), np.array([0.05, 0.95]), np.array([-1.0, 1.0]), 0.2, 0.1)
    compare(answer, [hand, ends, *cases])

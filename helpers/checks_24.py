"""Checks of lesson 24, Rescuing low bits."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def output_error(d, H):
    d, H = np.asarray(d, float), np.asarray(H, float)
    return float(((d @ H) * d).sum())


@exercise(
    "24.0",
    output_error,
    {
        "that is one error for each filter: add them up": (
            lambda d, H: ((np.asarray(d) @ np.asarray(H)) * np.asarray(d)).sum(1)
        ),
        "that is the mean over the filters: their sum is asked for": (
            lambda d, H: output_error(d, H) / len(d)
        ),
        "that is the mean of all products: their sum is asked for": (
            lambda d, H: output_error(d, H) / d.numel()
        ),
        "H is missing: without it the inputs would be unrelated and of size 1": (
            lambda d, H: float(np.square(np.asarray(d, float)).sum())
        ),
        "d stands on both sides of H: multiply by d once more": (
            lambda d, H: float((np.asarray(d, float) @ np.asarray(H, float)).sum())
        ),
        "only the diagonal of H counts there: errors of different weights meet in the rest": (
            lambda d, H: float((np.asarray(d, float) ** 2 * np.diag(np.asarray(H, float))).sum())
        ),
        "d @ H @ d.T pairs each filter with each other one: keep its diagonal alone": (
            lambda d, H: float((np.asarray(d, float) @ np.asarray(H) @ np.asarray(d).T).sum())
        ),
        "that is the matrix d @ H @ d.T: add up its diagonal": (
            lambda d, H: np.asarray(d, float) @ np.asarray(H) @ np.asarray(d).T
        ),
        "that is the root: d^T H d itself is asked for": (
            lambda d, H: float(np.sqrt(max(output_error(d, H), 0)))
        ),
    },
)
def check_output_error(answer: Answer) -> None:
    """One number, or a tensor that holds one."""
    import torch  # the lesson has imported it already

    generator = torch.Generator().manual_seed(0)
    cases = [
        (torch.tensor([[0.1, 0.1], [0.1, -0.1]]), torch.tensor([[1.0, 0.9], [0.9, 1.0]])),
    ]
    for filters, inputs in ((3, 5), (4, 4), (1, 3)):
        x = (torch.randn(50, inputs, generator=generator) + 0.5).relu()
        cases.append((torch.randn(filters, inputs, generator=generator), x.T @ x / 50))
    compare(answer, cases)


def corrected_bias(b, w, w_hat, x_mean, *, sign=-1, over=None, keep=True):
    """The bias of 24.1, or with an option changed, one of its mistakes."""
    shift = (w_hat - w) @ x_mean if over is None else over(w_hat - w, x_mean)
    return keep * b + sign * shift


@exercise(
    "24.1",
    corrected_bias,
    {
        "the sign is wrong: what rounding has added is subtracted": partial(corrected_bias, sign=1),
        "that is the correction: the old bias belongs to it": partial(corrected_bias, keep=False),
        "that is what rounding adds to the mean output: subtract it from the bias": partial(
            corrected_bias, keep=False, sign=1
        ),
        "nothing has changed": lambda b, w, w_hat, x_mean: b.copy(),
        "the mean input is missing: a change of weight counts as much as its input is large": (
            partial(corrected_bias, over=lambda d, x: d.sum(1))
        ),
        "sum over the inputs, no mean": partial(corrected_bias, over=lambda d, x: (d * x).mean(1)),
        "the rounded layer's whole output is subtracted: only its change": (
            lambda b, w, w_hat, x_mean: b - w_hat @ x_mean
        ),
        "the size of the change has lost its sign": partial(
            corrected_bias, over=lambda d, x: np.abs(d) @ x
        ),
    },
)
def check_corrected_bias(answer: Answer) -> None:
    """An array of the shape of b."""
    rng = np.random.default_rng(0)
    cases = [(np.array([1.0]), np.array([[0.4, 0.3]]), np.zeros((1, 2)), np.ones(2))]
    for rows, columns in ((3, 5), (4, 4)):
        w = rng.normal(size=(rows, columns))
        x_mean = rng.uniform(0, 2, columns)
        cases.append((rng.normal(size=rows), w, np.rint(w / 0.4) * 0.4, x_mean))
    compare(answer, cases[1:] + cases[:1])


def equalize_dense(w1, b1, w2, *, r=None, factor=None, bias=True, divide=True):
    """The layers of 24.2, or with an option changed, one of its mistakes."""
    r1 = np.abs(w1).max(1) if r is None else r(w1, 1)
    r2 = np.abs(w2).max(0) if r is None else r(w2, 0)
    e = np.sqrt(r2 / r1) if factor is None else factor(r1, r2)
    new_w2 = w2 / e if divide else w2 * e
    return e[:, None] * w1, e * b1 if bias else b1, new_w2


@exercise(
    "24.2",
    equalize_dense,
    {
        "the network has changed: the bias is scaled with its row of w1": partial(
            equalize_dense, bias=False
        ),
        "the network has changed: what w1 is multiplied by, w2 is divided by": partial(
            equalize_dense, divide=False
        ),
        "nothing has changed: choose a factor for each hidden channel": (
            lambda w1, b1, w2: (w1.copy(), b1.copy(), w2.copy())
        ),
        "the ranges lie further apart than before: the factor is upside down": partial(
            equalize_dense, factor=lambda r1, r2: np.sqrt(r1 / r2)
        ),
        "the ranges have changed places: take the square root of the ratio": partial(
            equalize_dense, factor=lambda r1, r2: r2 / r1
        ),
        "the largest weight may be negative: take np.abs first": partial(
            equalize_dense, r=lambda w, axis: np.abs(w.max(axis))
        ),
        "the range of a channel is its largest |w|, not its length": partial(
            equalize_dense, r=lambda w, axis: np.sqrt(np.square(w).sum(axis))
        ),
        "the range of a channel is its largest |w|, not their mean": partial(
            equalize_dense, r=lambda w, axis: np.abs(w).mean(axis)
        ),
        "w1 is right, w2 has not changed": (
            lambda w1, b1, w2: (*equalize_dense(w1, b1, w2)[:2], w2.copy())
        ),
        "the first layer has range 1 in each channel: the second must have the same range": partial(
            equalize_dense, factor=lambda r1, r2: 1 / r1
        ),
        "one factor for each hidden channel, not one for all": partial(
            equalize_dense,
            factor=lambda r1, r2: np.full(len(r1), np.sqrt(r2.max() / r1.max())),
        ),
    },
)
def check_equalize_dense(answer: Answer) -> None:
    """Three arrays, (w1, b1, w2)."""
    rng = np.random.default_rng(0)
    cases = []
    for inputs, hidden, outputs in ((6, 4, 4), (5, 3, 2)):
        w1 = rng.normal(size=(hidden, inputs)) * 10.0 ** rng.uniform(-2, 2, (hidden, 1))
        cases.append((w1, rng.normal(size=hidden), rng.normal(size=(outputs, hidden))))
    cases.append((np.array([[8.0]]), np.array([4.0]), np.array([[2.0]])))
    compare(answer, cases, "w1, b1, w2")


def round_by_turning(
    w, s, H, low, high, *, start=np.rint, clip=True, fence=True, error=None, turns=None, pick=None
):
    """The integers of 24.3, or with an option changed, one of its mistakes."""
    q = np.clip(start(w / s), low, high) if clip else start(w / s)
    for _ in range(200 if turns is None else turns):  # 3 are enough where all is right
        turn = np.where(q < w / s, 1, -1)
        delta = s * turn
        d = s * q - w if error is None else error(q, s, w)
        change = 2 * delta * (H @ d) + delta**2 * np.diag(H)
        if fence:
            change = np.where((q + turn >= low) & (q + turn <= high), change, np.inf)
        best = change.argmin() if pick is None else pick(change)
        if not change[best] < -1e-9 * s**2 * np.diag(H).mean():
            break
        q[best] += turn[best]
    return q.astype(int)


@exercise(
    "24.3",
    round_by_turning,
    {
        "that is rounding to nearest: turn weights while the error falls": partial(
            round_by_turning, turns=0
        ),
        "an integer lies outside of low to high: clip the start, and do not turn beyond": partial(
            round_by_turning, clip=False, fence=False
        ),
        "a weight was turned beyond low or high": partial(round_by_turning, fence=False),
        "the start lies outside of low to high: clip it": partial(round_by_turning, clip=False),
        "begin at the nearest integers, not at the ones below": partial(
            round_by_turning, start=np.floor
        ),
        "d = s q - w: the step is missing there": partial(
            round_by_turning, error=lambda q, s, w: q - w
        ),
        "the sign of d: s q - w, not w - s q": partial(
            round_by_turning, error=lambda q, s, w: w - s * q
        ),
        "one more turn would lower the error: go on until none does": partial(
            round_by_turning, turns=1
        ),
        "turn the weight that lowers the error most, not the first that lowers it": partial(
            round_by_turning, pick=lambda change: int((change < -1e-12).argmax())
        ),
        "return the integers q, not s q": (
            lambda w, s, H, low, high: s * round_by_turning(w, s, H, low, high)
        ),
    },
)
def check_round_by_turning(answer: Answer) -> None:
    """An array of integers of the shape of w."""
    rng = np.random.default_rng(0)
    cases = []
    for size, high, s in ((9, 3, 0.37), (40, 3, 0.05), (30, 1, 2.5), (20, 7, 0.37)):
        x = np.maximum(rng.normal(1, 1, (4 * size, 1)) + rng.normal(0, 0.4, (4 * size, size)), 0)
        w = s * rng.uniform(-high - 0.6, high + 0.6, size)
        w[::2] = s * (np.floor(w[::2] / s) + rng.uniform(0.15, 0.45, len(w[::2])))
        cases.append((w, s, x.T @ x / len(x), -high, high))
    compare(answer, cases)

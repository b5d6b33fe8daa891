"""Checks of lesson 36, Learned sparsity."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def soft(a, t):
    """The soft threshold of 36.0."""
    a = np.asarray(a, float)
    return np.sign(a) * np.maximum(np.abs(a) - t, 0)


@exercise(
    "36.0",
    soft,
    {
        "the sign is lost: a weight below zero stays below zero": (lambda a, t: np.abs(soft(a, t))),
        "weights below -t move towards zero, too: take |a|, and give the sign back": (
            lambda a, t: np.maximum(np.asarray(a, float) - t, 0)
        ),
        "a weight smaller than t becomes 0, and does not change sides: clamp(min=0)": (
            lambda a, t: np.sign(np.asarray(a, float)) * (np.abs(np.asarray(a, float)) - t)
        ),
        "that is the hard threshold: what survives loses t as well": (
            lambda a, t: np.where(np.abs(np.asarray(a, float)) > t, np.asarray(a, float), 0)
        ),
        "that is what is taken away: subtract it from a": lambda a, t: a - soft(a, t),
        "that shrinks by a factor, as a squared penalty does": (
            lambda a, t: np.asarray(a, float) / (1 + t)
        ),
        "penalties push towards zero: |a| - t, not |a| + t": (
            lambda a, t: np.sign(np.asarray(a, float)) * (np.abs(np.asarray(a, float)) + t)
        ),
        "subtract t, not t a": (lambda a, t: np.asarray(a, float) * np.maximum(1 - t, 0)),
    },
)
def check_soft(answer: Answer) -> None:
    """A tensor of the shape of a."""
    import torch  # the lesson has imported it already

    a = torch.tensor([0.8, 0.4, -2.0, -0.3, 0.0, 1.7])
    b = torch.tensor([[3.0, -0.05, 0.2], [-0.6, 0.1, -9.0]])
    compare(answer, [(a, 0.5), (b, 0.15), (b, 1.2), (a, 0.0)])


def elastic(a, t, d):
    """The minimum of 36.1."""
    return soft(a, t) / (1 + d)


@exercise(
    "36.1",
    elastic,
    {
        "the square is missing: it divides by 1 + d": lambda a, t, d: soft(a, t),
        "the penalty t is missing: threshold first, then divide": lambda a, t, d: (
            np.asarray(a, float) / (1 + d)
        ),
        "t is not divided twice: threshold a, and divide what is left": lambda a, t, d: soft(
            np.asarray(a, float) / (1 + d), t
        ),
        "the square divides by 1 + d: the 1 is the loss's own curvature": lambda a, t, d: (
            soft(a, t) / d
        ),
        "the slope of d w^2 / 2 is d w, not 2 d w: divide by 1 + d": lambda a, t, d: (
            soft(a, t) / (1 + 2 * d)
        ),
        "the slope of d w^2 / 2 is d w, not d w / 2: divide by 1 + d": lambda a, t, d: (
            soft(a, t) / (1 + d / 2)
        ),
        "the square multiplies the curvature, it does not add to the threshold": lambda a, t, d: (
            soft(a, t + d)
        ),
        "divide by 1 + d: a penalty makes weights smaller": lambda a, t, d: soft(a, t) * (1 + d),
        "the sign is lost: a weight below zero stays below zero": lambda a, t, d: np.abs(
            elastic(a, t, d)
        ),
        "weights below -t move towards zero, too: take |a|, and give the sign back": (
            lambda a, t, d: np.maximum(np.asarray(a, float) - t, 0) / (1 + d)
        ),
        "a weight smaller than t becomes 0, and does not change sides": lambda a, t, d: (
            np.sign(np.asarray(a, float)) * (np.abs(np.asarray(a, float)) - t) / (1 + d)
        ),
    },
)
def check_elastic(answer: Answer) -> None:
    """A tensor of the shape of a."""
    import torch  # the lesson has imported it already

    a = torch.tensor([0.8, 0.4, -2.0, -0.3, 0.0, 1.7])
    b = torch.tensor([[3.0, -0.05, 0.2], [-0.6, 0.1, -9.0]])
    compare(answer, [(a, 0.5, 1.0), (b, 0.15, 0.3), (b, 1.2, 4.0), (a, 0.1, 0.5)])


def _sigmoid(v):
    return 1 / (1 + np.exp(-np.asarray(v, float)))


def count_and_gradient(log_alpha, beta, gamma, zeta, *, shift=None, slope=None, add=np.sum):
    """The expected open gates of 36.2 with their gradient, or with an option changed, a mistake."""
    off = beta * np.log(-gamma / zeta) if shift is None else shift(beta, gamma, zeta)
    p = _sigmoid(np.asarray(log_alpha, float) - off)
    return add(p), p * (1 - p) if slope is None else slope(p)


@exercise(
    "36.2",
    count_and_gradient,
    {
        "that is the plain sigmoid: the stretch moves it by beta log(-gamma / zeta)": partial(
            count_and_gradient, shift=lambda beta, gamma, zeta: 0.0
        ),
        "beta is missing: it multiplies log(-gamma / zeta)": partial(
            count_and_gradient, shift=lambda beta, gamma, zeta: np.log(-gamma / zeta)
        ),
        "the sign is wrong: subtract beta log(-gamma / zeta), which is below zero": partial(
            count_and_gradient, shift=lambda beta, gamma, zeta: -beta * np.log(-gamma / zeta)
        ),
        "beta multiplies the logarithm, it does not divide it": partial(
            count_and_gradient, shift=lambda beta, gamma, zeta: np.log(-gamma / zeta) / beta
        ),
        "that is the mean: the count is the sum": partial(count_and_gradient, add=np.mean),
        "add the probabilities: the count is one number": partial(
            count_and_gradient, add=lambda p: p
        ),
        "a sigmoid p has the slope p (1 - p)": partial(count_and_gradient, slope=lambda p: p),
        "that is one gradient for all gates: each gate has its own": partial(
            count_and_gradient, slope=lambda p: np.sum(p * (1 - p))
        ),
        "beta is no factor of log_alpha in the probability, so none of the gradient": (
            lambda log_alpha, beta, gamma, zeta: (
                count_and_gradient(log_alpha, beta, gamma, zeta)[0],
                count_and_gradient(log_alpha, beta, gamma, zeta)[1] / beta,
            )
        ),
        "the gradient is positive: a larger log_alpha opens gates": partial(
            count_and_gradient, slope=lambda p: -p * (1 - p)
        ),
        "these are the closed gates: open ones have the probability 1 - P(z = 0)": (
            lambda log_alpha, beta, gamma, zeta: (
                np.sum(1 - _sigmoid(np.asarray(log_alpha) - beta * np.log(-gamma / zeta))),
                count_and_gradient(log_alpha, beta, gamma, zeta, slope=lambda p: -p * (1 - p))[1],
            )
        ),
        "these are the gates that are 1: open are all that are not 0": (
            lambda log_alpha, beta, gamma, zeta: count_and_gradient(
                log_alpha,
                beta,
                gamma,
                zeta,
                shift=lambda b, g, z: b * np.log((1 - g) / (z - 1)),
            )
        ),
    },
)
def check_count_and_gradient(answer: Answer) -> None:
    """A float and an array like log_alpha."""
    rng = np.random.default_rng(0)
    cases = [
        (np.array([0.0]), 2 / 3, -0.1, 1.1),
        (rng.normal(0, 2, 5), 2 / 3, -0.1, 1.1),
        (rng.normal(1, 2, 4), 0.4, -0.2, 1.05),
        (rng.normal(-1, 1, 3), 0.9, -0.05, 1.3),
    ]
    compare(answer, cases, "count, gradient")


def group_soft(W, t, *, axis=0, power=2, square=False):
    """The columns of 36.3, or with an option changed, one of its mistakes."""
    W = np.asarray(W, float)
    size = np.linalg.norm(W, ord=power, axis=axis, keepdims=True)
    size = size**2 if square else size
    return W * np.maximum(1 - t / np.maximum(size, 1e-12), 0)


def _by_direction(W, t):
    """Right, but for columns of zeros, which have no direction."""
    W = np.asarray(W, float)
    length = np.linalg.norm(W, axis=0)
    return W / length * np.maximum(length - t, 0)


@exercise(
    "36.3",
    group_soft,
    {
        "those are the rows: a pixel's weights are a column, dim=0": partial(group_soft, axis=1),
        "that treats each weight alone: a column is shortened as a whole": soft,
        "the length of a column is the root of its squares, not the sum of its sizes": partial(
            group_soft, power=1
        ),
        "the length of a column is the root of its squares, not its largest weight": partial(
            group_soft, power=np.inf
        ),
        "the root is missing in the length of a column": partial(group_soft, square=True),
        "a column of zeros gave NaN: keep the length away from 0 before you divide": _by_direction,
        "a short column becomes zero, and does not turn around: max(..., 0)": lambda W, t: (
            np.asarray(W, float)
            * (1 - t / np.maximum(np.linalg.norm(np.asarray(W, float), axis=0), 1e-12))
        ),
        "what is left is the column times its factor, not the factor": lambda W, t: np.maximum(
            1 - t / np.maximum(np.linalg.norm(np.asarray(W, float), axis=0), 1e-12), 0
        ),
        "that keeps long columns as they are: each one loses t of its length": lambda W, t: (
            np.asarray(W, float) * (np.linalg.norm(np.asarray(W, float), axis=0) > t)
        ),
        "that is the length of the whole matrix: each column has its own": partial(
            group_soft, axis=(0, 1)
        ),
    },
)
def check_group_soft(answer: Answer) -> None:
    """A tensor of the shape of W."""
    import torch  # the lesson has imported it already

    generator = torch.Generator().manual_seed(0)
    W = torch.randn(4, 3, generator=generator)
    dead = W.clone()
    dead[:, 1] = 0.0
    example = torch.tensor([[3.0, 0.3], [4.0, 0.4]])
    compare(answer, [(example, 1.0), (W, 0.7), (W[:, :2], 1.5), (dead, 0.4)])

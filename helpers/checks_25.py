"""Checks of the try-it and the exercises of lesson 25.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def step_slope(
    x, step, qmin, qmax,
    *, rounded=lambda v, step: np.rint(v) - v, clipped=lambda v, limit: limit, seen=np.positive,
):  # fmt: skip
    v = x / step
    slope = np.where(seen(v) > qmax, clipped(v, qmax), rounded(v, step))
    return np.where(seen(v) < qmin, clipped(v, qmin), slope)


@exercise(
    "25.0",
    step_slope,
    {
        "where it is clipped, x_hat is step * qmax (or qmin): its slope is that limit": dict(
            clipped=lambda v, limit: 0.0
        ),
        "where it is clipped, the slope is the limit: qmin below, qmax above": dict(
            clipped=lambda v, limit: np.sign(v)
        ),
        "subtract v only where x is rounded, not where it is clipped": dict(
            clipped=lambda v, limit: limit - v
        ),
        "that is torch's rule: what exceeds qmax is clipped, though it may round to it": dict(
            seen=np.rint
        ),
        "the step also changes v = x / step: subtract v where x is rounded": dict(
            rounded=lambda v, step: np.rint(v)
        ),
        "the sign is wrong: the rounded value minus v": lambda *a: -step_slope(*a),
        "the sign is wrong where x is rounded: the rounded value minus v": dict(
            rounded=lambda v, step: v - np.rint(v)
        ),
        "in steps, not in units of x: divide by the step": dict(
            rounded=lambda v, step: step * (np.rint(v) - v)
        ),
        "round to the nearest, do not cut off": dict(rounded=lambda v, step: np.floor(v) - v),
        "that is the slope by x, which is 1 where x is rounded: here the step moves": dict(
            rounded=lambda v, step: 1.0, clipped=lambda v, limit: 0.0
        ),
    },
)
def check_step_slope(answer: Answer) -> None:
    """A float array of the shape of x."""
    x = np.array([0.3, 0.6, 1.2, -9.0, -0.62, 0.0, 0.2, -0.9, -1.1, 2.1])
    compare(answer, [(x, 0.5, -2, 1), (x, 0.25, -8, 7), (x, 0.5, 0, 3), (4 * x, 1.5, -3, 2)])


def lsq_backward(
    dx_hat, x, step, qmin, qmax,
    *, inside=lambda v, low, high: (low <= v) & (v <= high), slope=step_slope,
    factor=lambda N, qmax: (N * qmax) ** -0.5, weigh=np.positive,
):  # fmt: skip
    dx = dx_hat * inside(x / step, qmin, qmax)
    dstep = (weigh(dx_hat) * slope(x, step, qmin, qmax)).sum()
    return dx, dstep * factor(x.size, qmax)


@exercise(
    "25.1",
    lsq_backward,
    {
        "what is clipped passes no gradient to x": dict(inside=lambda v, low, high: 1.0),
        "dx is dx_hat where x is rounded, not 1": lambda dx_hat, *a: (
            np.sign(lsq_backward(np.ones_like(dx_hat), *a)[0]),
            lsq_backward(dx_hat, *a)[1],
        ),
        "what exceeds a limit is clipped, though it may round to it": dict(
            inside=lambda v, low, high: (low <= np.rint(v)) & (np.rint(v) <= high)
        ),
        "dstep is not scaled: divide the sum by sqrt(N qmax)": dict(factor=lambda N, qmax: 1.0),
        "qmax is missing in the scale: divide by sqrt(N qmax)": dict(
            factor=lambda N, qmax: N**-0.5
        ),
        "N is missing in the scale: divide by sqrt(N qmax)": dict(
            factor=lambda N, qmax: qmax**-0.5
        ),
        "the root is missing in the scale: divide by sqrt(N qmax)": dict(
            factor=lambda N, qmax: 1 / (N * qmax)
        ),
        "multiply each slope by its dx_hat before the sum": dict(weigh=np.ones_like),
        "a clipped value moves the step, too: its slope is the limit": dict(
            slope=lambda *a: step_slope(*a, clipped=lambda v, limit: 0.0)
        ),
        "the slope by the step is the rounded value minus v": dict(
            slope=lambda *a: step_slope(*a, rounded=lambda v, step: v - np.rint(v))
        ),
    },
)
def check_lsq_backward(answer: Answer) -> None:
    """Two results: a float array of the shape of x, and one number."""
    rng = np.random.default_rng(25)
    cases = [(np.array([1.0, 1, 2]), np.array([0.3, 0.6, -9.0]), 0.5, -2, 1)]
    for size, step, qmin, qmax in ((12, 0.4, -4, 3), (20, 0.3, 0, 3), (9, 0.7, -2, 1)):
        cases.append((rng.normal(size=size), 1.5 * rng.normal(size=size), step, qmin, qmax))
    compare(answer, cases, "dx, dstep")


def oscillation_frequency(integers, m, *, turned=True, keep=True, average=None):
    """`average` may be another rule than the moving one, of o [steps - 1, weights] and m."""
    f, last, turns = np.zeros(integers.shape[1]), np.zeros(integers.shape[1]), []
    for change in np.sign(np.diff(integers.astype(int), axis=0)):
        turns.append(change * last < 0 if turned else change != 0)
        last = np.where((change != 0) | (not keep), change, last)
        f = m * turns[-1] + (1 - m) * f
    return average(np.array(turns), m) if average else f


@exercise(
    "25.2",
    oscillation_frequency,
    {
        "a weight that goes on in the same direction does not oscillate": dict(turned=False),
        "the last change may lie several steps back: keep it while nothing moves": dict(keep=False),
        "m weighs the newest o, and 1 - m what was before": (
            lambda integers, m: oscillation_frequency(integers, 1 - m)
        ),
        "that is the share of steps that turn back: form the moving average": dict(
            average=lambda o, m: o.mean(0)
        ),
        "that is the number of steps that turn back: form the moving average": dict(
            average=lambda o, m: o.sum(0)
        ),
        "go through the steps in order: f forgets the early ones": (
            lambda integers, m: oscillation_frequency(integers[::-1], m)
        ),
    },
)
def check_oscillation_frequency(answer: Answer) -> None:
    """One f for each weight, an array [weights]."""
    draw = np.random.default_rng(1)
    walk = np.cumsum(draw.integers(-1, 2, (12, 30)), axis=0).astype(np.int8)
    jumps = draw.integers(-4, 4, (7, 5))
    compare(answer, [(np.array([[0, 1, 0, 0, 1, 2]]).T, 0.5), (walk, 0.1), (jumps, 0.3)], "f")

"""Checks of lesson 38, The order of the steps."""

from __future__ import annotations

import operator

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare

DRAWN = np.random.default_rng(38)


def least_bytes(levels, *, base=2.0, per=8, total=True, bias=False):
    """The entropy bound of 38.0, or with an option changed, one of its mistakes."""
    _, count = np.unique(levels, return_counts=True)
    p = count / count.sum()
    p = np.full(len(p), 1 / len(p)) if bias else p
    H = -(p * np.log(p)).sum() / np.log(base)
    return (len(levels) if total else 1) * H / per


@exercise(
    "38.0",
    least_bytes,
    {
        "bytes are asked for: eight bits each": {"per": 1},
        "bits come from the logarithm to the base 2": {"base": np.e},
        "that is the entropy of one weight: there are n of them": {"total": False},
        "some levels are more frequent than others: log2 of their number is too much": {
            "bias": True
        },
        "p is the share of a level among all weights, not the level": lambda levels: (
            least_bytes(levels) + np.abs(levels).sum()
        ),
        "an entropy is not negative: mind the sign of the logarithm": lambda levels: (
            -least_bytes(levels)
        ),
        "the bound counts parts of bits, too: do not round up": lambda levels: np.ceil(
            least_bytes(levels)
        ),
    },
)
def check_least_bytes(answer: Answer) -> None:
    """One number of bytes."""
    cases = [np.array([0, 0, 0, 0, 1, 1, -2, 3]), np.array([-1, 2, -1, 2, -1, -1])]
    cases += [DRAWN.integers(-3, 4, 50) // 2, DRAWN.binomial(6, 0.4, 80) - 3]
    compare(answer, [(levels,) for levels in cases], "bytes")


def best_within(sizes, times, accuracies, most, longest, *, below=operator.le, ties=True):
    """The network of 38.1, or with an option changed, one of its mistakes."""
    sizes, times, accuracies = (np.asarray(v, float) for v in (sizes, times, accuracies))
    fits = np.flatnonzero(below(sizes, most) & below(times, longest))
    if not len(fits):
        return -1
    order = np.lexsort([sizes[fits] if ties else -sizes[fits], -accuracies[fits]])
    return int(fits[order[0]])


def _place_among_those_that_fit(sizes, times, accuracies, most, longest):
    fits = np.flatnonzero((np.asarray(sizes) <= most) & (np.asarray(times) <= longest))
    return int(np.argmax(np.asarray(accuracies)[fits])) if len(fits) else -1


@exercise(
    "38.1",
    best_within,
    {
        "a file of exactly the limit fits": {"below": operator.lt},
        "the time has a limit, too": {"longest": np.inf},
        "the file has a limit, too": {"most": np.inf},
        "of two equally accurate networks take the smaller file": {"ties": False},
        "the most accurate one is asked for, not the smallest file": lambda s, t, a, *limits: (
            best_within(s, t, -np.asarray(s, float), *limits)
        ),
        "that is its place among those that fit: return its place among all": (
            _place_among_those_that_fit
        ),
        "if nothing fits, return -1": lambda s, t, a, most, longest: max(
            0, best_within(s, t, a, most, longest)
        ),
    },
)
def check_best_within(answer: Answer) -> None:
    """One whole number: a place, or -1."""
    sizes, times = np.array([300, 80, 90, 40, 40]), np.array([1.0, 1.0, 0.4, 0.5, 0.3])
    accuracies = np.array([95, 93, 93, 91, 91])
    limits = [(100, 1.0), (100, 0.5), (80, 1.0), (40, 0.4), (39, 1.0), (1000, 0.45), (60, 2.0)]
    cases = [(sizes, times, accuracies, *limit) for limit in limits]
    for _ in range(3):
        drawn = DRAWN.integers(1, 9, 10), DRAWN.integers(1, 9, 10), DRAWN.integers(80, 86, 10)
        cases.append((*drawn, 5, 5))
    compare(answer, cases, "place")


def front(costs, *, sign=1, keep=slice(None), strict=True, every=False, invert=False):
    """Which networks no other beats, of 38.2, or with an option changed, one of its mistakes."""
    costs = sign * np.asarray(costs, float)[:, keep]
    a, b = costs[:, None], costs[None]
    better = (a < b).all(2) if every else (a < b).any(2)
    beats = (a <= b).all(2) & (better if strict else True)
    return np.flatnonzero(beats.any(0) if invert else ~beats.any(0))


@exercise(
    "38.2",
    front,
    {
        "the front is what is not beaten": {"invert": True},
        "costs are better when they are smaller": {"sign": -1},
        "a network does not beat its equal: one of the costs must be smaller": {"strict": False},
        "one cost must be smaller, the others may be equal": {"every": True},
        "all columns count, not the first two": {"keep": slice(2)},
        "all columns count, the first one, too": {"keep": slice(1, None)},
        "no larger in all costs, not in one of them": lambda costs: np.flatnonzero(
            ~(np.asarray(costs)[:, None] < np.asarray(costs)[None]).any(2).any(0)
        ),
        "places count from 0": lambda costs: front(costs) + 1,
        "in ascending order of the places": lambda costs: front(costs)[::-1],
    },
)
def check_front(answer: Answer) -> None:
    """Whole numbers, the places."""
    cases = [
        np.array([[300, 1, 7], [80, 1, 7], [90, 0.4, 8], [40, 1, 9]]),
        np.array([[1, 2, 3], [1, 2, 3], [2, 2, 3], [0, 5, 5]]),
        np.array([[3, 3, 2], [1, 1, 1], [2, 4, 3]]),
        *(DRAWN.integers(0, 5, (12, 3)) for _ in range(4)),
        DRAWN.integers(0, 4, (9, 2)),
    ]
    compare(answer, [(costs,) for costs in cases], "front")


def float_rounds(order, *, own=1, until="Q"):
    """The rounds of 38.3, or with an option changed, one of its mistakes."""
    begin = order.index("P")
    end = order.index(until) if until in order else len(order)
    return max(0, (end if until else len(order)) - begin - 1 + own)


@exercise(
    "38.3",
    float_rounds,
    {
        "P's own round counts, too": lambda order: max(0, float_rounds(order) - 1),
        "with quantizers in place from the start there is no such round: 0": lambda order: (
            order.index("Q") - order.index("P") if "Q" in order else float_rounds(order)
        ),
        "rounds after Q's change have quantizers": lambda order: len(order) - order.index("P"),
        "Q's own round has quantizers in place": lambda order: (
            float_rounds(order) + ("Q" in order and order.index("P") < order.index("Q"))
        ),
        "rounds before P do not train the pruned network": lambda order: (
            order.index("Q") if "Q" in order else len(order)
        ),
        "an order without Q has no quantizers: count to its end": lambda order: (
            float_rounds(order) if "Q" in order else 0
        ),
    },
)
def check_float_rounds(answer: Answer) -> None:
    """One whole number."""
    orders = ("PDQ", "PQD", "DPQ", "DQP", "QPD", "QDP", "PD", "DP", "P", "DPDQ", "PDDQ", "QP")
    compare(answer, [(order,) for order in orders], "rounds")

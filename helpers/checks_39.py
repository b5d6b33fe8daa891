"""Checks of lesson 39, Architecture search."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def pareto(costs, scores, *, strict=True, swapped=False, turned=False):
    """The front of 39.0, or with an option changed, one of its mistakes."""
    c, s = np.asarray(costs), np.asarray(scores)
    c, s = (-c if swapped else c), (-s if turned else s)
    beaten = (c[:, None] <= c) & (s[:, None] >= s)
    if strict:
        beaten &= (c[:, None] < c) | (s[:, None] > s)
    return (~beaten.any(0)).astype(int)


def _truths(function):
    """The function, its 0 and 1 as bool."""
    return lambda costs, scores: function(costs, scores).astype(bool)


@exercise(
    "39.0",
    _truths(pareto),
    {
        "costs are to be small: a network that costs less is the better one": _truths(
            partial(pareto, swapped=True)
        ),
        "scores are to be large": _truths(partial(pareto, turned=True)),
        "that is turned around: True on the front": lambda costs, scores: (
            ~pareto(costs, scores).astype(bool)
        ),
        "no network dominates itself, or its equal: it must be better in one of the two": _truths(
            partial(pareto, strict=False)
        ),
        "that is the best score alone: the front has a network for each cost": (
            lambda costs, scores: scores == np.max(scores)
        ),
        "to dominate, a network need not be better in both: as good in one is enough": (
            lambda costs, scores: ~((costs[:, None] < costs) & (scores[:, None] > scores)).any(0)
        ),
        "a network is beaten only by one that is as good in both, not in one of the two": (
            lambda costs, scores: ~((costs[:, None] < costs) | (scores[:, None] > scores)).any(0)
        ),
    },
)
def check_pareto(answer: Answer) -> None:
    """A bool array [n]."""
    rng = np.random.default_rng(0)
    cases = [(np.array([1.0, 2, 3, 4]), np.array([70.0, 74, 73, 78]))]
    cases += [(rng.normal(size=n), rng.normal(size=n)) for n in (6, 25)]
    cases.append((np.array([1.0, 2, 3]), np.array([5.0, 3, 4])))
    ties = rng.integers(0, 4, 15).astype(float), rng.integers(0, 4, 15).astype(float)

    def as_ints(function, costs, scores):
        found = function(costs, scores)
        values = np.asarray(found)
        return values.astype(int) if values.dtype == bool else found

    compare(answer, [*cases, ties], run=as_ints)


def hit(good, total, drawn, *, miss=False):
    """The probability of 39.1, or with `miss`, that of the opposite."""
    missed = math.comb(total - good, drawn) / math.comb(total, drawn)
    return missed if miss else 1 - missed


@exercise(
    "39.1",
    hit,
    {
        "that is the probability that all draws miss: one minus it is asked for": partial(
            hit, miss=True
        ),
        "no network is drawn twice: use math.comb": lambda good, total, drawn: (
            1 - (1 - good / total) ** drawn
        ),
        "that is the mean number of good ones among the draws": lambda good, total, drawn: (
            good * drawn / total
        ),
        "that is the probability that all good ones are drawn": lambda good, total, drawn: (
            math.comb(total - good, drawn - good) / math.comb(total, drawn)
            if drawn >= good
            else 0.0
        ),
        "that is the probability that the first draw hits": lambda good, total, drawn: good / total,
    },
)
def check_hit(answer: Answer) -> None:
    """One float in 0...1."""
    compare(answer, [(6, 115, 24), (1, 10, 3), (5, 100, 24), (3, 20, 18), (2, 9, 2)])


def spearman(a, b, *, of=lambda v: np.argsort(np.argsort(v)), power=2, cube=True):
    """The correlation of 39.2, or with an option changed, one of its mistakes."""
    d, n = np.abs(of(np.asarray(a)) - of(np.asarray(b))), len(a)
    return float(1 - 6 * (d**power).sum() / (n * ((n**2 if cube else n) - 1)))


@exercise(
    "39.2",
    spearman,
    {
        "argsort is no rank yet: it tells who stands at each place; sort it once more": partial(
            spearman, of=np.argsort
        ),
        "square the differences of ranks": partial(spearman, power=1),
        "the denominator is n (n**2 - 1)": partial(spearman, cube=False),
        "that is Pearson's correlation of the values: take their ranks": lambda a, b: float(
            np.corrcoef(a, b)[0, 1]
        ),
        "the sign is turned around: equal orders give 1": lambda a, b: -spearman(a, b),
        "that is the part that is subtracted from 1": lambda a, b: 1 - spearman(a, b),
    },
)
def check_spearman(answer: Answer) -> None:
    """One float."""
    rng = np.random.default_rng(0)
    cases = [(np.array([70.0, 72, 75, 74]), np.array([84.0, 83, 88, 86]))]
    cases += [(rng.normal(size=n), rng.normal(size=n) ** 3) for n in (5, 12, 30)]
    compare(answer, cases)


def rank_sum(a, b, *, of=lambda v: np.argsort(np.argsort(v)), add=np.add, first=0):
    """The sums of 39.3, or with an option changed, one of its mistakes."""
    return add(of(np.asarray(a)), of(np.asarray(b))) + 2 * first


@exercise(
    "39.3",
    rank_sum,
    {
        "argsort is no rank yet: it tells who stands at each place; sort it once more": partial(
            rank_sum, of=np.argsort
        ),
        "count ranks from 0": partial(rank_sum, first=1),
        "the smallest has rank 0, not the largest": partial(
            rank_sum, of=lambda v: np.argsort(np.argsort(-v))
        ),
        "add the ranks": partial(rank_sum, add=np.multiply),
        "that is their difference: add the ranks": partial(rank_sum, add=np.subtract),
        "those are the ranks by `a` alone": lambda a, b: np.argsort(np.argsort(a)),
        "those are the ranks by `b` alone": lambda a, b: np.argsort(np.argsort(b)),
        "add the ranks, not the values": lambda a, b: a + b,
    },
)
def check_rank_sum(answer: Answer) -> None:
    """An int array [n]."""
    rng = np.random.default_rng(0)
    cases = [(np.array([70.0, 72, 75]), np.array([9.0, 7, 8]))]
    compare(answer, cases + [tuple(rng.normal(size=(2, n))) for n in (4, 9, 24)])

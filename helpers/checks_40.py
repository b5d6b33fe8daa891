"""Checks of lesson 40, measuring on a device.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def expected_ties(leads, step, *, low=0.0, total=np.sum):
    return float(total(np.maximum(low, 1 - np.asarray(leads) / step)))


@exercise(
    "40.0",
    expected_ties,
    {
        "a probability is never below 0: a lead beyond the step makes no tie": dict(low=-np.inf),
        "that is the mean: add the probabilities up": dict(total=np.mean),
        "d / s is the probability of a border between them: a tie is the rest": (
            lambda leads, step: float(np.minimum(1, leads / step).sum())
        ),
        "a lead below the step is a tie only with a probability: add those up": (
            lambda leads, step: float((leads < step).sum())
        ),
        "divide the leads by the step": lambda leads, step: expected_ties(leads, 1.0),
        "it is d / s, not s / d": (
            lambda leads, step: float(np.maximum(0, 1 - step / leads).sum())
        ),
        "borders come every s, not every s / 2": (
            lambda leads, step: expected_ties(leads, step / 2)
        ),
    },
)
def check_expected_ties(answer: Answer) -> None:
    """One number, float."""
    rng = np.random.default_rng(40)
    cases = [(np.array([0.2, 0.7, 5.0]), 1.0), (rng.exponential(0.3, 50), 0.25)]
    cases += [(rng.exponential(2.0, 200), 0.09), (np.array([0.01, 0.4]), 2.0)]
    compare(answer, cases)


def percentile(times, part, *, whole=math.ceil, first=1, least=True, ordered=True):
    order = np.sort(times) if ordered else np.asarray(times)
    place = whole(round(part * len(order), 9)) - first
    return float(order[max(place, 0) if least else place])


@exercise(
    "40.1",
    percentile,
    {
        "sort the times first": dict(ordered=False),
        "round up: the share of times up to it must reach q": dict(whole=math.floor),
        "counted from 1, the place is ceil(q n): Python counts from 0": (
            lambda times, part: percentile(
                np.r_[times, max(times)], part * len(times) / (len(times) + 1), first=0
            )
        ),
        "it is one of the times: do not interpolate": (
            lambda times, part: float(np.quantile(times, part))
        ),
        "that is from the slowest down: sort from the fastest up": (
            lambda times, part: -percentile(-np.asarray(times), part)
        ),
        "a part of the time's range is no percentile: count the times": (
            lambda times, part: float(min(times) + part * (max(times) - min(times)))
        ),
    },
)
def check_percentile(answer: Answer) -> None:
    """One of the times, float."""
    rng = np.random.default_rng(401)
    cases = [(np.array([3.0, 1.0, 2.0, 9.0, 4.0, 5.0, 6.0, 7.0, 8.0, 20.0]), 0.9)]
    cases += [(rng.exponential(1.0, 7), 0.5), (rng.exponential(2.0, 130), 0.99)]
    cases += [(rng.exponential(2.0, 41), 0.9), (rng.exponential(1.0, 25), 0.33)]
    compare(answer, cases)


def runs_needed(part, sure, *, whole=math.ceil):
    return whole(math.log(1 - sure) / math.log(part))


@exercise(
    "40.2",
    runs_needed,
    {
        "round up: one run fewer is not sure enough": dict(whole=math.floor),
        "a number of runs is whole": dict(whole=float),
        "that is for being unsure: 1 - q^n is to reach `sure`": (
            lambda part, sure: runs_needed(part, 1 - sure)
        ),
        "q^n is the probability that all n stay below: q, not 1 - q": (
            lambda part, sure: runs_needed(1 - part, sure)
        ),
        "on average one in 1 / (1 - q) is beyond: that is not sure enough": (
            lambda part, sure: math.ceil(round(1 / (1 - part), 6))
        ),
        "probabilities of independent runs multiply: n (1 - q) is no probability": (
            lambda part, sure: math.ceil(round(sure / (1 - part), 6))
        ),
    },
)
def check_runs_needed(answer: Answer) -> None:
    """A number of runs, int."""
    cases = [(0.99, 0.95), (0.9, 0.95), (0.999, 0.95), (0.99, 0.5), (0.95, 0.99), (0.5, 0.9)]
    compare(answer, cases)


def worth(parts, stage, times_faster, *, others=True, turned=False):
    total = sum(parts)
    left = total - parts[stage] + parts[stage] / times_faster
    found = (total if others else parts[stage]) / (left if others else left - total + parts[stage])
    return 1 / found if turned else found


@exercise(
    "40.3",
    worth,
    {
        "that is how much faster the stage becomes, not the whole": dict(others=False),
        "that is the part of the time that is left: turn it over": dict(turned=True),
        "the other stages still take their time": (
            lambda parts, stage, k: sum(parts) / (parts[stage] / k)
        ),
        "k times faster is 1 / k of the time, not 1 - 1 / k": (
            lambda parts, stage, k: worth(parts, stage, k / (k - 1))
        ),
        "stages are counted from 0": (lambda parts, stage, k: worth(parts, stage - 1, k)),
        "the stage's own time must go before its new time is added": (
            lambda parts, stage, k: sum(parts) / (sum(parts) + parts[stage] / k)
        ),
    },
)
def check_worth(answer: Answer) -> None:
    """One number, float."""
    cases = [([6.0, 1.0, 3.0], 2, 3.0), ([6.0, 1.0, 3.0], 0, 2.0), ([1.0, 4.0], 1, 8.0)]
    cases += [([2.0, 5.0, 1.0, 2.0], 1, 1.5), ([0.2, 0.3], 0, 5.0)]
    compare(answer, cases)

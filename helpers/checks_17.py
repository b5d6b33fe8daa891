"""Checks of the try-it and the exercises of lesson 17, motion and people."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from helpers.exercises import Answer, NotYet, as_array, exercise, show
from helpers.mistakes import compare


def windows_of(people, subjects):
    return np.isin(subjects, people)


@exercise(
    "17.0",
    windows_of,
    {
        "those are the windows of the others: True is for the people that are asked for": (
            lambda people, subjects: ~np.isin(subjects, people)
        ),
        "only the first person's windows are marked": (
            lambda people, subjects: subjects == people[0]
        ),
        "only the last person's windows are marked": (
            lambda people, subjects: subjects == people[-1]
        ),
        "a window that belongs to all of the people at once does not exist: any of them will do": (
            lambda people, subjects: np.all([subjects == p for p in people], axis=0)
        ),
        "a mask is asked for, not row numbers": (
            lambda people, subjects: np.flatnonzero(np.isin(subjects, people))
        ),
        "one answer for each window, not for each person": (
            lambda people, subjects: np.isin(people, subjects)
        ),
    },
)
def check_windows_of(answer: Answer) -> None:
    """A bool array [N]."""
    cases = []
    for people, subjects in (
        ([3, 7], [12, 3, 3, 7, 40, 12, 7]),
        ([40], [40, 2, 40, 9]),
        ([1, 2, 5], [5, 9, 1, 1, 8, 2, 2, 2, 9]),
    ):
        cases.append((people, np.array(subjects)))
    compare(answer, cases, run=_marked)
    if np.asarray(answer(*cases[0])).dtype != bool:
        raise NotYet("a mask is bool, True and False: with 0 and 1, ~ would not turn it over")


def _marked(function, people, subjects):
    """The mask as 0 and 1, which NumPy compares; other values stay what they are."""
    marked = function(list(people), subjects)
    values = np.asarray(marked)
    return values.astype(int) if values.dtype == bool else marked


def split_people(subjects, held, generator):
    out = np.isin(subjects, generator.choice(np.unique(subjects), held, replace=False))
    return np.flatnonzero(~out), np.flatnonzero(out)


def _split(result: object, subjects: np.ndarray, held: int) -> frozenset[int]:
    """The people in the test rows; NotYet if the two parts are no split by person."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise NotYet(f"return two arrays, the training rows and the test rows, not {show(result)}")
    if any(isinstance(rows, tuple) for rows in result):
        raise NotYet("np.where and np.nonzero return a tuple: take its [0]")
    if any(str(getattr(rows, "dtype", "")) in ("bool", "torch.bool") for rows in result):
        raise NotYet("row numbers are asked for, not masks: np.flatnonzero turns one into them")
    training, testing = (as_array(rows, "two arrays of row numbers") for rows in result)
    if training.ndim != 1 or testing.ndim != 1:
        raise NotYet(f"row numbers of shape {training.shape} and {testing.shape}: each is a list")
    if any(rows.dtype.kind == "f" and rows.size for rows in (training, testing)):
        raise NotYet(f"row numbers are whole: these arrays hold {training.dtype}")
    rows = sorted([*training.tolist(), *testing.tolist()])
    outside = [row for row in rows if not 0 <= row < len(subjects)]
    if outside:
        raise NotYet(f"row {outside[-1]:g} does not exist: return places, not names of people")
    people, others = (set(subjects[part.astype(int)].tolist()) for part in (testing, training))
    if people & others:
        raise NotYet("one person stands in both parts: draw people, not windows")
    if rows != list(range(len(subjects))):
        raise NotYet("every window belongs to one of the two parts, once")
    if len(people) != held and len(others) == held:
        raise NotYet("the two parts are swapped: training first, then the people held out")
    if len(people) != held:
        raise NotYet(f"held={held}: {len(people)} people are in the test part")
    return frozenset(people)


@exercise("17.1", split_people, {})
def check_split_people(answer: Answer) -> None:
    """Two arrays of row numbers, (training, testing)."""
    for subjects in (
        np.array([12, 12, 3, 40, 3, 12, 7, 40, 40, 7, 3, 25]),
        np.array([-2, 900, 5, 5, -2, 0, 900, 61, 0, 33]),
    ):
        everyone, drawn = set(subjects.tolist()), set()
        for seed in range(200):
            held = 1 + seed % 4
            people, again = (
                _split(answer(subjects, held, np.random.default_rng(seed)), subjects, held)
                for _ in range(2)
            )
            if again != people:
                raise NotYet("the same seed gave another split: draw from the generator")
            drawn.add(people)
        if set().union(*drawn) != everyone:
            ever = sorted(set().union(*drawn))
            raise NotYet(f"only {ever} were ever held out: draw from all the people")
        pairs = sum(len(people) == 2 for people in drawn)
        if pairs < 0.6 * math.comb(len(everyone), 2):
            raise NotYet(f"50 draws of two people gave {pairs} pairs: each person is drawn freely")


def interval_over_people(right, subjects, *, centre=np.mean, ddof=1, point=0.975, root=np.sqrt,
                         over=None, degrees=-1):  # fmt: skip
    right, people = np.asarray(right, float), np.unique(subjects)
    accuracies = np.array([right[subjects == person].mean() for person in people])
    accuracies = accuracies if over is None else over(right, accuracies)
    n = len(accuracies)
    spread = accuracies.std(ddof=ddof)
    t = stats.t.ppf(point, n + degrees) if degrees is not None else stats.norm.ppf(point)
    return float(centre(accuracies)), float(t * spread / root(n))


@exercise(
    "17.2",
    interval_over_people,
    {
        "each person counts once: first the accuracy of each person, then their mean": dict(
            over=lambda right, accuracies: right
        ),
        "std needs ddof=1: the mean was estimated from the same people": dict(ddof=0),
        "95 % leave 2.5 % at either end: the point is 0.975": dict(point=0.95),
        "divide by the root of n, not by n": dict(root=float),
        "the root of n is missing: people average out": dict(root=lambda n: 1.0),
        "Student's t has n - 1 degrees of freedom here": dict(degrees=0),
        "with so few people the normal distribution is too narrow: take Student's t": dict(
            degrees=None
        ),
        "the half-width is asked for, not the whole width": (
            lambda right, subjects: (
                interval_over_people(right, subjects)[0],
                2 * interval_over_people(right, subjects)[1],
            )
        ),
        "return the mean and the half-width, not the two ends": (
            lambda right, subjects: (
                interval_over_people(right, subjects)[0] - interval_over_people(right, subjects)[1],
                interval_over_people(right, subjects)[0] + interval_over_people(right, subjects)[1],
            )
        ),
    },
)
def check_interval_over_people(answer: Answer) -> None:
    """Two numbers, (mean, half-width)."""
    rng = np.random.default_rng(172)
    cases = [(np.array([1, 1, 1, 0, 1, 1]), np.array([4, 4, 9, 9, 2, 2]))]
    for people in (4, 7):
        subjects = rng.permutation(np.repeat(np.arange(people) + 30, 5 + 3 * np.arange(people)))
        cases.append((rng.random(len(subjects)) < 0.4 + 0.01 * (subjects % 30) ** 2, subjects))
    compare(answer, cases, "mean, half-width", advice="first each person's accuracy")

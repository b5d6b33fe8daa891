"""Checks of lesson 46, keyword spotting.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def frames(x, W, H):
    return np.stack([x[t * H : t * H + W] for t in range(1 + (len(x) - W) // H)])


@exercise(
    "46.0",
    frames,
    {
        "the last frame is left out: there are 1 + (n - W) // H": (
            lambda x, W, H: frames(x, W, H)[:-1]
        ),
        "a frame begins every H samples, not every W": (
            lambda x, W, H: np.stack([x[k * W : (k + 1) * W] for k in range(len(x) // W)])
        ),
        "only whole frames: what is left at the end waits": (
            lambda x, W, H: np.stack(
                [np.pad(x[k : k + W], (0, max(0, k + W - len(x)))) for k in range(0, len(x), H)]
            )
        ),
        "one frame a row: [T, W], not [W, T]": lambda x, W, H: frames(x, W, H).T,
    },
)
def check_frames(answer: Answer) -> None:
    """Frames [T, W], array of the samples' numbers."""
    rng = np.random.default_rng(46)
    cases = [(np.arange(7.0), 4, 2)]
    cases += [(rng.standard_normal(n), W, H) for n, W, H in ((50, 8, 3), (64, 16, 16), (41, 9, 4))]
    compare(answer, cases)


def without_running_mean(mels, a, *, start=None, late=False, turned=False):
    mels = np.asarray(mels, float)
    keep = 1 - a if turned else a
    mean, made = (mels[0] if start is None else np.full_like(mels[0], start)), []
    for row in mels:
        before, mean = mean, keep * mean + (1 - keep) * row
        made.append(row - (before if late else mean))
    return np.array(made)


@exercise(
    "46.1",
    without_running_mean,
    {
        "the mean begins at the first frame, not at 0": dict(start=0.0),
        "update the mean first, then subtract it": dict(late=True),
        "a belongs to the old mean, 1 - a to the new frame": dict(turned=True),
        "that is the mean of all frames, which a stream does not know yet": (
            lambda mels, a: mels - mels.mean(0)
        ),
    },
)
def check_without_running_mean(answer: Answer) -> None:
    """Log-mels without their running mean, float array [T, bands]."""
    rng = np.random.default_rng(461)
    cases = [(np.array([[0.0], [4.0], [4.0]]), 0.5)]
    cases += [(rng.standard_normal((12, 3)) + 2, a) for a in (0.9, 0.3)]
    compare(answer, cases)


def two_of_three(p, threshold, rest, *, needed=2, span=3, more=0):
    found = []
    for i in range(len(p)):
        passed = np.sum(np.asarray(p)[max(0, i - span + 1) : i + 1] > threshold) >= needed
        if passed and (not found or i - found[-1] >= rest + more):
            found.append(i)
    return found


@exercise(
    "46.2",
    two_of_three,
    {
        "one probability is not enough: two of the last three": dict(needed=1),
        "two of three, not all three": dict(needed=3),
        "two of the last three: they need not be neighbors": dict(span=2),
        "an alarm may come when the last one is `rest` windows ago, not one later": dict(more=1),
        "rest after each alarm: one word would raise many": dict(rest=1),
    },
)
def check_two_of_three(answer: Answer) -> None:
    """The windows of the alarms, a list of integers."""
    rng = np.random.default_rng(462)
    cases = [(np.array([0.9, 0.1, 0.9, 0.9, 0.9]), 0.5, 2)]
    cases += [(rng.random(40), threshold, rest) for threshold, rest in ((0.5, 3), (0.7, 5))]
    compare(answer, cases)


def hours_needed(rate, count, confidence, *, extra=2, tail=False, multiply=False):
    level = 1 - (1 - confidence) / 2 if tail else confidence
    mean = chi2.ppf(level, 2 * count + extra) / 2 if 2 * count + extra else 0.0
    return float(mean * rate if multiply else mean / rate)


@exercise(
    "46.3",
    hours_needed,
    {
        "that is the lower end's chi-squared: 2 count + 2 degrees of freedom": dict(extra=0),
        "one-sided: the whole of 1 - confidence lies on one side": dict(tail=True),
        "events / rate are hours": dict(multiply=True),
        "half of chi-squared": lambda rate, count, c: 2 * hours_needed(rate, count, c),
    },
)
def check_hours_needed(answer: Answer) -> None:
    """Hours, float."""
    compare(answer, [(0.1, 0, 0.95), (1.0, 3, 0.9), (0.5, 12, 0.99), (1 / 24, 1, 0.95)])

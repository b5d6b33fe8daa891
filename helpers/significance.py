"""Whether two models really differ, and how sure an accuracy is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval, in the unit of the estimate."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class AccuracyComparison:
    """accuracy_b - accuracy_a with its 95 % interval, in 0..1; p: exact McNemar test, two-sided.

    only_a and only_b count the examples that a alone and b alone gets right.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    p: float
    only_a: int
    only_b: int


def _classes(name: str, prediction: np.ndarray) -> np.ndarray:
    """int [N] of predicted classes, as they are, or from logits [N, C]."""
    values = np.asarray(prediction)
    if values.ndim == 2 and values.shape[1] > 1 and not np.isnan(values).any():
        return values.argmax(1)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name} is {values.dtype} {values.shape}: pass classes as integers [N], or logits "
            "[N, C] with C >= 2 and no NaN"
        )
    return values


def compare_accuracy(
    pred_a: np.ndarray, pred_b: np.ndarray, labels: np.ndarray
) -> AccuracyComparison:
    """Two models on the same examples: does b get more of them right than a, and how many more?

    pred_a, pred_b: predicted classes int [N], or logits [N, C]. labels: int [N].
    p: exact test of McNemar (1947): if both were equally good, each example that only one of them
    gets right would fall to either with probability 1/2. p is 1 where there is none.
    low, high: 95 % interval of accuracy_b - accuracy_a, in -1..1, by the Laplace-adjusted Wald
    method for pairs (Bonett and Price 2012; recommended by Fagerland, Lydersen and Laake 2014).
    Near p = 0.05 the two may disagree, since the exact test is the more careful one.
    Raises ValueError for other shapes, different N, or none.
    """
    from scipy.stats import binomtest, norm

    a, b = _classes("pred_a", pred_a), _classes("pred_b", pred_b)
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype} {labels.shape}: pass integers [N]")
    n = len(labels)
    if n == 0 or len(a) != n or len(b) != n:
        raise ValueError(
            f"{len(a)} and {len(b)} predictions, {n} labels: pass as many, at least one"
        )
    right_a, right_b = a == labels, b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = only_a + only_b
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    center = share_b - share_a
    half = norm.ppf(0.975) * ((share_a + share_b - center**2) / (n + 2)) ** 0.5
    return AccuracyComparison(
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        difference=(only_b - only_a) / n,
        low=float(max(center - half, -1)),
        high=float(min(center + half, 1)),
        p=float(binomtest(only_b, discordant).pvalue) if discordant else 1.0,
        only_a=only_a,
        only_b=only_b,
    )


def accuracy_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Accuracy of `correct` right answers out of `total`, with Wilson's score interval (1927)."""
    from scipy.stats import binomtest

    if total < 1 or not 0 <= correct <= total:
        raise ValueError(
            f"correct {correct} of {total}: expected 0 <= correct <= total, total >= 1"
        )
    bounds = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(bounds.low), float(bounds.high))

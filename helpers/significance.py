"""Whether two models really differ, and how sure an accuracy is."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from helpers.arguments import whole


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


def _numbers(name: str, values: object) -> np.ndarray:
    """An array of real numbers from an array, a list, or a tensor (detached, of any dtype)."""
    if hasattr(values, "detach"):  # NumPy takes no tensor with a gradient, and no bfloat16
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:  # a ragged list
        raise ValueError(f"{name} is no array: {error}") from error
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} has dtype {array.dtype}: pass integers, or logits as real numbers"
        )
    return array


def classes(name: str, prediction: object) -> np.ndarray:
    """int [N] of predicted classes, as they are, or the largest of each row of logits [N, C].

    name: what to call the prediction in an error. ValueError for other shapes and dtypes, no rows,
    C < 2, negative classes, and a row whose largest logit is NaN or infinite.

    >>> classes("logits", [[0.1, 2.0], [3.0, -1.0]])
    array([1, 0])
    """
    values = _numbers(name, prediction)
    given = f"{name} is {values.dtype} {values.shape}"
    if values.size == 0:
        raise ValueError(f"{given}: pass at least one row")
    if values.ndim == 2 and values.shape[1] > 1:
        bad = ~np.isfinite(values.max(1))  # the maximum of a row with NaN is NaN
        if bad.any():
            raise ValueError(
                f"{given} with NaN or inf in row {bad.argmax()}: it has no largest one"
            )
        return values.argmax(1)
    if values.ndim != 1 or values.dtype.kind == "f":
        raise ValueError(f"{given}: pass classes as integers [N], or logits [N, C] with C >= 2")
    if values.min() < 0:
        raise ValueError(f"{given} with class {values.min()}: classes count from 0")
    return values


def right(name: str, prediction: object, labels: object) -> np.ndarray:
    """bool [N]: which rows of a prediction (see `classes`) agree with labels, int [N].

    ValueError as `classes` does, also for the labels, for another N, and for a label that no column
    of the logits stands for.

    >>> right("logits", [[0.1, 2.0], [3.0, -1.0]], [1, 1])
    array([ True, False])
    """
    found, wanted = classes(name, prediction), _numbers("labels", labels)
    if wanted.ndim != 1:
        raise ValueError(f"labels have shape {wanted.shape}: pass integers [N]")
    wanted = classes("labels", wanted)
    if len(found) != len(wanted):
        raise ValueError(f"{name} has {len(found)} rows, labels {len(wanted)}: pass as many")
    if np.ndim(prediction) == 2 and wanted.max() >= np.shape(prediction)[1]:
        raise ValueError(
            f"labels go up to {wanted.max()}, but {name} has {np.shape(prediction)[1]} columns: "
            "a label is a column of the logits, from 0"
        )
    return found == wanted


def compare_accuracy(pred_a: object, pred_b: object, labels: object) -> AccuracyComparison:
    """Two models on the same examples: does b get more of them right than a, and how many more?

    pred_a, pred_b: predicted classes int [N], or logits [N, C]. labels: int [N].
    p: exact test of McNemar (1947): if both were equally good, each example that only one of them
    gets right would fall to either with probability 1/2. p is 1 where there is none.
    low, high: 95 % interval of accuracy_b - accuracy_a, in -1..1, by the Laplace-adjusted Wald
    method for pairs (Bonett and Price 2012; recommended by Fagerland, Lydersen and Laake 2014).
    Near p = 0.05 the two may disagree, since the exact test is the more careful one.
    Raises ValueError for what `right` refuses.

    >>> found = compare_accuracy([1, 1, 0, 2], [1, 0, 2, 2], labels=[1, 1, 2, 2])
    >>> found.accuracy_a, found.accuracy_b, found.only_a, found.only_b, found.p
    (0.75, 0.75, 1, 1, 1.0)
    """
    from scipy.stats import binomtest, norm

    right_a, right_b = right("pred_a", pred_a, labels), right("pred_b", pred_b, labels)
    n = len(right_a)
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
    """Accuracy of `correct` right answers out of `total`, with Wilson's score interval (1927).

    confidence: how often such an interval holds the true accuracy, above 0 and below 1.
    Raises TypeError or ValueError.

    >>> found = accuracy_interval(90, 100)
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
    (0.9, 0.826, 0.945)
    """
    from scipy.stats import binomtest

    correct, total = whole("correct", correct, 0), whole("total", total, 0)
    if total < 1 or correct > total:
        raise ValueError(f"correct {correct} of total {total}: expected 0 <= correct <= total >= 1")
    if isinstance(confidence, bool) or not isinstance(confidence, Real):
        raise TypeError(f"confidence is {confidence!r}: pass a number such as 0.95")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: choose a number above 0 and below 1")
    bounds = binomtest(correct, total).proportion_ci(float(confidence), method="wilson")
    return Interval(correct / total, float(bounds.low), float(bounds.high))

"""Checks of the try-it and the exercises of lesson 16, training a baseline.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, NotYet, exercise, show
from helpers.mistakes import compare


def update_averages(mean, var, x, *, ddof=1, momentum=0.1, axes=(0, 2, 3)):
    batch_mean, batch_var = x.mean(axes), x.var(axes, ddof=ddof)
    kept = 1 - momentum
    return kept * mean + momentum * batch_mean, kept * var + momentum * batch_var


def _of_deviations(mean, var, x):
    """The deviation of the batch in place of its variance."""
    return update_averages(mean, var, x)[0], 0.9 * var + 0.1 * x.std((0, 2, 3), ddof=1)


def _averaged_deviations(mean, var, x):
    """Deviations are averaged, then squared."""
    deviation = 0.9 * np.sqrt(var) + 0.1 * x.std((0, 2, 3), ddof=1)
    return update_averages(mean, var, x)[0], deviation**2


def _of_image_means(mean, var, x):
    """The variance of the images' means, where that of all places is asked for."""
    batch_var = x.mean((2, 3)).var(0, ddof=1)
    return update_averages(mean, var, x)[0], 0.9 * var + 0.1 * batch_var


def _one_of_all(mean, var, x):
    """One mean and variance of the whole batch, for every channel."""
    return 0.9 * mean + 0.1 * x.mean(), 0.9 * var + 0.1 * x.var(ddof=1)


def _around_the_average(mean, var, x):
    """The variance around the running mean, not around the batch's."""
    n = x.size / x.shape[1]
    squares = ((x - mean[:, None, None]) ** 2).sum((0, 2, 3)) / (n - 1)
    return update_averages(mean, var, x)[0], 0.9 * var + 0.1 * squares


@exercise(
    "16.0",
    update_averages,
    {
        "0.9 of the old average is kept, and 0.1 of the batch's is added": dict(momentum=0.9),
        "that is the batch's own mean and variance: mix 0.1 of them with 0.9 of the old ones": dict(
            momentum=1
        ),
        "the mean is right; torch averages the unbiased variance: divide by n - 1, ddof=1": dict(
            ddof=0
        ),
        "the mean is right; average the variance, not the deviation": _of_deviations,
        "the mean is right; average the variances, not the deviations": _averaged_deviations,
        "the mean is right; the variance is over all places of all images, not over their means": (
            _of_image_means
        ),
        "the mean is right; the batch's variance is around the batch's own mean": (
            _around_the_average
        ),
        "each channel has its own mean and variance: average over the axes 0, 2 and 3": _one_of_all,
        "0.1 of the batch's is added, but 0.9 of the old average is missing": (
            lambda mean, var, x: update_averages(0 * mean, 0 * var, x)
        ),
    },
)
def check_update_averages(answer: Answer) -> None:
    """Two arrays [C], the new mean and the new variance."""
    rng = np.random.default_rng(160)
    four = np.array([1.0, 3.0, 5.0, 7.0]).reshape(4, 1, 1, 1)
    cases = [(np.zeros(1), np.ones(1), four)]
    for C, shape in ((3, (4, 3, 2, 5)), (2, (2, 2, 3, 3)), (4, (5, 4, 1, 2))):
        offset = rng.normal(0, 3, (1, C, 1, 1))
        x = rng.normal(offset, 2, shape)
        cases.append((rng.standard_normal(C), rng.uniform(0.5, 2, C), x))
    advice = "the axes 0, 2 and 3 are averaged over, axis 1 is the channel"
    compare(answer, cases, "the mean, the variance", advice=advice)


def labeled(labels, answers):
    return np.unique(labels)


def up_to_largest(labels, answers):
    return range(max(labels) + 1)


def balanced_accuracy(labels, answers, *, classes=labeled, add=np.mean):
    recalls = [np.mean(answers[labels == k] == k) for k in classes(labels, answers)]
    return float(add(recalls))


@exercise(
    "16.1",
    balanced_accuracy,
    {
        "that is the plain accuracy: average over the classes, not over the examples": (
            lambda labels, answers: np.mean(labels == answers)
        ),
        "0 / 0 is no number: leave out a class that never occurs among the labels": dict(
            classes=up_to_largest
        ),
        "a class that never occurs among the labels must not count, not even as 0": dict(
            classes=up_to_largest, add=lambda recalls: np.nansum(recalls) / len(recalls)
        ),
        "a class that occurs only among the answers must not count": dict(
            classes=np.union1d, add=lambda recalls: np.nansum(recalls) / len(recalls)
        ),
        "that is the mean precision: divide by the row sums, not the column sums": (
            lambda labels, answers: balanced_accuracy(answers, labels)
        ),
        "that is the sum of the recalls: take their mean": dict(add=np.sum),
        "that is the lowest recall: take the mean": dict(add=np.min),
    },
)
def check_balanced_accuracy(answer: Answer) -> None:
    """One number, in 0..1."""
    cases = [
        (np.array([0, 0, 0, 0, 0, 1, 1, 3]), np.array([0, 0, 0, 1, 2, 1, 0, 3])),
        (np.array([4, 1, 1, 1, 4, 2]), np.array([1, 1, 1, 2, 4, 5])),
        (np.array([2, 2, 2, 2]), np.array([2, 0, 2, 2])),
    ]
    compare(answer, cases, advice="average the recall of each class that occurs")


def images_needed(p, h, *, z=1.96, whole=math.ceil):
    return whole(z**2 * p * (1 - p) / h**2)


@exercise(
    "16.2",
    images_needed,
    {
        "rounded down, the interval is a little too wide: round up": dict(whole=math.floor),
        "rounded to the nearest, the interval may be too wide: round up": dict(whole=round),
        "the formula is right; images are whole, so round up": dict(whole=float),
        "that is one image more than suffices: round up, and no further": dict(
            whole=lambda n: math.ceil(n) + 1
        ),
        "the factor 1.96 is missing: one standard deviation covers only 68%": dict(z=1),
        "the factor 1.96 stands squared when you solve for n": dict(z=math.sqrt(1.96)),
        "h is the half-width: the interval reaches from p - h to p + h": (
            lambda p, h: images_needed(p, 2 * h)
        ),
        "n stands under a square root: square both sides when you solve for it": dict(
            whole=lambda n: math.ceil(math.sqrt(n))
        ),
        "the variance is p (1 - p), not p": lambda p, h: math.ceil(1.96**2 * p / h**2),
    },
)
def check_images_needed(answer: Answer) -> None:
    """One int, the number of images."""
    cases = [(0.9, 0.01), (0.5, 0.05), (0.98, 0.004), (0.2, 0.02)]
    compare(answer, cases, advice="solve for n, and round up to an int")


def erase(x, generator):
    import torch

    top, left = torch.randint(0, 21, (2, len(x), 1), generator=generator)
    rows, columns = torch.arange(28) - top, torch.arange(28) - left
    rows, columns = (rows >= 0) & (rows < 8), (columns >= 0) & (columns < 8)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], 0, x)


def _corners(result: object, x) -> np.ndarray:
    """The top-left corner of the erased square of each image, int [N, 2]; NotYet if it is none."""
    import torch

    if not (torch.is_tensor(result) and result.shape == x.shape and result.is_floating_point()):
        raise NotYet(f"return a float tensor of shape {tuple(x.shape)}, not {show(result)}")
    erased = (result == 0)[:, 0]
    if not bool(torch.where(erased[:, None], 0, x).equal(result.detach().to(x.dtype))):
        raise NotYet("the pixels of one square become 0, and all others stay as they are")
    sides = erased.any(2).numpy(), erased.any(1).numpy()  # which rows, which columns: [N, 28]
    first = np.stack([side.argmax(1) for side in sides], axis=1)
    last = np.stack([27 - side[:, ::-1].argmax(1) for side in sides], axis=1)
    lost = erased.sum((1, 2)).numpy()
    wrong = (lost != 64) | (last - first != 7).any(1)
    if wrong.any():
        (high, wide), count = (last - first + 1)[wrong][0], lost[wrong][0]
        raise NotYet(
            f"one image lost {count} pixels, in {high} rows and {wide} columns, not 8x8: erase one "
            "square, whose corner lies in 0..20"
        )
    return first


@exercise("16.3", erase, {})
def check_erase(answer: Answer) -> None:
    """A float tensor of the shape of x, and one 8x8 square of each image is 0."""
    import torch

    x = 0.1 + 0.8 * torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def draw(seed, x=x):
        return _corners(answer(x, torch.Generator().manual_seed(seed)), x)

    draw(0, x[:3])
    first = draw(0)
    if not np.array_equal(first, draw(0)):
        raise NotYet("the same seed gave another result: pass generator=generator to every draw")
    if len(np.unique(first, axis=0)) == 1:
        raise NotYet("every image lost the same square: draw one corner for each image")
    if np.array_equal(first, draw(1)):
        raise NotYet("another seed gave the same squares: draw from the generator that is passed")
    corners = np.concatenate([draw(seed) for seed in range(25)])
    if any(set(column.tolist()) != set(range(21)) for column in corners.T):
        raise NotYet(
            f"the corners range over {corners.min(0)} to {corners.max(0)}, and all of 0..20 is "
            "possible: the upper end of torch.randint is not drawn"
        )
    if np.abs(np.corrcoef(corners.T)[0, 1]) > 0.5:
        raise NotYet("row and column are drawn together: draw two independent numbers")


def falling_rate(t, steps, peak, last, *, at=0, parts=1, most=1.0):
    return peak * min(most, (steps - t + at) / (last + parts))


@exercise(
    "16.4",
    falling_rate,
    {
        "the rate would be 0 one step after the last one, not at the last one: the fall has last + "
        "1 parts": (
            lambda t, steps, peak, last: peak * min(1, (steps - 1 - t) / last) if last else peak
        ),
        "t counts from 0: at the last step, t = steps - 1, one part of last + 1 is left": dict(
            at=1
        ),
        "one step too many at the peak: the fall takes last steps, in last + 1 parts": (
            lambda t, steps, peak, last: peak * min(1, (steps - t) / max(last, 1))
        ),
        "never above the peak: before the last steps the rate is constant": dict(most=math.inf),
        "that is the share of the peak: multiply it with the peak": (
            lambda t, steps, peak, last: falling_rate(t, steps, 1, last)
        ),
        "it falls from the first step on: only the last steps fall": (
            lambda t, steps, peak, last: peak * (steps - t) / steps
        ),
        "that is a constant rate: it falls during the last steps": (
            lambda t, steps, peak, last: peak
        ),
        "it falls at the wrong end: the first steps have the peak": (
            lambda t, steps, peak, last: falling_rate(steps - 1 - t, steps, peak, last)
        ),
    },
)
def check_falling_rate(answer: Answer) -> None:
    """One number, the learning rate of a step."""
    cases = [(t, 10, 0.1, 4) for t in range(10)]
    cases += [(t, 8, 0.3, 2) for t in range(8)] + [(t, 6, 0.05, 0) for t in (0, 4, 5)]
    cases += [(t, 5, 0.2, 4) for t in range(5)]
    compare(answer, cases, advice="(steps - t) parts of last + 1, and never more than all of them")

"""Checks of the exercises of lesson 16, training a baseline.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, NotYet, exercise, show
from helpers.mistakes import compare


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

"""Checks of the exercises of part 1."""

from __future__ import annotations

import numpy as np

from helpers.checks import NotYet, attempt, exercise


@exercise("14.1")
def _(balanced_accuracy) -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 3])
    answers = np.array([0, 0, 0, 1, 2, 1, 0, 3])
    result = attempt(balanced_accuracy, labels, answers)
    if np.ndim(result) != 0:
        raise NotYet(f"one number is asked for, not an array of shape {np.shape(result)}")
    recalls = [3 / 5, 1 / 2, 1]
    if np.isclose(result, np.mean(recalls)):
        return
    if np.isclose(result, 5 / 8):
        raise NotYet("that is the plain accuracy: average over the classes, not over the examples")
    if np.isclose(result, sum(recalls) / 4) or np.isnan(result):
        raise NotYet("class 2 never occurs among the labels: average the others without it")
    if np.isclose(result, [9 / 4 / 3, 9 / 4 / 4]).any():
        raise NotYet("that is the mean precision: divide by the row sums, not the column sums")
    raise NotYet(
        f"labels {labels.tolist()} and answers {answers.tolist()} gave {result:.4f}, expected 0.7"
    )


@exercise("14.2")
def _(images_needed) -> None:
    for p, h in ((0.9, 0.01), (0.5, 0.05), (0.98, 0.003)):
        result = attempt(images_needed, p, h)
        exact = 1.96**2 * p * (1 - p) / h**2
        if result == np.ceil(exact):
            continue
        if result in (np.floor(exact), round(exact)):
            raise NotYet(f"p={p}, h={h}: {result} images leave it a little too wide; round up")
        if np.isclose(result, exact):
            raise NotYet("the formula is right; images are whole, so round up")
        if np.isclose(result, p * (1 - p) / h**2, rtol=0.01, atol=1):
            raise NotYet("the factor 1.96 is missing: one standard deviation covers only 68%")
        if np.isclose(result, exact / 4, rtol=0.01, atol=1):
            raise NotYet("h is the half-width: the interval reaches from p - h to p + h")
        if np.isclose(result, np.sqrt(exact), rtol=0.01, atol=1):
            raise NotYet("n stands under a square root: square both sides when you solve for it")
        raise NotYet(f"p={p}, h={h}: you returned {result}, expected {int(np.ceil(exact))}")


@exercise("14.3")
def _(erase) -> None:
    import torch

    def draw(seed):
        return attempt(erase, x, torch.Generator().manual_seed(seed))

    x = torch.ones(64, 1, 28, 28)
    result = draw(0)
    if not torch.is_tensor(result) or result.shape != x.shape:
        raise NotYet(f"return a tensor of shape {tuple(x.shape)}, like the batch")
    if not bool((x == 1).all()):
        raise NotYet("the batch that was passed in has changed: work on a copy, x.clone()")
    if not torch.equal(result, draw(0)):
        raise NotYet("the same seed gave another result: pass generator=generator to every draw")
    erased = (result == 0)[:, 0]
    if bool(((result != 0) & (result != 1)).any()) or not bool(erased.any((1, 2)).all()):
        raise NotYet("the pixels of one square become 0, and all others stay as they are")
    boxes = set()
    for image in erased:
        rows, columns = (torch.unique(index).tolist() for index in image.nonzero(as_tuple=True))
        if len(rows) != 8 or len(columns) != 8 or int(image.sum()) != 64:
            raise NotYet(
                f"one image lost {int(image.sum())} pixels in {len(rows)} rows and {len(columns)} "
                "columns, not 8x8: the corner must lie in 0..20"
            )
        boxes.add((rows[0], columns[0]))
    if len(boxes) == 1:
        raise NotYet("every image lost the same square: draw one corner for each image")
    corners = np.array([box for seed in range(40) for box in _corners(draw(seed))])
    if corners.max(0).min() < 20 or corners.min(0).max() > 0:
        raise NotYet(
            f"the corners range over {corners.min(0)} to {corners.max(0)}, and 0..20 is possible: "
            "the upper end of torch.randint is not drawn"
        )
    if np.abs(np.corrcoef(corners.T)[0, 1]) > 0.5:
        raise NotYet("row and column are drawn together: draw two independent numbers")


def _corners(images) -> list[tuple[int, int]]:
    """The top-left corner of the zeros in each image [N, 1, H, W]."""
    return [tuple((image[0] == 0).nonzero().amin(0).tolist()) for image in images]

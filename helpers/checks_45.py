"""Checks of lesson 45, real-time detection.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def boxes_around(rng: np.random.Generator, count: int) -> np.ndarray:
    """Corners [count, 4] of boxes that overlap a good deal."""
    low = rng.random((count, 2)) * 4
    return np.concatenate([low, low + 0.5 + 2 * rng.random((count, 2))], axis=1)


def iou(box, boxes, *, below=0.0, union=True, corners=(np.maximum, np.minimum)):
    low, high = corners[0](box[:2], boxes[:, :2]), corners[1](box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, below), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / (area - shared if union else area)


@exercise(
    "45.0",
    iou,
    {
        "boxes that do not meet share nothing: a negative width becomes 0": dict(below=-np.inf),
        "the shared part is in both areas: take it off the union once": dict(union=False),
        "left sides: the larger one; right sides: the smaller one": (
            dict(corners=(np.minimum, np.maximum))
        ),
        "divide by the union, not by the smaller box": (
            lambda box, boxes: (
                iou(box, boxes)
                * (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
                / (1 + iou(box, boxes))
                / np.minimum(
                    np.prod(box[2:] - box[:2]), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
                )
            )
        ),
        "corners are (x0, y0, x1, y1), not a corner with width and height": (
            lambda box, boxes: iou(
                np.r_[box[:2], box[:2] + box[2:]],
                np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            )
        ),
    },
)
def check_iou(answer: Answer) -> None:
    """IoU of the box with each of the boxes, float array [k]."""
    rng = np.random.default_rng(45)
    apart = np.array([[1.0, 0, 3, 2], [5, 5, 6, 6], [-4, -4, -3, -3]])
    cases = [(np.array([0.0, 0, 2, 2]), apart)]
    cases += [(boxes_around(rng, 1)[0], boxes_around(rng, 40)) for _ in range(2)]
    compare(answer, cases)


def to_network(boxes, height, width, *, pad=True, scale=128.0, swap=False):
    side = max(height, width)
    left, top = ((side - width) // 2, (side - height) // 2) if pad else (0, 0)
    if swap:
        left, top = top, left
    return (np.asarray(boxes) + np.array([left, top, left, top])) / side * scale


@exercise(
    "45.1",
    to_network,
    {
        "the photograph lies in the middle of the square: add the margin first": dict(pad=False),
        "in pixels of the 128, not in parts of the side": dict(scale=1.0),
        "a photograph that is wider than high gets its margin above and below": dict(swap=True),
        "divide by the side of the square in both directions": (
            lambda boxes, height, width: (
                to_network(boxes, height, width)
                * (1, max(height, width) / height, 1, max(height, width) / height)
            )
        ),
        "the margin is on both sides: half of it on each": (
            lambda boxes, height, width: (
                to_network(boxes, height, width)
                + np.array([max(0, height - width), max(0, width - height)] * 2)
                / 2
                / max(height, width)
                * 128
            )
        ),
    },
)
def check_to_network(answer: Answer) -> None:
    """Corners [k, 4] in pixels of the network's picture, float."""
    rng = np.random.default_rng(451)
    cases = [(np.array([[0.0, 0, 451, 300]]), 300, 451), (100 * boxes_around(rng, 3), 500, 800)]
    cases += [(50 * boxes_around(rng, 2), 640, 427), (50 * boxes_around(rng, 2), 512, 512)]
    compare(answer, cases)


def soft_nms(boxes, scores, floor, *, decay=lambda o: 1 - o, again=True):
    boxes, scores = np.asarray(boxes, float), np.array(scores, float)
    left, kept = list(range(len(scores))), []
    order = np.argsort(-scores, kind="stable")
    while left:
        best = max(left, key=lambda k: scores[k]) if again else order[len(kept)]
        if scores[best] < floor:
            break
        left.remove(best)
        kept.append((best, scores[best]))
        for k in left:
            scores[k] *= decay(iou(boxes[best], boxes[k][None])[0])
    return np.array(kept, float).reshape(-1, 2)


@exercise(
    "45.2",
    soft_nms,
    {
        "multiply by 1 - IoU: what overlaps more loses more": dict(decay=lambda o: o),
        "it decays in every round, by every box that is kept": (
            lambda boxes, scores, floor: soft_nms(
                boxes, scores, floor, decay=lambda o: 1 - o if o > 0.3 else 1.0
            )
        ),
        "scores change: look for the best of what is left again each time": dict(again=False),
        "nothing is thrown out for its overlap alone": (
            lambda boxes, scores, floor: soft_nms(
                boxes, scores, floor, decay=lambda o: float(o <= 0.3)
            )
        ),
        "stop at the first box below the floor": (
            lambda boxes, scores, floor: soft_nms(boxes, scores, 0.0)
        ),
    },
)
def check_soft_nms(answer: Answer) -> None:
    """Place and score [n, 2] of each box that stays, best first, float."""
    rng = np.random.default_rng(452)
    cases = [
        (np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]), np.array([0.9, 0.8, 0.7]), 0.3)
    ]
    cases += [(boxes_around(rng, n), rng.random(n) + 0.01, 0.2) for n in (5, 12, 30)]
    compare(answer, cases)


def average_precision(scores, right, faces, *, best_from_here=True, ordered=True, per=None):
    hits = np.asarray(right, bool)
    if ordered:
        hits = hits[np.argsort(-np.asarray(scores), kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    if best_from_here:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(precision[hits].sum() / (per or faces))


@exercise(
    "45.3",
    average_precision,
    {
        "sort by score, the surest first": dict(ordered=False),
        "precision at a recall is the best at that recall or a higher one": (
            dict(best_from_here=False)
        ),
        "divide by all faces, also those that no box found": (
            lambda scores, right, faces: average_precision(
                scores, right, faces, per=max(1, int(np.sum(right)))
            )
        ),
        "that is the precision over all boxes": (
            lambda scores, right, faces: float(np.mean(right))
        ),
    },
)
def check_average_precision(answer: Answer) -> None:
    """Average precision, float."""
    rng = np.random.default_rng(453)
    cases = [(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, True]), 4)]
    for n in (10, 40):
        scores = rng.permutation(n) / n
        cases.append((scores, rng.random(n) < 0.3 + 0.5 * scores, n))
    compare(answer, cases)

"""Checks of lesson 37, When zeros pay."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def to_csr(W):
    """The three arrays of 37.0."""
    W = np.asarray(W)
    rows, columns = np.nonzero(W)
    starts = np.concatenate([[0], np.count_nonzero(W, axis=1).cumsum()])
    return starts, columns, W[rows, columns]


def _with_starts(change):
    """to_csr, with other starts: change(W, starts)."""
    return lambda W: (change(np.asarray(W), to_csr(W)[0]), *to_csr(W)[1:])


def _with_columns(change):
    """to_csr, with other columns: change(W, rows, columns)."""
    return lambda W: (to_csr(W)[0], change(np.asarray(W), *np.nonzero(W)), to_csr(W)[2])


@exercise(
    "37.0",
    to_csr,
    {
        "starts ends with the number of stored weights, where the last row ends": _with_starts(
            lambda W, starts: starts[:-1]
        ),
        "starts begins with 0, where the first row starts": _with_starts(
            lambda W, starts: starts[1:]
        ),
        "that is how many weights each row has: add them up, with a 0 in front": _with_starts(
            lambda W, starts: np.diff(starts)
        ),
        "starts holds running sums of the counts, not the counts": _with_starts(
            lambda W, starts: np.concatenate([[0], np.diff(starts)])
        ),
        "that is the row of each weight: a start for each row is enough": _with_starts(
            lambda W, starts: np.nonzero(W)[0]
        ),
        "count the weights that are not zero, not all places": _with_starts(
            lambda W, starts: np.arange(len(starts)) * W.shape[1]
        ),
        "an empty row has a start, too: that of the next row": _with_starts(
            lambda W, starts: np.unique(starts)
        ),
        "columns count from the start of each row, not of the matrix": _with_columns(
            lambda W, rows, columns: rows * W.shape[1] + columns
        ),
        "columns count from 0": _with_columns(lambda W, rows, columns: columns + 1),
        "those are the rows: the columns are asked for": _with_columns(
            lambda W, rows, columns: rows
        ),
        "that goes through the matrix column by column: row by row is asked for": lambda W: to_csr(
            np.asarray(W).T
        ),
        "the values come last, after the columns": lambda W: tuple(to_csr(W)[i] for i in (0, 2, 1)),
        "the values keep their signs": lambda W: (*to_csr(W)[:2], np.abs(to_csr(W)[2])),
        "weights below zero are stored, too": lambda W: to_csr(np.maximum(W, 0)),
    },
)
def check_to_csr(answer: Answer) -> None:
    """Three arrays."""
    rng = np.random.default_rng(37)
    example = np.zeros((3, 8))
    example[[0, 0, 2, 2, 2], [2, 6, 0, 3, 7]] = 3, -1, 2, 0.5, 5
    cases = [(example,)]
    for shape, zeros in (((4, 6), 0.6), ((5, 5), 0.7), ((6, 3), 0.5)):
        W = rng.normal(size=shape) * (rng.random(shape) > zeros)
        W[1], W[0, 1], W[-1, 0] = 0, 1.5, -2.5
        cases.append((W,))
    compare(answer, cases[1:] + cases[:1], "starts, columns, values")


def from_bitmap(bits, values, shape, *, order="big", fill="C", where=1):
    """The matrix of 37.1, or with an option changed, one of its mistakes."""
    bits = np.unpackbits(np.asarray(bits), count=shape[0] * shape[1], bitorder=order)
    W = np.zeros(len(bits))
    chosen = np.flatnonzero(bits == where)
    W[chosen] = np.resize(np.asarray(values), len(chosen))
    return W.reshape(shape, order=fill)


@exercise(
    "37.1",
    from_bitmap,
    {
        "the first place is the highest bit of the first byte: np.unpackbits reads it so": partial(
            from_bitmap, order="little"
        ),
        "the bits go row by row": partial(from_bitmap, fill="F"),
        "a weight stands where the bit is 1, not where it is 0": partial(from_bitmap, where=0),
        "that is the mask: put the values where it is 1": lambda bits, values, shape: from_bitmap(
            bits, np.ones(len(values)), shape
        ),
        "bring the places into the shape": lambda bits, values, shape: from_bitmap(
            bits, values, shape
        ).ravel(),
        "the values stand in order, from the first place on": lambda bits, values, shape: (
            from_bitmap(bits, values[::-1], shape)
        ),
    },
)
def check_from_bitmap(answer: Answer) -> None:
    """A matrix of that shape."""
    rng = np.random.default_rng(371)
    cases = [(np.array([36], np.uint8), np.array([7.0, -2.0]), (2, 3))]
    for shape in ((3, 5), (4, 4), (2, 9)):
        mask = rng.random(shape) < 0.4
        mask[0, :2] = True, False
        mask[-1, -2:] = True, False
        cases.append((np.packbits(mask), rng.normal(size=mask.sum()), shape))
    compare(answer, cases[1:] + cases[:1])


def gap_code(
    w, b, *, between=lambda gaps: gaps, reach=lambda b: 2**b, fillers=True, tail=False, clip=False
):
    """The gaps and values of 37.2, or with an option changed, one of its mistakes."""
    w = np.asarray(w, float)
    places = np.flatnonzero(w)
    gaps, values = [], []
    for zeros, value in zip(between(np.diff(places, prepend=-1) - 1), w[places], strict=True):
        many, rest = divmod(int(zeros), reach(b)) if fillers else (0, int(zeros))
        gaps += [reach(b) - 1] * many + [min(rest, 2**b - 1) if clip else rest]
        values += [0.0] * many + [value]
    if tail:
        many = (len(w) - 1 - places[-1]) // 2**b
        gaps, values = gaps + [2**b - 1] * many, values + [0.0] * many
    return np.array(gaps), np.array(values)


def _value_in_fillers(w, b):
    """Each filler repeats the weight that follows it."""
    gaps, values = gap_code(w, b)
    stored = values[values != 0]
    return gaps, stored[np.cumsum(np.concatenate([[0], values[:-1] != 0]))]


@exercise(
    "37.2",
    gap_code,
    {
        "count the zeros between two weights: neighbors have a gap of 0, not 1": partial(
            gap_code, between=lambda gaps: gaps + 1
        ),
        "a gap does not fit into b bits: put fillers in": partial(gap_code, fillers=False),
        "a gap that is cut off leads to another place: put fillers in": partial(
            gap_code, fillers=False, clip=True
        ),
        "a filler covers 2^b places: its gap of zeros, and its own zero": partial(
            gap_code, reach=lambda b: 2**b - 1
        ),
        "a filler's gap is 2^b - 1, the largest that b bits can say": lambda w, b: (
            np.where(gap_code(w, b)[1] == 0, 2**b, gap_code(w, b)[0]),
            gap_code(w, b)[1],
        ),
        "b bits reach to 2^b - 1": partial(gap_code, reach=lambda b: b),
        "zeros after the last weight are not stored": partial(gap_code, tail=True),
        "those are places: a gap begins after the weight before": lambda w, b: (
            np.flatnonzero(w),
            np.asarray(w)[np.flatnonzero(w)],
        ),
        "a filler has the value 0": _value_in_fillers,
        "return gaps first, then values": lambda w, b: gap_code(w, b)[::-1],
    },
)
def check_gap_code(answer: Answer) -> None:
    """Two arrays of one length."""
    rng = np.random.default_rng(372)
    cases = [(np.array([0, 0, 0, 0, 0, 7.0, 0, 3.0]), 2)]
    for n, share, b in ((60, 0.9, 2), (40, 0.5, 1), (90, 0.92, 3)):
        w = rng.normal(size=n) * (rng.random(n) > share)
        w[:4], w[-20:] = (1.0, -2.0, 0, 0.5), 0
        w[10 : 10 + 2**b], w[10 + 2**b] = 0, 4.0
        w[9] = 1.5  # 2^b zeros, then a weight
        cases.append((w, b))
    compare(answer, cases[1:] + cases[:1], "gaps, values")


def shaped_mask(w, share, r, c, *, score=np.square, total=np.sum, sign=1, gone=lambda share: share):
    """int, 1 where a weight stays, or with an option changed, one of the mistakes of 37.3."""
    w = np.asarray(w, float)
    blocks = score(w).reshape(w.shape[0] // r, r, w.shape[1] // c, c)
    blocks = total(blocks, axis=(1, 3))
    mask = np.ones(blocks.size, int)
    order = np.argsort(sign * blocks.ravel(), kind="stable")
    mask[order[: round(gone(share) * blocks.size)]] = 0
    return np.kron(mask.reshape(blocks.shape), np.ones((r, c), int))


def _turned(w, share, r, c):
    """Blocks of c x r, where they fit."""
    return shaped_mask(w, share, c, r)


@exercise(
    "37.3",
    shaped_mask,
    {
        "a block has r rows and c columns, not the other way around": _turned,
        "that treats each weight alone: a block stays or goes as a whole": dict(r=1, c=1),
        "the blocks with the least sum go, not those with the largest": partial(
            shaped_mask, sign=-1
        ),
        "1 stays and 0 goes, not the other way around": lambda *a: 1 - shaped_mask(*a),
        "share is the share that goes, not the share that stays": partial(
            shaped_mask, gone=lambda share: 1 - share
        ),
        "the squares are missing: weights of both signs cancel": partial(
            shaped_mask, score=lambda w: w
        ),
        "the sum of squares decides, not the sum of sizes": partial(shaped_mask, score=np.abs),
        "the sum of squares decides, not the largest weight": partial(
            shaped_mask, score=np.abs, total=np.max
        ),
        "the mask has the shape of w: repeat each block's answer over its weights": (
            lambda w, share, r, c: shaped_mask(w, share, r, c)[::r, ::c]
        ),
    },
)
def check_shaped_mask(answer: Answer) -> None:
    """An array of 0 and 1 of the shape of w."""

    def mask(function, w, share, r, c):
        found = function(w, share, r, c)
        return found * 1 if str(getattr(found, "dtype", "")).endswith("bool") else found

    rng = np.random.default_rng(373)
    cases = [(np.array([[1.0, 2, 3, 0], [1, 1, 0, 1]]), 0.5, 2, 2)]
    for shape, share, r, c in (
        ((12, 12), 0.7, 1, 4),
        ((12, 12), 0.4, 3, 2),
        ((8, 16), 0.75, 4, 1),
    ):
        cases.append((rng.normal(size=shape), share, r, c))
    compare(answer, cases[1:] + cases[:1], run=mask)

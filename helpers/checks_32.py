"""Checks of lesson 32, Pruning structures."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def keep_filters(w, norm, v, keep):
    """The three arrays of 32.0, of any kind that is indexed like NumPy's."""
    return w[keep], norm[:, keep], v[:, keep]


@exercise(
    "32.0",
    keep_filters,
    {
        "v has lost filters of its own: its inputs go, v[:, keep]": lambda w, norm, v, keep: (
            w[keep],
            norm[:, keep],
            v[keep[keep < len(v)]],
        ),
        "w has lost inputs: its filters are the first dimension, w[keep]": (
            lambda w, norm, v, keep: (w[:, keep[keep < w.shape[1]]], norm[:, keep], v[:, keep])
        ),
        "norm has one column for each filter, and four rows that stay": (
            lambda w, norm, v, keep: (w[keep], norm[keep[keep < 4]], v[:, keep])
        ),
        "the next layer still reads all channels: v[:, keep]": lambda w, norm, v, keep: (
            w[keep],
            norm[:, keep],
            v,
        ),
        "batch norm still has all channels: norm[:, keep]": lambda w, norm, v, keep: (
            w[keep],
            norm,
            v[:, keep],
        ),
        "those are the filters that go: `keep` holds those that stay": (
            lambda w, norm, v, keep: keep_filters(
                w, norm, v, np.setdiff1d(np.arange(len(w)), np.asarray(keep))
            )
        ),
        "that keeps the first filters, as many as `keep` has: index with keep itself": (
            lambda w, norm, v, keep: keep_filters(w, norm, v, np.arange(len(keep)))
        ),
    },
)
def check_keep_filters(answer: Answer) -> None:
    """The three arrays with fewer filters."""
    rng = np.random.default_rng(0)
    cases = []
    for out, inputs, readers, keep in ((6, 4, 5, [0, 2, 3, 5]), (8, 8, 8, [1, 6]), (5, 3, 7, [4])):
        arrays = (rng.normal(size=(n, m, 3, 3)) for n, m in ((out, inputs), (readers, out)))
        w, v = arrays
        cases.append((w, rng.normal(size=(4, out)), v, np.array(keep)))
    compare(answer, cases, "w, norm, v")


def block_macs(c_in, inner, c_out, side, stride, *, shrinks=True, taps=9, shortcut="fitted"):
    """The MACs of 32.1, or with an option changed, one of its mistakes."""
    places = (side // stride) ** 2 if shrinks else side**2
    fitted = stride != 1 or c_in != c_out
    if shortcut != "fitted":
        fitted = shortcut(c_in, c_out, stride)
    return places * (taps * inner * (c_in + c_out) + fitted * c_in * c_out)


@exercise(
    "32.1",
    block_macs,
    {
        "with stride 2 the maps have half the side, so a quarter of the places": partial(
            block_macs, shrinks=False
        ),
        "the 1 x 1 convolution of the shortcut is missing": partial(
            block_macs, shortcut=lambda *a: False
        ),
        "a shortcut that passes its input on costs nothing": partial(
            block_macs, shortcut=lambda *a: True
        ),
        "a shortcut with other channels costs a convolution, also with stride 1": partial(
            block_macs, shortcut=lambda c_in, c_out, stride: stride != 1
        ),
        "a shortcut with stride 2 costs a convolution, also with equal channels": partial(
            block_macs, shortcut=lambda c_in, c_out, stride: c_in != c_out
        ),
        "those are weights: each one multiplies at every place of the map": (
            lambda c_in, inner, c_out, side, stride: block_macs(c_in, inner, c_out, stride, stride)
        ),
        "a 3 x 3 kernel has nine weights": partial(block_macs, taps=1),
        "the second convolution reads the inner channels, too, not c_out of them": (
            lambda c_in, inner, c_out, side, stride: (
                (side // stride) ** 2
                * (
                    9 * c_in * inner
                    + 9 * c_out * c_out
                    + (stride != 1 or c_in != c_out) * c_in * c_out
                )
            )
        ),
        "the first convolution has the stride, so it computes as many places as the second": (
            lambda c_in, inner, c_out, side, stride: (
                side**2 * 9 * c_in * inner
                + block_macs(c_in, inner, c_out, side, stride)
                - (side // stride) ** 2 * 9 * c_in * inner
            )
        ),
        "the shortcut is a 1 x 1 convolution: one weight for each pair of channels": (
            lambda c_in, inner, c_out, side, stride: (
                block_macs(c_in, inner, c_out, side, stride)
                + 8 * (side // stride) ** 2 * (stride != 1 or c_in != c_out) * c_in * c_out
            )
        ),
    },
)
def check_block_macs(answer: Answer) -> None:
    """One int."""
    cases = [(16, 32, 32, 28, 2), (16, 8, 16, 28, 1), (32, 28, 64, 14, 2), (16, 5, 24, 14, 1)]
    compare(answer, [*cases, (24, 7, 24, 14, 2)])


def tied(n, additions, *, choose=min):
    """The groups of 32.2, or with an option changed, one of its mistakes."""
    group = np.arange(n)
    for a, b in additions:
        ends = int(group[a]), int(group[b])
        group[np.isin(group, ends)] = choose(ends)
    return group


def _without_groups(n, additions):
    """Only the two layers themselves learn of an addition, not those tied to them."""
    group = np.arange(n)
    for a, b in additions:
        group[[a, b]] = min(group[a], group[b])
    return group


def _partners(n, additions):
    """The smallest layer that each one is added to directly."""
    group = np.arange(n)
    for a, b in additions:
        group[a], group[b] = min(group[a], b), min(group[b], a)
    return group


def _renumbered(n, additions):
    """The groups, counted 0, 1, 2 in the order in which they appear."""
    return np.unique(tied(n, additions), return_inverse=True)[1]


def _one_sided(n, additions):
    """The second group takes the first one's number, be it smaller or not."""
    group = np.arange(n)
    for a, b in additions:
        group[group == group[b]] = group[a]
    return group


@exercise(
    "32.2",
    tied,
    {
        "the others of a group have to learn of it, too: change all members of both groups": (
            _without_groups
        ),
        "those are the direct partners: what is tied to a partner belongs to the group": _partners,
        "these groups are right, but numbered anew: give each its smallest layer": _renumbered,
        "the number of a group is its smallest layer, not its largest": partial(tied, choose=max),
        "the number of a group is its smallest layer, not that of the first summand": _one_sided,
        "no addition has tied anything": lambda n, additions: np.arange(n),
    },
)
def check_tied(answer: Answer) -> None:
    """An int array [n]."""
    rng = np.random.default_rng(1)
    cases = [(6, np.array([[4, 2], [1, 5], [2, 1]])), (9, np.array([[0, 2], [4, 5], [7, 8]]))]
    cases += [(n, rng.integers(0, n, (additions, 2))) for n, additions in ((12, 6), (20, 14))]
    compare(answer, [*cases, (4, np.array([[3, 2], [2, 1], [1, 0]])), (3, np.zeros((0, 2), int))])


def contribution(h, v, *, of_h=np.mean, of_v=np.abs, add=np.sum, together=np.multiply):
    """The scores of 32.3, or with an option changed, one of its mistakes."""
    h, v = np.asarray(h, float), np.asarray(v, float)
    return together(of_h(h, axis=(0, 2, 3)), add(of_v(v), axis=(0, 2, 3)))


@exercise(
    "32.3",
    contribution,
    {
        "take the size of each weight: readers of opposite sign do not cancel": partial(
            contribution, of_v=np.array
        ),
        "sum over the readers, no mean": partial(contribution, add=np.mean),
        "that is the sum of a channel: its mean over images and places is asked for": partial(
            contribution, of_h=np.sum
        ),
        "that is the mean of the channel alone: multiply by its readers": (
            lambda h, v: np.asarray(h, float).mean((0, 2, 3))
        ),
        "those are the readers alone: multiply by the mean of the channel": (
            lambda h, v: np.abs(np.asarray(v, float)).sum((0, 2, 3))
        ),
        "the two are multiplied, not added": partial(contribution, together=np.add),
        "sum |v| is asked for, not the sum of squares": partial(contribution, of_v=np.square),
        "that is the largest value of a channel, not its mean": partial(contribution, of_h=np.max),
    },
)
def check_contribution(answer: Answer) -> None:
    """A tensor [out]."""
    import torch  # the lesson has imported it already

    generator = torch.Generator().manual_seed(0)
    v = torch.full((2, 1, 3, 3), 0.1)
    v[1] *= -1
    cases = [(torch.full((1, 1, 2, 2), 2.0), v)]
    for n, out, readers, side in ((3, 4, 5, 2), (2, 3, 3, 4)):
        h = torch.randn(n, out, side, side, generator=generator).relu()
        cases.append((h, torch.randn(readers, out, 3, 3, generator=generator)))
    compare(answer, cases[1:] + cases[:1])

"""Checks of lesson 34, Efficient architectures."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def separable_cost(channels_in, channels_out, kernel, places, *, taps=2, across=True, moved=True):
    """The counts of 34.0, or with an option changed, one of its mistakes."""
    weights = channels_in * kernel**taps + across * channels_in * channels_out
    return weights, weights * (places if moved else 1)


@exercise(
    "34.0",
    separable_cost,
    {
        "those are the costs of a full convolution: the depthwise part has one kernel a channel": (
            lambda channels_in, channels_out, kernel, places: (
                channels_in * channels_out * kernel**2,
                channels_in * channels_out * kernel**2 * places,
            )
        ),
        "the pointwise part is missing: channels_in * channels_out weights": partial(
            separable_cost, across=False
        ),
        "a kernel has kernel**2 weights": partial(separable_cost, taps=1),
        "each weight is used at every place: MACs are weights * places": partial(
            separable_cost, moved=False
        ),
        "the depthwise part works on the input channels": (
            lambda channels_in, channels_out, kernel, places: (
                channels_out * (kernel**2 + channels_in),
                channels_out * (kernel**2 + channels_in) * places,
            )
        ),
        "`places` counts the places of the map already: do not square it": (
            lambda channels_in, channels_out, kernel, places: separable_cost(
                channels_in, channels_out, kernel, places**2
            )
        ),
        "no biases: count the weights only": lambda channels_in, channels_out, kernel, places: (
            channels_in * (kernel**2 + 1) + channels_out * (channels_in + 1),
            channels_in * (kernel**2 + channels_out) * places,
        ),
    },
)
def check_separable_cost(answer: Answer) -> None:
    """Two ints: weights and MACs."""
    cases = [(4, 8, 3, 36), (16, 24, 5, 196), (32, 10, 3, 49), (7, 7, 1, 9)]
    compare(answer, cases, "weights, MACs")


def inverted_macs(
    c_in, c_out, t, kernel, side, stride, *, early=True, late=True, taps=2, wide=None
):
    """The MACs of 34.1, or with an option changed, one of its mistakes.

    early, late: whether the first layer sees the large map, the others the small one.
    """
    large, small, middle = side**2, (side // stride) ** 2, t * c_in if wide is None else wide
    first = (large if early else small) * c_in * middle
    return first + (small if late else large) * middle * (kernel**taps + c_out)


@exercise(
    "34.1",
    inverted_macs,
    {
        "the first layer comes before the stride: it works on side x side places": partial(
            inverted_macs, early=False
        ),
        "the stride leaves half of the places along each side to the last two layers": partial(
            inverted_macs, late=False
        ),
        "the last layer reads what the stride has left: a quarter of the places": (
            lambda c_in, c_out, t, kernel, side, stride: (
                side**2 * t * c_in * (c_in + c_out) + (side // stride) ** 2 * t * c_in * kernel**2
            )
        ),
        "the depthwise layer has t * c_in channels": (
            lambda c_in, c_out, t, kernel, side, stride: (
                side**2 * t * c_in**2 + (side // stride) ** 2 * c_in * (kernel**2 + t * c_out)
            )
        ),
        "the middle has t * c_in channels, not t * c_out": (
            lambda c_in, c_out, t, kernel, side, stride: inverted_macs(
                c_in, c_out, t, kernel, side, stride, wide=t * c_out
            )
        ),
        "the middle is depthwise: kernel**2 weights a channel, none across channels": (
            lambda c_in, c_out, t, kernel, side, stride: (
                side**2 * t * c_in**2
                + (side // stride) ** 2 * t * c_in * (kernel**2 * t * c_in + c_out)
            )
        ),
        "a kernel has kernel**2 weights": partial(inverted_macs, taps=1),
        "the first layer, from c_in to t * c_in channels, is missing": (
            lambda c_in, c_out, t, kernel, side, stride: (
                (side // stride) ** 2 * t * c_in * (kernel**2 + c_out)
            )
        ),
        "the last layer, from t * c_in to c_out channels, is missing": (
            lambda c_in, c_out, t, kernel, side, stride: inverted_macs(
                c_in, 0, t, kernel, side, stride
            )
        ),
        "those are weights: each one multiplies at every place of its map": (
            lambda c_in, c_out, t, kernel, side, stride: t * c_in * (c_in + kernel**2 + c_out)
        ),
    },
)
def check_inverted_macs(answer: Answer) -> None:
    """One int."""
    cases = [(16, 24, 4, 3, 28, 2), (16, 16, 2, 5, 14, 1), (24, 40, 6, 3, 14, 2)]
    compare(answer, [*cases, (8, 12, 3, 5, 28, 1)])


def shuffle_order(channels, groups, *, inverse=False):
    """The order of 34.2, or with `inverse`, the one that undoes it."""
    rows = channels // groups if inverse else groups
    return np.arange(channels).reshape(rows, -1).T.ravel()


@exercise(
    "34.2",
    shuffle_order,
    {
        "that is where each channel goes: return which channel stands at each place": partial(
            shuffle_order, inverse=True
        ),
        "nothing has moved: read the matrix by columns": (
            lambda channels, groups: np.arange(channels)
        ),
        "that turns the order around: the groups take turns, each in its own order": (
            lambda channels, groups: np.arange(channels)[::-1]
        ),
        "the groups take turns, but each begins with its first channel": (
            lambda channels, groups: np.arange(channels).reshape(groups, -1)[:, ::-1].T.ravel()
        ),
        "the first group comes first: do not turn the groups around": (
            lambda channels, groups: np.arange(channels).reshape(groups, -1)[::-1].T.ravel()
        ),
        "an array with one axis: ravel the matrix": (
            lambda channels, groups: np.arange(channels).reshape(groups, -1).T
        ),
    },
)
def check_shuffle_order(answer: Answer) -> None:
    """An int array [channels]."""
    compare(answer, [(6, 2), (12, 3), (16, 4), (10, 5), (8, 1)])


def equal_width(c, kernel, *, budget=None, per_channel=2, more=0):
    """The width of 34.3, or with an option changed, one of its mistakes."""
    budget, width = kernel**2 * c**2 if budget is None else budget, 0
    while (width + 1) * kernel**per_channel + (width + 1) ** 2 <= budget:
        width += 1
    return width + more


@exercise(
    "34.3",
    equal_width,
    {
        "that is one too many: no more MACs than the full layer has": partial(equal_width, more=1),
        "that is one too few: the largest width that fits is asked for": partial(
            equal_width, more=-1
        ),
        "the depthwise part counts, too: kernel**2 for each of the c2 channels": (
            lambda c, kernel: kernel * c
        ),
        "a kernel has kernel**2 weights, in the full layer, too": (
            lambda c, kernel: equal_width(c, kernel, budget=kernel * c**2, per_channel=1)
        ),
        "a kernel has kernel**2 weights, in the depthwise part, too": partial(
            equal_width, per_channel=1
        ),
        "the separable layer has c2 channels at both ends: its pointwise part has c2**2 weights": (
            lambda c, kernel: kernel**2 * c**2 // (kernel**2 + c)
        ),
    },
)
def check_equal_width(answer: Answer) -> None:
    """One int."""
    compare(answer, [(16, 3), (32, 3), (64, 5), (8, 5), (1, 3), (24, 1)])

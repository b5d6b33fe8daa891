"""Checks of lesson 23, Post-training quantization."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def round_images(x, bits, *, size=np.abs, over="image", top=lambda bits: 2 ** (bits - 1) - 1):
    """What 23.0 returns, or with an option changed, one of its mistakes."""
    x = np.asarray(x, float)
    axes = {"image": tuple(range(1, x.ndim)), "batch": None, "last": -1, "first": 0}[over]
    scale = size(x).max(axes, keepdims=True) / top(bits)
    return np.rint(x / scale) * scale


def _images_scale(x, bits):
    x = np.asarray(x, float)
    return np.abs(x).max(tuple(range(1, x.ndim)), keepdims=True) / (2 ** (bits - 1) - 1)


@exercise(
    "23.0",
    round_images,
    {
        "that is one scale for the whole batch: each image has its own largest magnitude": partial(
            round_images, over="batch"
        ),
        "that is one scale for each row: take the largest of the whole image, x.flatten(1)": (
            partial(round_images, over="last")
        ),
        "the first axis counts the images: take the largest along all the others": partial(
            round_images, over="first"
        ),
        "the largest magnitude may be negative: take x.abs() first": partial(
            round_images, size=lambda x: x
        ),
        "those are the integers: multiply them by the scale again": (
            lambda x, bits: np.rint(np.asarray(x, float) / _images_scale(x, bits))
        ),
        "narrow: the largest integer is 2^(bits-1) - 1": partial(
            round_images, top=lambda bits: 2 ** (bits - 1)
        ),
        "symmetric integers reach up to 2^(bits-1) - 1, not 2^bits - 1": partial(
            round_images, top=lambda bits: 2**bits - 1
        ),
        "round to the nearest, do not cut off": (
            lambda x, bits: (
                np.trunc(np.asarray(x, float) / _images_scale(x, bits)) * _images_scale(x, bits)
            )
        ),
        "nothing is rounded": lambda x, bits: np.asarray(x, float),
    },
)
def check_round_images(answer: Answer) -> None:
    """A tensor of the shape of x."""
    import torch  # the lesson has imported it already

    generator = torch.Generator().manual_seed(0)
    pair = torch.tensor([[1.0, -2.0], [10.0, 4.0]])
    maps = torch.randn(3, 2, 4, 5, generator=generator) * torch.tensor([1.0, 5.0, 0.1]).reshape(
        3, 1, 1, 1
    )
    square = torch.randn(4, 4, generator=generator)
    compare(answer, [(pair, 3), (maps, 4), (square, 8), (-maps.abs(), 3)])


def fold_dense(w, b, gamma, beta, mean, var, eps, *, factor=None, scaled=None, shift=None):
    """The folded layer of 23.1, or with an option changed, one of its mistakes."""
    g = gamma / np.sqrt(var + eps) if factor is None else factor(gamma, var, eps)
    w_new = g[:, None] * w if scaled is None else scaled(g, w)
    b_new = beta + g * (b - mean) if shift is None else shift(g, b, beta, mean)
    return w_new, b_new


def _columns(g, w):
    """The factor along the inputs: possible only where there are as many inputs as outputs."""
    return g * w


@exercise(
    "23.1",
    fold_dense,
    {
        "the layer's own bias is lost: the batch norm scales and moves it, too": partial(
            fold_dense, shift=lambda g, b, beta, mean: beta - g * mean
        ),
        "the layer's own bias is multiplied by the factor, too": partial(
            fold_dense, shift=lambda g, b, beta, mean: b + beta - g * mean
        ),
        "the mean is multiplied by the factor, too": partial(
            fold_dense, shift=lambda g, b, beta, mean: beta + g * b - mean
        ),
        "the mean is subtracted": partial(
            fold_dense, shift=lambda g, b, beta, mean: beta + g * (b + mean)
        ),
        "beta is what the batch norm adds: it is missing": partial(
            fold_dense, shift=lambda g, b, beta, mean: g * (b - mean)
        ),
        "beta comes after the factor, it is not multiplied": partial(
            fold_dense, shift=lambda g, b, beta, mean: g * (b - mean + beta)
        ),
        "the bias stays what it was: it must be folded, too": partial(
            fold_dense, shift=lambda g, b, beta, mean: b
        ),
        "w is scaled along its inputs: the factor belongs to the rows": partial(
            fold_dense, scaled=_columns
        ),
        "divide by the standard deviation, the square root of var + eps": partial(
            fold_dense, factor=lambda gamma, var, eps: gamma / (var + eps)
        ),
        "eps is missing under the square root": partial(
            fold_dense, factor=lambda gamma, var, eps: gamma / np.sqrt(var)
        ),
        "eps stands under the square root": partial(
            fold_dense, factor=lambda gamma, var, eps: gamma / (np.sqrt(var) + eps)
        ),
        "gamma is missing in the factor": partial(
            fold_dense, factor=lambda gamma, var, eps: 1 / np.sqrt(var + eps)
        ),
        "each row of w is multiplied by the factor": partial(fold_dense, scaled=lambda g, w: w),
    },
)
def check_fold_dense(answer: Answer) -> None:
    """Two arrays, (w, b)."""
    rng = np.random.default_rng(0)
    cases = [
        (*(np.array(a, float) for a in ([[2]], [3], [4], [1], [1], [4])), 0.0),
    ]
    for rows, columns, eps in ((4, 4, 0.1), (3, 5, 1e-5)):
        w, b = rng.normal(size=(rows, columns)), rng.normal(size=rows)
        gamma, beta, mean = rng.normal(size=(3, rows))
        cases.append((w, b, gamma, beta, mean, rng.uniform(0.2, 3, rows), eps))
    compare(answer, cases[1:] + cases[:1], "w, b")


def widen(low, high, x, cut, *, merge=(min, max), ends=None):
    """The range of 23.2, or with an option changed, one of its mistakes."""
    new = np.percentile(x, [cut, 100 - cut]) if ends is None else ends(x, cut)
    return float(merge[0](low, new[0])), float(merge[1](high, new[1]))


@exercise(
    "23.2",
    widen,
    {
        "that is the batch's range alone: keep what was inside before": partial(
            widen, merge=(lambda old, new: new, lambda old, new: new)
        ),
        "the range has not grown: the batch may reach further": (
            lambda low, high, x, cut: (low, high)
        ),
        "the range shrinks: the lower end is the smaller of the two, the upper the larger": partial(
            widen, merge=(max, min)
        ),
        "single outliers count: use the percentiles": partial(
            widen, ends=lambda x, cut: (np.min(x), np.max(x))
        ),
        "cut is in percent already, 25 stands for a quarter": partial(
            widen, ends=lambda x, cut: np.percentile(x, [cut / 100, 100 - cut / 100])
        ),
        "cut off `cut` percent at each end, not half of it": partial(
            widen, ends=lambda x, cut: np.percentile(x, [cut / 2, 100 - cut / 2])
        ),
        "only the upper end is cut: percentiles on both sides": partial(
            widen, ends=lambda x, cut: (np.min(x), np.percentile(x, 100 - cut))
        ),
        "the two ends have changed places": (
            lambda low, high, x, cut: widen(low, high, x, cut)[::-1]
        ),
        "one percentile for all values, not one for each column": partial(
            widen,
            ends=lambda x, cut: (
                np.percentile(x, cut, axis=0).flat[0],
                np.percentile(x, 100 - cut, axis=0).flat[0],
            ),
        ),
    },
)
def check_widen(answer: Answer) -> None:
    """Two floats, (low, high)."""
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(2, size=(20, 30))
    cases = [(-1.0, 2.0, np.arange(5.0), 25), (-0.5, 0.5, heavy, 1), (-50.0, 0.1, heavy, 5)]
    cases += [(-0.1, 90.0, heavy, 5), (-90.0, 90.0, heavy, 0), (0.0, 0.0, heavy, 0)]
    compare(answer, cases, "low, high")


def greedy_bits(
    size,
    cost,
    choices,
    budget,
    *,
    per_bit=True,
    positive=True,
    stop=False,
    added=True,
    sized=True,
    fits=True,
):
    """The bits of 23.3, or with an option changed, one of its mistakes."""
    size, cost, choices = np.asarray(size), np.asarray(cost), np.asarray(choices)
    at, rows = np.zeros(len(size), int), np.arange(len(size))
    while True:
        up = np.minimum(at + 1, len(choices) - 1)
        more = choices[up] - choices[at]
        gain = cost[rows, at] - cost[rows, up]
        if per_bit:
            gain = gain / np.maximum((size if sized else 1) * (more if added else 1), 1)
        allowed = (up > at) & ((gain > 0) | (not positive))
        room = (size * choices[at]).sum() + size * more <= budget
        if not stop and fits:
            allowed &= room
        if not allowed.any():
            return choices[at]
        best = int(np.where(allowed, gain, -np.inf).argmax())
        if stop and not room[best]:
            return choices[at]
        at[best] += 1
        if not fits and (size * choices[at]).sum() > budget:
            return choices[at]


@exercise(
    "23.3",
    greedy_bits,
    {
        "those are the indices of the choices: return choices[index]": (
            lambda size, cost, choices, budget: np.searchsorted(
                choices, greedy_bits(size, cost, choices, budget)
            )
        ),
        "nothing has been spent: all layers have the fewest bits": (
            lambda size, cost, choices, budget: np.full(len(size), choices[0])
        ),
        "that is the largest gain, not the largest gain per bit that it adds": partial(
            greedy_bits, per_bit=False
        ),
        "divide by the bits that are added: size times the difference of the two choices": partial(
            greedy_bits, added=False
        ),
        "a step adds bits to each weight of its layer: divide by size, too": partial(
            greedy_bits, sized=False
        ),
        "the best layer may not fit while another still does: look among those that fit": partial(
            greedy_bits, stop=True
        ),
        "the last step is beyond the budget: a step must fit before it is taken": partial(
            greedy_bits, fits=False
        ),
        "a step that gains nothing is not taken, even where it fits": partial(
            greedy_bits, positive=False
        ),
    },
)
def check_greedy_bits(answer: Answer) -> None:
    """An array of integers, one for each layer."""
    rng = np.random.default_rng(0)
    choices = np.array([2, 3, 4, 6, 8])
    cases = [(np.array([10, 90]), np.array([[9.0, 1.0], [0.5, 0.0]]), np.array([2, 8]), 300)]
    for layers, mean_bits in ((5, 3), (8, 4), (6, 5), (4, 7.5), (8, 2.6)):
        size = rng.integers(5, 400, layers)
        cost = 4.0**-choices * rng.uniform(0.3, 3, (layers, len(choices)))
        cost = cost * 10 ** rng.uniform(0, 3, (layers, 1))
        cases.append((size, cost, choices, int(mean_bits * size.sum())))
    uneven = np.array([[9.0, 4.0, 0.0], [3.5, 1.0, 0.9]])
    cases.append((np.array([10, 10]), uneven, np.array([2, 3, 8]), 100))
    rising = np.array([[0.5, 0.6, 0.1], [0.2, 0.1, 0.3]])
    cases.append((np.array([7, 9]), rising, np.array([2, 3, 4]), 1000))
    compare(answer, cases)

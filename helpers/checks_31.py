"""Checks of lesson 31, Pruning weights."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def sparsity_at(t, T, final, *, power=3, way=lambda t, T: min(t / T, 1.0)):
    return final * (1 - (1 - way(t, T)) ** power)


@exercise(
    "31.0",
    sparsity_at,
    {
        "beyond T the share moves on: there it stays at final": dict(way=lambda t, T: t / T),
        "the power is 3": dict(power=2),
        "that is a straight line: the share grows fast at first": dict(power=1),
        "that grows slowly at first: it is 1 - t / T that is cubed, and then subtracted from 1": (
            lambda t, T, final: final * min(t / T, 1) ** 3
        ),
        "that is what is still missing to final: subtract it": (
            lambda t, T, final: final * (1 - min(t / T, 1)) ** 3
        ),
        "final is missing: the curve ends there, not at 1": dict(final=1.0),
        "that is the share that stays: the share of zeros is asked for": (
            lambda t, T, final: 1 - sparsity_at(t, T, final)
        ),
        "t / T must stay a fraction: // cuts it off": dict(way=lambda t, T: min(t // T, 1)),
    },
)
def check_sparsity_at(answer: Answer) -> None:
    """One number, the share of zeros."""
    compare(answer, [(25, 100, 0.8), (100, 100, 0.9), (150, 100, 0.9), (0, 50, 0.5), (7, 40, 0.95)])


def obd_scores(w, x, delta, *, square=lambda x, delta: (delta**2).T @ x**2 / len(x), half=0.5):
    return half * np.asarray(w) ** 2 * square(np.asarray(x), np.asarray(delta))


@exercise(
    "31.1",
    obd_scores,
    {
        "that is the square of the mean slope: square the slopes of the images first": dict(
            square=lambda x, delta: (delta.T @ x / len(x)) ** 2
        ),
        "the half is missing": dict(half=1.0),
        "that is the sum over the images: their mean is asked for": dict(
            square=lambda x, delta: (delta**2).T @ x**2
        ),
        "the weight is squared, too: the loss changes by h w^2 / 2": lambda w, x, delta: obd_scores(
            np.sqrt(np.abs(w)), x, delta
        ),
        "the weight is missing: that is h / 2": lambda w, x, delta: obd_scores(
            np.ones_like(w), x, delta
        ),
        "that is h: multiply by w^2 / 2": lambda w, x, delta: obd_scores(
            np.ones_like(w), x, delta, half=1.0
        ),
        "that is the mean slope times w, the gradient score": lambda w, x, delta: (
            np.abs(w * (delta.T @ x)) / len(x)
        ),
        "the inputs are squared, too: the slope at a weight is delta x": dict(
            square=lambda x, delta: (delta**2).T @ x / len(x)
        ),
        "delta is squared, too: the slope at a weight is delta x": dict(
            square=lambda x, delta: delta.T @ x**2 / len(x)
        ),
        "the means of x^2 and of delta^2 are multiplied: take the mean of the products": dict(
            square=lambda x, delta: np.outer((delta**2).mean(0), (x**2).mean(0))
        ),
    },
)
def check_obd_scores(answer: Answer) -> None:
    """An array of the shape of w."""
    rng = np.random.default_rng(31)
    cases = [(np.array([[2.0, 1.0]]), np.array([[1.0, 0], [1, 2]]), np.array([[1.0], [-1]]))]
    for out, inputs, n in ((3, 4, 7), (2, 2, 2), (3, 3, 5)):
        x = np.maximum(rng.normal(0.3, 1, (n, inputs)), 0)
        cases.append((rng.normal(size=(out, inputs)), x, rng.normal(size=(n, out))))
    compare(answer, cases[1:] + cases[:1], advice="first the slopes of single images, delta x")


def floor_mask(
    scores, layer, sparsity, least,
    *, sign=-1, share=lambda mine, n, sparsity: mine, fill=lambda left, all_stay: left,
):  # fmt: skip
    """int [n], 1 where a weight stays, or with an option changed, one of the mistakes of 31.2."""
    order = np.argsort(sign * np.asarray(scores), kind="stable")
    mask = np.zeros(len(order), int)
    for number in np.unique(layer):
        mine = order[np.asarray(layer)[order] == number]
        mask[mine[: round(share(least, len(mine), sparsity) * len(mine))]] = 1
    stay = len(order) - round(sparsity * len(order))
    rest = order[mask[order] == 0]
    mask[rest[: max(fill(stay - mask.sum(), stay), 0)]] = 1
    return mask


@exercise(
    "31.2",
    floor_mask,
    {
        "a layer is left below its floor: that is one threshold for all": dict(least=0.0),
        "the floors alone stay: fill up to the budget with the largest of the others": dict(
            fill=lambda left, stay: 0
        ),
        "too many stay: what the floors keep belongs to the budget": dict(
            fill=lambda left, stay: stay
        ),
        "the smallest stay: begin with the largest scores": dict(sign=1),
        "1 stays and 0 goes, not the other way around": lambda *a: 1 - floor_mask(*a),
        "that is the same share in each layer, not a floor": dict(
            share=lambda least, n, sparsity: 1 - sparsity, fill=lambda left, stay: 0
        ),
        "the floor is a share of the layer's weights, not of those that stay": dict(
            share=lambda least, n, sparsity: least * (1 - sparsity)
        ),
        "sparsity is the share that goes, not the share that stays": lambda s, layer, p, least: (
            floor_mask(s, layer, 1 - p, least)
        ),
    },
)
def check_floor_mask(answer: Answer) -> None:
    """An array of 0 and 1, as many as there are scores."""

    def mask(function, scores, layer, sparsity, least):
        found = function(scores, layer, sparsity, least)
        return found * 1 if str(getattr(found, "dtype", "")).endswith("bool") else found

    rng = np.random.default_rng(312)
    cases = [(np.array([9.0, 8, 7, 6, 1, 2]), np.array([0, 0, 0, 0, 1, 1]), 0.5, 0.5)]
    for sizes, sparsity, least in (((20, 10), 0.6, 0.2), ((10, 30, 10), 0.7, 0.1)):
        layer = np.repeat(np.arange(len(sizes)), sizes)
        scores = rng.permutation(len(layer)) + 50.0 * (layer == 0) + rng.uniform(0, 0.5)
        cases.append((scores, layer, sparsity, least))
    turn = rng.permutation(len(cases[1][0]))  # the weights of a layer need not lie together
    cases.append((cases[1][0][turn], cases[1][1][turn], 0.6, 0.4))
    compare(answer, cases[1:] + cases[:1], run=mask, advice="first the floors, then the rest")


def signs_only(w, mask, *, size=lambda w, mask: np.abs(w)[mask == 1].mean(), sign=np.sign):
    w, mask = np.asarray(w), np.asarray(mask)
    return sign(w) * size(w, mask) * mask


@exercise(
    "31.3",
    signs_only,
    {
        "the mean is taken over the weights that stay, not over all": dict(
            size=lambda w, mask: np.abs(w).mean()
        ),
        "zeros of the mask count in your mean: divide by the number that stays": dict(
            size=lambda w, mask: np.abs(w * mask).mean()
        ),
        "that is the mean of the weights: take |w| first, or the signs cancel": dict(
            size=lambda w, mask: w[mask == 1].mean()
        ),
        "the signs are lost": dict(sign=np.ones_like),
        "the mask is missing: where it is 0, the weight is 0": lambda w, mask: (
            np.sign(w) * np.abs(w)[mask == 1].mean()
        ),
        "that is the weight itself: all that stay get one size": lambda w, mask: w * mask,
        "that is the sign: multiply by the mean |w| of the weights that stay": dict(
            size=lambda w, mask: 1.0
        ),
        "the mean of |w| is asked for, not the root of the mean square": dict(
            size=lambda w, mask: np.sqrt((w[mask == 1] ** 2).mean())
        ),
        "one size for the layer, not for each row": dict(
            size=lambda w, mask: (
                (np.abs(w) * mask).sum(1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)
            )
        ),
    },
)
def check_signs_only(answer: Answer) -> None:
    """An array of the shape of w."""
    rng = np.random.default_rng(313)
    cases = [(np.array([[0.3, -0.1, 0.5]]), np.array([[1, 1, 0]]))]
    for shape in ((3, 5), (4, 4)):
        mask = (rng.random(shape) < 0.5).astype(int)
        mask[0, :2] = 1, 0
        cases.append((rng.normal(size=shape), mask))
    compare(answer, cases[1:] + cases[:1])

"""Checks of lesson 33, Distillation."""

from __future__ import annotations

from functools import partial

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def _log_softmax(a, axis=-1):
    a = np.asarray(a, float)
    a = a - a.max(axis, keepdims=True)
    return a - np.log(np.exp(a).sum(axis, keepdims=True))


def soft_loss(
    z, v, T, *, soften=lambda a, T: a / T, power=2, swap=False, own=True, axis=-1, add=np.mean
):
    """T^2 KL(teacher || student) of 33.0, or with an option changed, one of its mistakes."""
    log_q, log_p = (_log_softmax(soften(np.asarray(a, float), T), axis) for a in (z, v))
    if swap:
        log_q, log_p = log_p, log_q
    each = np.exp(log_p) * ((log_p if own else 0) - log_q)
    return T**power * add(each.sum(axis))


def _one_softened(student):
    """The loss with only the student, or only the teacher, at temperature T."""

    def mistaken(z, v, T):
        z, v = np.asarray(z, float), np.asarray(v, float)
        return soft_loss(z, v * T, T) if student else soft_loss(z * T, v, T)

    return mistaken


@exercise(
    "33.0",
    soft_loss,
    {
        "T² is missing: multiply the mean by it": partial(soft_loss, power=0),
        "multiply by T², not by T": partial(soft_loss, power=1),
        "that divides by T²: multiply by it": partial(soft_loss, power=-2),
        "the other way around: the teacher's p is in front, sum p (log p − log q)": partial(
            soft_loss, swap=True
        ),
        "the teacher's logits are divided by T, too": _one_softened(student=True),
        "the student's logits are divided by T, too": _one_softened(student=False),
        "divide both logits by T before the softmax": partial(soft_loss, soften=lambda a, T: a),
        "divide the logits by T, do not multiply": partial(soft_loss, soften=lambda a, T: a * T),
        "that is the cross-entropy −sum p log q: log p is missing": partial(soft_loss, own=False),
        "the mean over the rows is asked for, not their sum": partial(soft_loss, add=np.sum),
        "that is one loss for each row: take their mean": partial(soft_loss, add=lambda a: a),
        "sum over the classes, and take the mean over the rows only": lambda z, v, T: (
            soft_loss(z, v, T) / np.shape(z)[1]
        ),
        "the softmax goes over the classes, the last axis": partial(soft_loss, axis=0),
        "the sign is wrong: a divergence is not below zero": lambda z, v, T: -soft_loss(z, v, T),
    },
)
def check_soft_loss(answer: Answer) -> None:
    """One number."""
    import torch  # the lesson has imported it already

    generator = torch.Generator().manual_seed(33)
    cases = [(torch.tensor([[2.0, 0, 0]]), torch.tensor([[6.0, 4, 0]]), 2.0)]
    for n, classes, T in ((3, 4, 1.5), (5, 3, 4.0), (2, 6, 0.5)):
        z, v = 3 * torch.randn(2, n, classes, generator=generator)
        cases.append((z, v, T))
    compare(answer, cases[1:] + cases[:1])


def gradient(z, v, T, *, power=1, soften=lambda a, T: a / T, divide=True, sign=1):
    """The gradient of 33.1, or with an option changed, one of its mistakes."""
    q, p = (np.exp(_log_softmax(soften(np.asarray(a, float), T))) for a in (z, v))
    return sign * float(T) ** power * (q - p) / (len(q) if divide else 1)


@exercise(
    "33.1",
    gradient,
    {
        "a step against the gradient brings q to p: q − p, not p − q": partial(gradient, sign=-1),
        "the loss is a mean over the rows: divide by their number": partial(gradient, divide=False),
        "T² is missing: that is the gradient of the divergence alone": partial(gradient, power=-1),
        "T² from the loss, and 1/T from the logits: T is left": partial(gradient, power=0),
        "the division z / T costs a factor 1/T: T is left of T²": partial(gradient, power=2),
        "p and q are the probabilities at temperature T": partial(gradient, soften=lambda a, T: a),
        "that is the limit of a high temperature: take the softmax of both": lambda z, v, T: (
            (np.asarray(z, float) - v - np.mean(np.asarray(z, float) - v, 1, keepdims=True))
            / np.size(z)
        ),
    },
)
def check_gradient(answer: Answer) -> None:
    """An array of the shape of z."""
    rng = np.random.default_rng(331)
    cases = [(np.array([[2.0, 0, 0]]), np.array([[6.0, 4, 0]]), 2.0)]
    for n, classes, T in ((3, 4, 1.5), (5, 3, 4.0), (2, 6, 0.5)):
        cases.append((*rng.normal(0, 3, (2, n, classes)), T))
    compare(answer, cases[1:] + cases[:1])


def smoothing_teacher(labels, K, eps, *, rest=lambda K, eps: eps / K, own=True, final=np.log):
    """The logits of 33.2, or with an option changed, one of its mistakes."""
    p = np.full((len(labels), K), rest(K, eps))
    p[np.arange(len(labels)), labels] = 1 - eps + (rest(K, eps) if own else 0)
    return final(p)


@exercise(
    "33.2",
    smoothing_teacher,
    {
        "those are the probabilities: a teacher's answer is their logarithm": partial(
            smoothing_teacher, final=lambda p: p
        ),
        "eps is spread over all K classes, the label's own included": partial(
            smoothing_teacher, rest=lambda K, eps: eps / (K - 1), own=False
        ),
        "each class gets eps / K, not eps": partial(smoothing_teacher, rest=lambda K, eps: eps),
        "the label gets its eps / K, too: 1 − eps + eps / K": partial(smoothing_teacher, own=False),
        "divide by K, not by K − 1: the label's class gets its part, too": partial(
            smoothing_teacher, rest=lambda K, eps: eps / (K - 1)
        ),
        "take the natural logarithm": partial(smoothing_teacher, final=np.log2),
        "the sign is wrong: a likely class has the larger logit": partial(
            smoothing_teacher, final=lambda p: -np.log(p)
        ),
        "one row for each label, one column for each class": lambda labels, K, eps: (
            smoothing_teacher(labels, K, eps).T
        ),
    },
)
def check_smoothing_teacher(answer: Answer) -> None:
    """An array [N, K] of logits."""

    def probabilities(function, labels, K, eps):
        """As they are: only a constant in each row may differ from the logarithms."""
        found = np.asarray(function(labels, K, eps))
        if found.ndim != 2 or found.dtype.kind not in "iuf":
            return found
        return found - found.max(1, keepdims=True)

    cases = [(np.array([2, 0]), 4, 0.2)]
    for seed, n, K, eps in ((1, 5, 3, 0.1), (2, 3, 10, 0.3), (3, 4, 2, 0.5)):
        cases.append((np.random.default_rng(seed).integers(0, K, n), K, eps))
    compare(answer, cases[1:] + cases[:1], run=probabilities)


def attention(h, *, score=np.square, total=np.sum, axis=1, length=2):
    """The maps of 33.3, or with an option changed, one of its mistakes."""
    a = total(score(np.asarray(h, float)), axis=axis)
    a = a.reshape(len(a), -1)
    if length == "batch":
        return a / np.sqrt((a**2).sum())
    if length is None:
        return a
    return a / (a**length).sum(1, keepdims=True) ** (1 / length)


@exercise(
    "33.3",
    attention,
    {
        "the squares are missing: sum h² over the channels": partial(attention, score=lambda h: h),
        "sum the squares over the channels, not the sizes": partial(attention, score=np.abs),
        "sum over the channels, not the largest of them": partial(attention, total=np.max),
        "divide each row by its length": partial(attention, length=None),
        "the length of a row is the root of its sum of squares, not its sum": partial(
            attention, length=1
        ),
        "each image has a length of its own: divide row by row": partial(attention, length="batch"),
        "one number for each place: sum over the channels, axis 1": partial(attention, axis=(2, 3)),
        "one row for each image: flatten height and width": lambda h: attention(h).reshape(
            np.shape(h)[0], *np.shape(h)[2:]
        ),
    },
)
def check_attention(answer: Answer) -> None:
    """A tensor [N, H W]."""
    import torch  # the lesson has imported it already

    generator = torch.Generator().manual_seed(333)
    cases = [(torch.tensor([[[[1.0, 2]], [[2.0, 0]]]]),)]
    for shape in ((2, 3, 4, 5), (3, 2, 2, 2), (4, 5, 3, 1)):
        cases.append((torch.randn(shape, generator=generator),))
    compare(answer, cases[1:] + cases[:1])

"""Checks of the exercises of lesson 11, neural network math.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, NotYet, as_array, exercise
from helpers.mistakes import compare


def tanh_slope(h):
    return 1 - h**2


@exercise(
    "11.1",
    tanh_slope,
    {
        "h is the output already: do not take its tanh again": lambda h: 1 - np.tanh(h) ** 2,
        "that is the slope of the sigmoid, from its output": lambda h: h * (1 - h),
        "the output stands squared in the slope": lambda h: 1 - h,
        "the output stands squared in the slope, not as |h|": lambda h: 1 - np.abs(h),
        "the sign is wrong: tanh rises everywhere": lambda h: h**2 - 1,
        "that is the slope of the slope": lambda h: -2 * h,
    },
)
def check_tanh_slope(answer: Answer) -> None:
    """An array of the shape of h."""
    h = np.array([[0.5, -0.5, 0.0], [0.9, -0.2, 0.99]])
    compare(answer, [(h,), (np.linspace(-0.8, 0.6, 4),), (h.reshape(3, 1, 2) / 2,)])


def log_softmax(z, largest=lambda z: z.max(1, keepdims=True)):
    z = z - largest(z)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def smoothed_loss(
    logits,
    labels,
    epsilon,
    *,
    log_p=log_softmax,
    others=lambda log_p, right: log_p.mean(1),
    add=np.mean,
):
    log_p = log_p(logits)
    right = log_p[np.arange(len(labels)), labels]
    return float(-add((1 - epsilon) * right + epsilon * others(log_p, right)))


@exercise(
    "11.2",
    smoothed_loss,
    {
        "that is the loss without smoothing: epsilon has no effect": dict(epsilon=0.0),
        "epsilon is spread over all K classes, the right one included": dict(
            others=lambda log_p, right: (log_p.sum(1) - right) / (log_p.shape[1] - 1)
        ),
        "the right class gets epsilon / K, too, on top of its 1 - epsilon": dict(
            others=lambda log_p, right: (log_p.sum(1) - right) / log_p.shape[1]
        ),
        "each class gets epsilon / K: divide by the number of classes": dict(
            others=lambda log_p, right: log_p.sum(1)
        ),
        "every class gets epsilon / K, not only the right one": dict(
            others=lambda log_p, right: right / log_p.shape[1]
        ),
        "that is the sum over the rows: take the mean": dict(add=np.sum),
        "the sign is wrong: the loss is -log p": dict(add=lambda rows: -np.mean(rows)),
        "subtract the largest logit of each row before exp": dict(
            log_p=lambda z: log_softmax(z, largest=lambda z: 0)
        ),
        "subtract the largest logit of each row, not that of the whole batch": dict(
            log_p=lambda z: log_softmax(z, largest=np.max)
        ),
        "do not take the logarithm of p, which may be 0: log p = z - log(sum(exp(z)))": dict(
            log_p=lambda z: np.log(np.exp(log_softmax(z)))
        ),
    },
)
def check_smoothed_loss(answer: Answer) -> None:
    """One number, the mean over the rows."""
    two = np.array([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    five = np.array([[0.3, -2.0, 1.0, 4.0, 0.0]] * 3) * [[1], [0.1], [-2]]
    cases = [
        (two, np.array([0, 2]), 0.1),
        (five, np.array([3, 0, 2]), 0.3),
        (five, np.array([3, 0, 2]), 0.0),
        (np.array([[800.0, 798.0], [-1.0, 2.0]]), np.array([0, 0]), 0.1),
        (np.array([[1000.0, 0.0], [0.0, -5.0]]), np.array([0, 0]), 0.1),
        (np.array([[-1000.0, 1000.0, -1000.0]]), np.array([1]), 0.4),
    ]
    compare(answer, cases, advice="look at each class's target; compute log p without forming p")


def adamw(
    w,
    g,
    state,
    rate,
    decay,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    *,
    shrink=lambda w, rate, decay: w * (1 - rate * decay),
    coupled=False,
    correct=lambda average, beta, t: average / (1 - beta**t),
    root=lambda s, epsilon: np.sqrt(s) + epsilon,
):
    g = g + decay * w if coupled else g
    w = w if coupled else shrink(w, rate, decay)
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    state["s"] = beta2 * state.get("s", 0.0) + (1 - beta2) * g**2
    m, s = correct(state["m"], beta1, t), correct(state["s"], beta2, t)
    return w - rate * m / root(s, epsilon)


def ten_steps(step, start, rate, decay, *more):
    """The weights after each of ten steps, [10, ...], with `more` = beta1, beta2, epsilon."""
    w, state, path = start, {}, []
    for t in range(10):
        g = np.resize([0.3, -1.0, 0.01 * (t - 4), 2e-8], start.shape)  # the last: near epsilon
        w = as_array(step(w, g, state, rate, decay, *more), "the new weight")
        if w.shape != start.shape:
            raise NotYet(f"return the new weight, of shape {start.shape}, not {w.shape}")
        path.append(w)
    return np.array(path)


@exercise(
    "11.3",
    adamw,
    {
        "that is Adam with L2: keep the decay out of the gradient": dict(coupled=True),
        "the decay is missing: w shrinks by rate * decay of itself": dict(decay=0.0),
        "the weight shrinks by rate * decay, not by decay": dict(
            shrink=lambda w, rate, decay: w * (1 - decay)
        ),
        "shrink the weight first, and then take Adam's step": (
            lambda w, g, state, rate, decay, *more: (
                adamw(w, g, state, rate, 0.0, *more) * (1 - rate * decay)
            )
        ),
        "the bias corrections are missing: divide m by 1 - beta1**t, s by 1 - beta2**t": dict(
            correct=lambda average, beta, t: average
        ),
        "t counts from 1: in the first step, 1 - beta**0 is 0": dict(
            correct=lambda average, beta, t: average / np.subtract(1, beta ** (t - 1))
        ),
        "epsilon stands beside the root, not under it": dict(root=lambda s, e: np.sqrt(s + e)),
        "m, s and t have to survive in state from step to step": (
            lambda w, g, state, *more: adamw(w, g, {}, *more)
        ),
        "beta1, beta2 and epsilon are arguments: use them": dict(
            beta1=0.9, beta2=0.999, epsilon=1e-8
        ),
    },
)
def check_adamw(answer: Answer) -> None:
    """The new weight, an array of the shape of w."""
    w = np.array([1.0, -2.0, 0.5, 0.2])
    cases = [
        (w, 0.01, 0.5),
        (w, 0.2, 0.3, 0.6, 0.8, 0.1),
        (w.reshape(2, 2), 0.1, 0.0, 0.5, 0.9, 1e-3),
    ]
    advice = "look at the bias corrections and at rate * decay"
    compare(answer, cases, "the weight in ten steps", run=ten_steps, advice=advice)

"""Checks of the try-it and the exercises of lesson 11, neural network math.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, NotYet, as_array, exercise
from helpers.mistakes import compare


def dense_backward(dA, H, W, *, bias=lambda dA: dA.sum(0)):
    return dA.T @ H, bias(dA), dA @ W


@exercise(
    "11.0",
    dense_backward,
    {
        "dW is upside down: it has the shape of W, [out, in], so dA.T comes first": (
            lambda dA, H, W: (H.T @ dA, *dense_backward(dA, H, W)[1:])
        ),
        "dA and H trade places in dW, and dW is turned around: dA.T @ H": (
            lambda dA, H, W: (dA @ H, *dense_backward(dA, H, W)[1:])
        ),
        "dA holds the 1 / N of the mean already: do not divide dW by N again": (
            lambda dA, H, W: (dA.T @ H / len(dA), *dense_backward(dA, H, W)[1:])
        ),
        "a bias collects from all examples, and dA holds 1 / N already: take the sum, "
        "not the mean": dict(bias=lambda dA: dA.mean(0)),
        "each unit has a bias of its own: sum over the examples, axis 0, only": dict(
            bias=lambda dA: dA.sum()
        ),
        "the sum for db goes over the examples, axis 0, not over the units": dict(
            bias=lambda dA: dA.sum(1)
        ),
        "the same biases serve all examples: add up the rows of dA": dict(bias=lambda dA: dA),
        "dH collects over the units that read it: dA @ W, without the transpose": (
            lambda dA, H, W: (*dense_backward(dA, H, W)[:2], dA @ W.T)
        ),
        "the three are right, in another order: dW, db, dH": (
            lambda *a: (dense_backward(*a)[2], *dense_backward(*a)[:2])
        ),
    },
)
def check_dense_backward(answer: Answer) -> None:
    """Three arrays, dW [out, in], db [out], dH [N, in]."""
    rng = np.random.default_rng(11)
    cases = [
        (np.array([[-0.731, 0.731]]), np.array([[2.0, 0.0]]), np.array([[1.0, -1.0], [0.5, 2.0]]))
    ]
    for n, out, inputs in ((3, 3, 3), (4, 2, 3), (2, 5, 4)):
        cases.append(
            tuple(rng.standard_normal(size) for size in ((n, out), (n, inputs), (out, inputs)))
        )
    compare(answer, cases, "dW, db, dH", advice="let the shapes decide")


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
    root=lambda v, epsilon: np.sqrt(v) + epsilon,
):
    g = g + decay * w if coupled else g
    w = w if coupled else shrink(w, rate, decay)
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
    m, v = correct(state["m"], beta1, t), correct(state["v"], beta2, t)
    return w - rate * m / root(v, epsilon)


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
        "the bias corrections are missing: divide m by 1 - beta1**t, v by 1 - beta2**t": dict(
            correct=lambda average, beta, t: average
        ),
        "t counts from 1: in the first step, 1 - beta**0 is 0": dict(
            correct=lambda average, beta, t: average / np.subtract(1, beta ** (t - 1))
        ),
        "epsilon stands beside the root, not under it": dict(root=lambda v, e: np.sqrt(v + e)),
        "m, v and t have to survive in state from step to step": (
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


def shortcut_backward(
    dH,
    X,
    T,
    W,
    *,
    slope=lambda dH, X, T: 1 - T**2,
    bias=lambda dA: dA.sum(0),
    weight=lambda dA, X, T: dA.T @ X,
    back=lambda dA, W: dA @ W,
    around=lambda dH, dA: dH,
):
    dA = dH * slope(dH, X, T)
    return weight(dA, X, T), bias(dA), around(dH, dA) + back(dA, W)


@exercise(
    "11.4",
    shortcut_backward,
    {
        "dX has two paths: what comes through the layer, and dH itself, around it": dict(
            around=lambda dH, dA: 0
        ),
        "the shortcut passes dH on as it is: the slope of tanh belongs to the layer only": dict(
            around=lambda dH, dA: dA
        ),
        "that is the shortcut only: add what comes through the layer, dA @ W": dict(
            back=lambda dA, W: 0
        ),
        "the slope of tanh is missing: dA = dH * (1 - T**2)": dict(slope=lambda dH, X, T: 1),
        "the slope belongs to the layer's output before X is added: T, not X + T": dict(
            slope=lambda dH, X, T: 1 - (X + T) ** 2
        ),
        "T is the output of tanh already: its slope is 1 - T**2": dict(
            slope=lambda dH, X, T: 1 - np.tanh(T) ** 2
        ),
        "that is the slope of the sigmoid, from its output": dict(
            slope=lambda dH, X, T: T * (1 - T)
        ),
        "through the layer: dA @ W, without the transpose": dict(back=lambda dA, W: dA @ W.T),
        "through the layer: dA @ W, with dA = dH * (1 - T**2) and not dH": (
            lambda dH, X, T, W: (*shortcut_backward(dH, X, T, W)[:2], dH + dH @ W)
        ),
        "dW is upside down: it has the shape of W, [out, in], so dA.T comes first": dict(
            weight=lambda dA, X, T: X.T @ dA
        ),
        "the weights multiply X, not T: dW = dA.T @ X": dict(weight=lambda dA, X, T: dA.T @ T),
        "dH holds the 1 / N of the loss already: take the sum for db, not the mean": dict(
            bias=lambda dA: dA.mean(0)
        ),
        "the same biases serve all examples: add up the rows of dA": dict(bias=lambda dA: dA),
    },
)
def check_shortcut_backward(answer: Answer) -> None:
    """Three arrays, dW [C, C], db [C], dX [N, C]."""
    rng = np.random.default_rng(114)
    cases = [tuple(np.array([[value]]) for value in (1.0, 1.0, 0.5, 2.0))]
    for n, units in ((3, 2), (2, 4), (3, 3)):
        dH, X = rng.standard_normal((2, n, units))
        cases.append(
            (dH, X, np.tanh(rng.standard_normal((n, units))), rng.normal(size=(units,) * 2))
        )
    compare(answer, cases, "dW, db, dX", advice="dX adds up two paths")

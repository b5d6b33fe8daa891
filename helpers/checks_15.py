"""Checks of the try-it and the exercises of lesson 15."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def _sigmoid(v):
    return 1 / (1 + np.exp(-v))


def lstm_update(c, i, f, g, o):
    new = f * c + i * g
    return o * np.tanh(new), new


@exercise(
    "15.0",
    lstm_update,
    {
        "f and i are swapped: the forget gate keeps the old cell, the input gate lets g in": (
            lambda c, i, f, g, o: lstm_update(c, f, i, g, o)
        ),
        "return (h, c), in this order": lambda *a: lstm_update(*a)[::-1],
        "h shows tanh(c), not c": (
            lambda c, i, f, g, o: (o * (f * c + i * g), lstm_update(c, i, f, g, o)[1])
        ),
        "h shows the new cell state, not the old one": (
            lambda c, i, f, g, o: (o * np.tanh(c), lstm_update(c, i, f, g, o)[1])
        ),
        "the output gate is missing: h = o * tanh(c)": (
            lambda c, i, f, g, o: lstm_update(c, i, f, g, np.ones_like(o))
        ),
        "the output gate acts on the tanh of c, and is not inside it": (
            lambda c, i, f, g, o: (np.tanh(o * (f * c + i * g)), f * c + i * g)
        ),
        "no tanh on the path of c: c = f * c + i * g": (
            lambda c, i, f, g, o: (o * np.tanh(np.tanh(f * c + i * g)), np.tanh(f * c + i * g))
        ),
        "g is the candidate already: it has had its tanh": (
            lambda c, i, f, g, o: lstm_update(c, i, f, np.tanh(g), o)
        ),
        "the input gate is missing: i * g comes in": (
            lambda c, i, f, g, o: lstm_update(c, np.ones_like(i), f, g, o)
        ),
        "1 - f is the GRU's way: here i decides what comes in": (
            lambda c, i, f, g, o: lstm_update(c, 1 - f, f, g, o)
        ),
    },
)
def check_lstm_update(answer: Answer) -> None:
    """Two arrays [N, hidden]: h and c."""
    rng = np.random.default_rng(150)
    cases = [tuple(np.array([[v]]) for v in (2.0, 0.5, 0.25, 1.0, 0.5))]
    for shape in ((3, 4), (1, 2)):
        i, f, o = rng.uniform(0, 1, (3, *shape))
        c, g = 2 * rng.standard_normal(shape), np.tanh(rng.standard_normal(shape))
        cases.append((c, i, f, g, o))
    compare(answer, cases, "h, c", advice="c = f * c + i * g, and then h = o * tanh(c)")


def gru_path(dh, h, z, n):
    return dh * z, dh * (h - n), dh * (1 - z)


@exercise(
    "15.1",
    gru_path,
    {
        "z and 1 - z are swapped: the old state is multiplied with z": (
            lambda dh, h, z, n: (dh * (1 - z), dh * (h - n), dh * z)
        ),
        "z stands in both terms: its gradient is dh * (h - n)": (
            lambda dh, h, z, n: (dh * z, dh * h, dh * (1 - z))
        ),
        "1 - z falls where z grows: n enters dL/dz with a minus": (
            lambda dh, h, z, n: (dh * z, dh * (h + n), dh * (1 - z))
        ),
        "only the second term holds n: dL/dn is dh * (1 - z)": (
            lambda dh, h, z, n: (dh * z, dh * (h - n), -dh * z)
        ),
        "the sign of dL/dz is turned: z multiplies the old state, 1 - z the candidate": (
            lambda dh, h, z, n: (dh * z, dh * (n - h), dh * (1 - z))
        ),
        "the gradients are asked for before the sigmoid and the tanh: without their slopes": (
            lambda dh, h, z, n: (dh * z, dh * (h - n) * z * (1 - z), dh * (1 - z) * (1 - n**2))
        ),
        "all three are multiplied with dh": (
            lambda dh, h, z, n: (z + 0 * dh, h - n + 0 * dh, 1 - z + 0 * dh)
        ),
        "return them in the order dL/dh, dL/dz, dL/dn": (
            lambda dh, h, z, n: (dh * z, dh * (1 - z), dh * (h - n))
        ),
    },
)
def check_gru_path(answer: Answer) -> None:
    """Three arrays [N, hidden]: dL/dh, dL/dz, dL/dn."""
    rng = np.random.default_rng(151)
    cases = [tuple(np.array([[v]]) for v in (2.0, 0.8, 0.75, -1.0))]
    for shape in ((3, 4), (2, 1)):
        dh, h, n = rng.standard_normal((3, *shape))
        cases.append((dh, np.tanh(h), rng.uniform(0, 1, shape), np.tanh(n)))
    compare(answer, cases, "dL/dh, dL/dz, dL/dn", advice="treat the other two as constants")


def forget_bias(steps, kept):
    gate = kept ** (1 / steps)
    return float(np.log(gate / (1 - gate)))


@exercise(
    "15.2",
    forget_bias,
    {
        "that is the gate itself: which b has sigmoid(b) equal to it?": (
            lambda steps, kept: kept ** (1 / steps)
        ),
        "you applied the sigmoid to the gate: it is the inverse that is asked for": (
            lambda steps, kept: float(_sigmoid(kept ** (1 / steps)))
        ),
        "the sign is wrong: log(f / (1 - f)), and an open gate has b > 0": (
            lambda steps, kept: -forget_bias(steps, kept)
        ),
        "this keeps the part in a single step: the gate acts `steps` times": (
            lambda steps, kept: forget_bias(1, kept)
        ),
        "log(steps) is the rule of thumb: here the part `kept` matters too": (
            lambda steps, kept: float(np.log(steps))
        ),
        "log(steps - 1) is the rule of thumb: here the part `kept` matters too": (
            lambda steps, kept: float(np.log(steps - 1))
        ),
        "kept / steps is not the gate: f, multiplied with itself `steps` times, is kept": (
            lambda steps, kept: forget_bias(1, kept / steps)
        ),
        "log(f) is not the inverse of the sigmoid: that is log(f / (1 - f))": (
            lambda steps, kept: float(np.log(kept) / steps)
        ),
    },
)
def check_forget_bias(answer: Answer) -> None:
    """One number."""
    cases = [(100, 0.5), (10, 0.9), (50, 0.1), (2, 0.99)]
    compare(answer, cases, "the bias", advice="the inverse of the sigmoid at kept ** (1 / steps)")


def gru_reset_before(x, h, W_xh, W_hh, b, *, keep="z", order="rzn", reset="before", bias="all"):
    """The solution, and with other options the mistakes that are known."""
    b_n = np.split(b, 3)[2]
    b = b if bias == "all" else 0 * b
    inputs = dict(zip(order, np.split(x @ W_xh.T + b, 3, axis=1), strict=True))
    matrices = dict(zip(order, np.split(W_hh, 3), strict=True))
    r, z = (_sigmoid(inputs[k] + h @ matrices[k].T) for k in "rz")
    if reset == "before":
        recurrent = (r * h) @ matrices["n"].T
    elif reset == "everywhere":
        z = _sigmoid(inputs["z"] + (r * h) @ matrices["z"].T)
        recurrent = (r * h) @ matrices["n"].T
    elif reset == "by z":
        recurrent = (z * h) @ matrices["n"].T
    elif reset == "pytorch":
        inputs["n"] = inputs["n"] - b_n
        recurrent = r * (h @ matrices["n"].T + b_n)
    else:
        recurrent = h @ matrices["n"].T * (r if reset == "after" else 1)
    n = np.tanh(inputs["n"] + recurrent)
    if reset == "all":
        n = np.tanh(r * (inputs["n"] + h @ matrices["n"].T))
    if keep == "no tanh":
        return z * h + (1 - z) * (inputs["n"] + recurrent)
    return z * h + (1 - z) * n if keep == "z" else (1 - z) * h + z * n


@exercise(
    "15.3",
    gru_reset_before,
    {
        "that is the reset after the product, as in gru_cell: reset h first": dict(reset="after"),
        "the reset gate is missing: the candidate sees r * h, not h": dict(reset="none"),
        "the reset belongs to the state alone: input and bias are outside": dict(reset="all"),
        "that is gru_cell with the bias inside the reset: here r multiplies h": dict(
            reset="pytorch"
        ),
        "only the candidate sees r * h: the update gate z sees h itself": dict(reset="everywhere"),
        "the reset is r, the first part of the stack, not z": dict(reset="by z"),
        "the tanh of the candidate is missing": dict(keep="no tanh"),
        "z and 1 - z are swapped: z keeps the old state here": dict(keep="1-z"),
        "the stack begins with r, then z: Keras's order is the other one": dict(order="zrn"),
        "the bias is missing: it belongs to all three gates": dict(bias="none"),
        "the matrices are not transposed: in rows, the product W h becomes h @ W.T": (
            lambda x, h, W_xh, W_hh, b: gru_reset_before(
                x, h, W_xh, np.concatenate([W.T for W in np.split(W_hh, 3)]), b
            )
        ),
    },
)
def check_gru_reset_before(answer: Answer) -> None:
    """An array [N, hidden]."""
    rng = np.random.default_rng(153)
    shapes = ((4, 2), (4, 3), (9, 2), (9, 3), (9,))
    halved = np.ones((1, 2)), np.array([[0.4, -0.2]]), np.zeros((6, 2)), np.zeros((6, 2))
    cases = [(*halved, np.zeros(6)), tuple(rng.standard_normal(shape) for shape in shapes)]
    compare(answer, cases, "the next h", advice="n = tanh(W_xn x + b_n + W_hn (r * h))")


def memory_biases(lengths):
    b = np.log(np.asarray(lengths, float) - 1)
    return b, -b


@exercise(
    "15.4",
    memory_biases,
    {
        "sigmoid(log(T)) is T / (T + 1): take log(T - 1)": (
            lambda lengths: (np.log(lengths), -np.log(lengths))
        ),
        "those are the gates: return the biases, log(T - 1) and its negative": (
            lambda lengths: (1 - 1 / lengths, 1 / lengths)
        ),
        "the two are swapped: the forget gates come first, and are open": (
            lambda lengths: memory_biases(lengths)[::-1]
        ),
        "the input gates are to be closed: their biases are the negative ones": (
            lambda lengths: memory_biases(lengths)[:1] * 2
        ),
        "one bias for each unit: keep the lengths apart": (
            lambda lengths: tuple(np.full(len(lengths), b.mean()) for b in memory_biases(lengths))
        ),
    },
)
def check_memory_biases(answer: Answer) -> None:
    """Two arrays [units]: the biases of the forget and of the input gates."""
    rng = np.random.default_rng(154)
    cases = [(np.array([2.0, 101.0]),), (rng.uniform(2, 100, 16),), (np.array([10, 30, 300]),)]
    compare(answer, cases, "b_f, b_i", advice="sigmoid(b) = 1 - 1 / T means exp(b) = T - 1")

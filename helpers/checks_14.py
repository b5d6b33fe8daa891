"""Checks of the try-it and the exercises of lesson 14."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, NotYet, as_array, exercise
from helpers.mistakes import compare


def rnn_cell(x, h, W_xh, W_hh, b_h):
    return np.tanh(x @ W_xh.T + h @ W_hh.T + b_h)


@exercise(
    "14.0",
    rnn_cell,
    {
        "tanh is missing": lambda x, h, W_xh, W_hh, b_h: x @ W_xh.T + h @ W_hh.T + b_h,
        "the bias is missing": lambda x, h, W_xh, W_hh, b_h: np.tanh(x @ W_xh.T + h @ W_hh.T),
        "the old state is missing: add h @ W_hh.T": (
            lambda x, h, W_xh, W_hh, b_h: np.tanh(x @ W_xh.T + b_h)
        ),
        "the input is missing: add x @ W_xh.T": (
            lambda x, h, W_xh, W_hh, b_h: np.tanh(h @ W_hh.T + b_h)
        ),
        "W_hh is not transposed: in rows, the product W h becomes h @ W.T": (
            lambda x, h, W_xh, W_hh, b_h: np.tanh(x @ W_xh.T + h @ W_hh + b_h)
        ),
        "one tanh around the whole sum, not one around each part": (
            lambda x, h, W_xh, W_hh, b_h: np.tanh(x @ W_xh.T) + np.tanh(h @ W_hh.T) + b_h
        ),
        "that is the sigmoid: the state's function is tanh": (
            lambda x, h, W_xh, W_hh, b_h: 1 / (1 + np.exp(-(x @ W_xh.T + h @ W_hh.T + b_h)))
        ),
        "one state for each sequence is asked for: rows of the batch, columns of the state": (
            lambda *a: rnn_cell(*a).T
        ),
    },
)
def check_rnn_cell(answer: Answer) -> None:
    """An array [N, hidden]."""
    rng = np.random.default_rng(140)
    one = np.ones((1, 1))
    cases = [(one, 0 * one, one, 0.5 * one, np.zeros(1))]
    for n, inputs, hidden in ((4, 2, 3), (1, 5, 2)):
        shapes = (n, inputs), (n, hidden), (hidden, inputs), (hidden, hidden), (hidden,)
        cases.append(tuple(rng.standard_normal(shape) for shape in shapes))
    compare(answer, cases, advice="np.tanh of x @ W_xh.T plus h @ W_hh.T plus b_h")


def one_unit_gradient(x, w_xh, w_hh, *, wrt="w_hh", slope="own", fade=True, parts="all"):
    """The solution, and with other options the mistakes that are known."""
    h = [0.0]
    for x_t in x:
        h.append(float(np.tanh(w_xh * x_t + w_hh * h[-1])))
    total, dh = 0.0, 1.0
    for t in range(len(x), 0, -1):
        s = h[t - 1] if slope == "before" else h[t]
        da = dh if slope == "none" else dh * (1 - s**2)
        part = da * {"w_hh": h[t - 1], "w_xh": x[t - 1], "own": h[t]}[wrt]
        total = part if parts == "first" else total + part
        if parts == "last":
            break
        dh = (da if fade != "flat" else dh) * (w_hh if fade else 1)
    return total


@exercise(
    "14.1",
    one_unit_gradient,
    {
        "only the last step is there: w_hh acted at every step, so walk on to the first": (
            dict(parts="last")
        ),
        "the slope of tanh is missing: 1 - h_t**2": dict(slope="none"),
        "the slope belongs to the state after the tanh: 1 - h_t**2, not 1 - h_(t-1)**2": (
            dict(slope="before")
        ),
        "going one step back multiplies the gradient with w_hh": dict(fade=False),
        "what goes one step back has passed the tanh: it is da * w_hh, not dh * w_hh": (
            dict(fade="flat")
        ),
        "that is the gradient in w_xh: w_hh is multiplied with the state before": dict(wrt="w_xh"),
        "w_hh was multiplied with the state before the step, h_(t-1), not with h_t": (
            dict(wrt="own")
        ),
        "add up the parts of all steps: only that of the first is left": dict(parts="first"),
        "that is the last state itself, the loss: its gradient is asked for": (
            lambda x, w_xh, w_hh: _last_state(x, w_xh, w_hh)
        ),
    },
)
def check_one_unit_gradient(answer: Answer) -> None:
    """One number."""
    rng = np.random.default_rng(141)
    cases = [(np.array([1.0, 0, 0]), 1.0, 0.5)]
    cases += [(rng.standard_normal(n), *rng.uniform(0.4, 1.2, 2).tolist()) for n in (4, 7, 1)]
    compare(answer, cases, "dL/dw_hh", advice="add up dL/da_t * h_(t-1) on the way back")


def _last_state(x, w_xh, w_hh):
    h = 0.0
    for x_t in x:
        h = float(np.tanh(w_xh * x_t + w_hh * h))
    return h


def truncated_gradient(d_outputs, h, W_hh, block, *, offset=0, keep=False, W_back=None, cut=True):
    """The solution, and with other options the mistakes that are known."""
    total, from_later = np.zeros_like(W_hh), np.zeros_like(h[:, 0])
    W_back = W_hh if W_back is None else W_back
    steps = h.shape[1] - 1
    for t in range(steps, 0, -1):
        da = (d_outputs[:, t - 1] + from_later) * (1 - h[:, t] ** 2)
        total += da.T @ h[:, t - 1]
        begins = (steps - t + 1 if keep else t - 1 + offset) % block == 0
        from_later = np.zeros_like(da) if begins and cut else da @ W_back
    return total


def _without_the_first_steps(d_outputs, h, W_hh, block):
    """The parts of the steps that begin a block are left out."""
    total, from_later = np.zeros_like(W_hh), np.zeros_like(h[:, 0])
    for t in range(h.shape[1] - 1, 0, -1):
        da = (d_outputs[:, t - 1] + from_later) * (1 - h[:, t] ** 2)
        begins = (t - 1) % block == 0
        total += 0 if begins else da.T @ h[:, t - 1]
        from_later = np.zeros_like(da) if begins else da @ W_hh
    return total


@exercise(
    "14.2",
    truncated_gradient,
    {
        "nothing is cut: where t begins a block, from_later becomes 0 after that step": (
            dict(cut=False)
        ),
        "your cut is one step off: blocks begin where t - 1 is a multiple of `block`, and there "
        "step t passes nothing on to step t - 1": dict(offset=1),
        "your cut is one step off: a block's second step still passes on to its first": (
            dict(offset=-1)
        ),
        "the blocks are counted from step 1, not from the end": dict(keep=True),
        "W_hh^T times a vector is, in rows, da @ W_hh, not da @ W_hh.T": (
            lambda d, h, W, block: truncated_gradient(d, h, W, block, W_back=W.T)
        ),
        "a block's first step has a part in the sum as well: cut only what goes on from it": (
            _without_the_first_steps
        ),
        "that is the transpose: rows belong to dL/da, columns to the state before": (
            lambda *a: truncated_gradient(*a).T
        ),
    },
)
def check_truncated_gradient(answer: Answer) -> None:
    """An array [hidden, hidden]."""
    h = [0.0]
    for x in (1.0, 0, 0):
        h.append(np.tanh(x + 0.5 * h[-1]))
    last = np.array([0, 0, 1.0]).reshape(1, 3, 1)
    small = last, np.array(h).reshape(1, 4, 1), np.array([[0.5]])
    cases = [(*small, 1), (*small, 3)]
    rng = np.random.default_rng(142)
    for steps, block in ((7, 3), (6, 2), (5, 4)):
        d, h = rng.standard_normal((2, steps, 3)), np.tanh(rng.standard_normal((2, steps + 1, 3)))
        cases.append((d, h, rng.standard_normal((3, 3)), block))
    compare(answer, cases, "dL/dW_hh", advice="from_later is 0 after the first step of a block")


def orthogonal(units, rng):
    return np.linalg.qr(rng.standard_normal((units, units)))[0]


def _turned(function, units, seed):
    """Q^T Q of what the function returns."""
    Q = as_array(function(units, np.random.default_rng(seed)), "an orthogonal matrix")
    return Q.T @ Q if Q.ndim == 2 else Q


def _unit_columns(units, rng):
    W = rng.standard_normal((units, units))
    return W / np.linalg.norm(W, axis=0)


def _radius_one(units, rng):
    W = rng.standard_normal((units, units))
    return W / np.abs(np.linalg.eigvals(W)).max()


@exercise(
    "14.3",
    orthogonal,
    {
        "neither a random matrix nor the R of np.linalg.qr is orthogonal: its Q is, and comes "
        "first": lambda units, rng: rng.standard_normal((units, units)),
        "columns of length 1 are not enough: they have to stand at right angles as well": (
            _unit_columns
        ),
        "a spectral radius of 1 is not enough: the other eigenvalues are smaller": _radius_one,
    },
)
def check_orthogonal(answer: Answer) -> None:
    """An array [units, units]."""
    cases = [(8, 1), (3, 2)]
    compare(answer, cases, "Q^T Q", run=_turned, advice="Q of np.linalg.qr has Q^T Q = I")
    first, again, second = (
        np.asarray(answer(8, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    if np.allclose(first, second):
        raise NotYet("two generators give the same matrix: draw it with rng")
    if not np.allclose(first, again):
        raise NotYet("the same seed gives another matrix: draw from rng, and from nothing else")

"""Every exercise: its solution is accepted, plausible mistakes are rejected with a fitting hint."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lesson_code import cells, definitions
from numpy.random import default_rng

from helpers import checks

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def erase_with(high=21, same=False, size=8, inplace=False, seeded=True, diagonal=False):
    def erase(x, generator):
        n = len(x)
        corner = torch.randint(
            0, high, (2, 1 if same else n), generator=generator if seeded else None
        )
        if diagonal:
            corner = corner[:1].repeat(2, 1)
        rows, columns = ((torch.arange(28) - c[:, None]) for c in corner)
        inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[
            :, None
        ]
        mask = (~inside)[:, None].float()
        return x.mul_(mask) if inplace else x * mask

    return erase


def gru_with(reset="before", keep="z", order="rzn"):
    """The GRU of exercise 13.2, right or with one of the usual mistakes."""

    def step(x, h, W_ih, W_hh, b):
        gate = {k: slice(3 * i, 3 * i + 3) for i, k in enumerate(order)}
        z_x = x @ W_ih.T + b
        r, z = (1 / (1 + np.exp(-(z_x[:, gate[k]] + h @ W_hh[gate[k]].T))) for k in "rz")
        product = (r * h if reset == "before" else h) @ W_hh[gate["n"]].T
        n = np.tanh(z_x[:, gate["n"]] + (r * product if reset == "after" else product))
        return z * h + (1 - z) * n if keep == "z" else (1 - z) * h + z * n

    return step


def split_by(subjects, people):
    out = np.isin(subjects, people)
    return np.flatnonzero(~out), np.flatnonzero(out)


def mean_precision(labels, answers):
    used = [k for k in range(4) if (answers == k).any()]
    return np.mean([(labels[answers == k] == k).mean() for k in used])


def days(watt_hours, sleep_watts, awake_watts, seconds, per_hour):
    awake = seconds * per_hour / 3600
    return watt_hours / (awake * awake_watts + (1 - awake) * sleep_watts) / 24


def batch(n, m, peak, bandwidth, size):
    cost = peak / bandwidth * size
    return cost * n * m / (n * m - cost * (n + m) or 1e-9)


def smoothed(logits, labels, epsilon, offset=None):
    z = logits - (logits.max(1, keepdims=True) if offset is None else offset)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    return -((1 - epsilon) * log_p[range(len(z)), labels] + epsilon * log_p.mean(1)).mean()


def adam_step(coupled=False, corrected=True, decay_rate=True, stateless=False, inplace=False):
    def step(w, g, state, rate, decay, beta1=0.9, beta2=0.999, epsilon=1e-8):
        if coupled:
            g = g + decay * w
        elif inplace:
            w *= 1 - rate * decay
        else:
            w = w * (1 - (rate if decay_rate else 1) * decay)
        state = {} if stateless else state
        t = state["t"] = state.get("t", 0) + 1
        m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
        s = state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g**2
        if corrected:
            m, s = m / (1 - beta1**t), s / (1 - beta2**t)
        return w - rate * m / (np.sqrt(s) + epsilon)

    return step


def separable(depthwise, mixing=lambda c, o, k: c * o, places=True):
    def cost(c, o, k, h, w):
        params = depthwise(c, o, k) + mixing(c, o, k)
        return params, params * (h * w if places else 1)

    return cost


def fourier(rows=None, conjugate=True, shape=True, cut=True, full=False):
    def correlate(x, w):
        kernel = np.fft.fft2(w, x.shape) if full else np.fft.rfft2(w, x.shape)
        product = (np.fft.fft2(x) if full else np.fft.rfft2(x)) * (
            np.conj(kernel) if conjugate else kernel
        )
        if full:
            y = np.fft.ifft2(product)
        else:
            y = np.fft.irfft2(product, x.shape) if shape else np.fft.irfft2(product)
        (H, W), (kh, kw) = x.shape, w.shape
        if rows == "last":
            return y[kh - 1 :, kw - 1 :]
        return y[: H - kh + 1, : W - kw + 1] if cut else y

    return correlate


def unsigned(low, high, bits, stretch=True, steps=None, signed=False, sign=1, whole=round):
    if stretch:
        low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (steps or 2**bits - 1)
    return scale, sign * whole(-low / scale) - signed * 2 ** (bits - 1)


def threshold(x, bits, thresholds, clip=True, power=2, pick=np.argmin, sign=1):
    top = 2 ** (bits - sign) - 1
    step = thresholds[:, None] / top
    q = np.rint(x / step)
    q = q.clip(-top, top) if clip else q
    errors = (np.abs(x - step * q) ** power).sum(1)
    return thresholds[pick(errors)]


def squared_error(x, bits, thresholds):
    top = 2 ** (bits - 1) - 1
    step = thresholds[:, None] / top
    return ((x - step * np.rint(x / step).clip(-top, top)) ** 2).sum(1)


def e2m1(x, largest=6.0, smallest=0, rule=np.rint, keep_sign=True, flat=False):
    size = np.minimum(np.abs(x), largest)
    step = np.exp2(np.maximum(np.frexp(np.minimum(size, 1e9))[1] - 1, smallest) - 1)
    result = rule(size / step) * step
    result = np.copysign(result, x) if keep_sign else result
    return result.ravel() if flat else result


def slope(x, step, qmin, qmax, clipped=None, seen=lambda v: v, unit=1.0):
    """The slope of exercise 23.1, right or with one of the usual mistakes."""
    v = x / step
    inside = (seen(v) >= qmin) & (seen(v) <= qmax)
    limit = np.where(v < 0, qmin, qmax) if clipped is None else clipped
    return np.where(inside, unit * (np.rint(v) - v), limit)


def folded(
    q, step, gamma, beta, mean, variance, eps, size=np.abs, sign=lambda g: g, root=np.sqrt,
    shift=lambda g: g,
):  # fmt: skip
    g = gamma / root(variance + eps)
    signs = np.sign(sign(g)).astype(int)[:, None, None, None]
    return q * signs, step * size(g), beta - mean * shift(g)


def oscillation(integers, m, turned=True, keep=True):
    f = last = np.zeros(integers.shape[1])
    for change in np.sign(np.diff(integers.astype(int), axis=0)):
        o = change * last < 0 if turned else change != 0
        f = m * o + (1 - m) * f
        last = np.where(change != 0, change, last) if keep else change
    return f


def dense(w, b, gamma, beta, mean, var, eps, *, along=0, root=np.sqrt, bias=None, by_eps=1):
    """Exercise 22.1 with one mistake, or none."""
    factor = gamma / root(var + by_eps * eps)
    scaled = factor[:, None] * w if along == 0 else factor * w
    return scaled, (beta + factor * (b - mean) if bias is None else bias(b, beta, factor, mean))


def equalized(w1, b1, w2, *, power=0.5, bias=True, back=True):
    """Exercise 22.2 with one mistake, or none."""
    s = (np.abs(w2).max(0) / np.abs(w1).max(1)) ** power
    return s[:, None] * w1, s * b1 if bias else b1, w2 / s if back else w2


def flipped(w, step, H, *, limit=1000, best=np.argmin):
    """Exercise 22.3, stopped after `limit` turns."""
    q = np.rint(w / step)
    for _ in range(limit):
        turn = np.where(q > w / step, -1, 1)
        change = 2 * step * turn * (H @ (step * q - w)) + step**2 * np.diag(H)
        at = best(change)
        if change[at] >= -1e-12:
            break
        q[at] += turn[at]
    return q


# (exercise, wrong answer, words of the hint that fits)
WRONG = [
    ("00.1", lambda p: p - np.uint8(128), "wrapped around"),
    ("00.1", lambda p: p / 255, "real value"),
    ("00.1", lambda p: p.astype(np.int8), "Subtract first"),
    ("00.1", lambda p: p.astype(int) - 128, "dtype is int64"),
    ("00.1", lambda p: np.clip(p, 0, 127).astype(np.int8), "shift by the zero point"),
    ("00.1", lambda p: (p.astype(int) - 127).clip(-128, 127).astype(np.int8), "expected -128"),
    ("00.1", lambda p: p.no_such_thing, "raised AttributeError"),
    ("00.1", np.array([1]), "pass the function itself"),
    ("11.1", lambda h: 1 - np.tanh(h) ** 2, "output already"),
    ("11.1", lambda h: h * (1 - h), "slope of the sigmoid"),
    ("11.1", lambda h: 1 - h, "squared"),
    ("11.1", lambda h: (1 - h**2).sum(), "expected the shape"),
    ("11.1", lambda h: -2 * h, "expected 0.75"),
    ("11.2", lambda z, y, e: smoothed(z, y, 0.0), "without smoothing"),
    ("11.2", lambda z, y, e: smoothed(z, y, e * z.shape[1] / (z.shape[1] - 1)), "right one"),
    ("11.2", lambda z, y, e: smoothed(z, y, e) * len(z), "sum over the rows"),
    ("11.2", lambda z, y, e: smoothed(z, y, e, np.zeros(1)), "subtract the largest"),
    ("11.2", lambda z, y, e: np.zeros(len(z)), "one number"),
    ("11.2", lambda z, y, e: 1.0, "expected"),
    ("11.3", adam_step(coupled=True), "keep the decay out"),
    ("11.3", adam_step(corrected=False), "bias corrections"),
    ("11.3", adam_step(decay_rate=False), "rate * decay"),
    ("11.3", adam_step(stateless=True), "still empty"),
    ("11.3", adam_step(inplace=True), "has changed"),
    ("12.1", separable(lambda c, o, k: c * o * k**2, lambda c, o, k: 0), "full convolution"),
    ("12.1", separable(lambda c, o, k: c * c * k**2), "groups = c_in"),
    ("12.1", separable(lambda c, o, k: c * k**2, lambda c, o, k: c * o * k**2), "is 1x1"),
    ("12.1", separable(lambda c, o, k: c * k**2, lambda c, o, k: 0), "mixes the maps is missing"),
    ("12.1", separable(lambda c, o, k: 0), "depthwise convolution is missing"),
    ("12.1", separable(lambda c, o, k: o * k**2), "comes first"),
    ("12.1", separable(lambda c, o, k: c * k**2 + c + o), "biases"),
    ("12.1", separable(lambda c, o, k: c * k**2, places=False), "14 x 14 places"),
    ("12.1", lambda *a: separable(lambda c, o, k: c * k**2)(*a)[::-1], "trade places"),
    ("12.1", lambda *a: 656, "two numbers"),
    ("12.1", lambda *a: (1, 2), "expected 656"),
    ("12.2", lambda c, s: np.ones((c, 1, s, s), np.float32), "sum of the window"),
    ("12.2", lambda c, s: np.full((c, 1, s, s), 1 / s, np.float32), "4 pixels, not 2"),
    ("12.2", lambda c, s: np.full((c, c, s, s), 1 / s**2, np.float32), "groups=3"),
    ("12.2", lambda c, s: np.full((c, 1, s, s), 1 / (c * s * s), np.float32), "over the channels"),
    ("12.2", lambda c, s: np.full((c, 1, s, s), 1 / s**2), "dtype is float64"),
    ("12.2", lambda c, s: np.full((c, s, s), 1 / s**2), "the shape is"),
    ("12.2", lambda c, s: np.full((c, 1, s, s), 0.3), "contributes 1/4"),
    ("12.3", fourier(conjugate=False), "that is the convolution"),
    ("12.3", fourier(conjugate=False, rows="last"), "that is the convolution"),
    ("12.3", fourier(rows="last"), "at the wrong end"),
    ("12.3", fourier(cut=False), "went round the edge"),
    ("12.3", fourier(full=True), "complex"),
    ("12.3", lambda x, w: fourier()(x, w)[:, :-1], "the shape is"),
    ("12.3", fourier(shape=False), "assumes an even width"),
    ("12.3", lambda x, w: fourier()(x, w) / 2, "largest difference"),
    ("13.1", lambda steps, kept: kept ** (1 / steps), "gate itself"),
    ("13.1", lambda steps, kept: 1 / (1 + np.exp(-(kept ** (1 / steps)))), "inverse"),
    ("13.1", lambda steps, kept: -math.log(1 / (kept ** (-1 / steps) - 1)), "sign is wrong"),
    ("13.1", lambda steps, kept: math.log(kept / (1 - kept)), "single step"),
    ("13.1", lambda steps, kept: math.log(steps), "rule of thumb"),
    ("13.1", lambda steps, kept: math.log(steps - 1), "rule of thumb"),
    ("13.1", lambda steps, kept: np.array([steps, kept]), "one number"),
    ("13.1", lambda steps, kept: 5.0, "expected"),
    ("13.2", gru_with(reset="after"), "reset after the product"),
    ("13.2", gru_with(reset="none"), "reset gate is missing"),
    ("13.2", gru_with(keep="1-z"), "swapped"),
    ("13.2", gru_with(order="zrn"), "begins with r"),
    ("13.2", lambda x, h, W, U, b: gru_with()(x, h, W, U, 0 * b), "bias is missing"),
    ("13.2", lambda x, h, W, U, b: gru_with()(x, h, W, U, b)[:1], "expected (4, 3)"),
    ("13.2", lambda x, h, W, U, b: gru_with()(x, 0 * h, W, U, b), "first new state"),
    ("13.2", lambda x, h, W, U, b: gru_with()(x, h.T, W, U, b), "raised ValueError"),
    ("13.3", lambda s, held, g: np.split(g.permutation(len(s)), [6]), "draw people"),
    ("13.3", lambda s, held, g: split_by(s, np.unique(s)[:held]), "draw from all"),
    ("13.3", lambda s, held, g: split_by(s, g.choice(s, held)), "in the test part"),
    ("13.3", lambda s, held, g: split_by(s, g.choice(np.unique(s), held, False))[::-1], "swapped"),
    (
        "13.3",
        lambda s, held, g: split_by(s, default_rng().choice(np.unique(s), held, False)),
        "generator",
    ),
    ("13.3", lambda s, held, g: (s != 3, s == 3), "not masks"),
    ("13.3", lambda s, held, g: (s[s != 3], s[s == 3]), "does not exist"),
    ("13.3", lambda s, held, g: (np.array([0.0]), np.array([2.0])), "whole"),
    ("13.3", lambda s, held, g: (np.array([0, 1]), np.array([2, 4, 10])), "every window"),
    ("13.3", lambda s, held, g: np.flatnonzero(s == 3), "two arrays"),
    ("14.1", lambda y, a: (y == a).mean(), "plain accuracy"),
    (
        "14.1",
        lambda y, a: sum((a[y == k] == k).mean() for k in (0, 1, 3)) / 4,
        "class 2 never occurs",
    ),
    ("14.1", lambda y, a: np.mean([(a[y == k] == k).mean() for k in (0, 1)]), "expected 0.7"),
    ("14.1", mean_precision, "mean precision"),
    ("14.1", lambda y, a: np.array([0.6, 0.5, 1]), "one number"),
    ("14.2", lambda p, h: int(1.96**2 * p * (1 - p) / h**2), "round up"),
    ("14.2", lambda p, h: 1.96**2 * p * (1 - p) / h**2, "round up"),
    ("14.2", lambda p, h: int(np.ceil(p * (1 - p) / h**2)), "1.96 is missing"),
    ("14.2", lambda p, h: int(np.ceil(1.96**2 * p * (1 - p) / (2 * h) ** 2)), "half-width"),
    ("14.2", lambda p, h: int(np.ceil(1.96 * np.sqrt(p * (1 - p)) / h)), "square"),
    ("14.2", lambda p, h: 100, "expected 3458"),
    ("14.3", erase_with(same=True), "draw one corner for each image"),
    ("14.3", erase_with(high=20), "upper end"),
    ("14.3", erase_with(high=28), "0..20"),
    ("14.3", erase_with(size=9, high=20), "not 8x8"),
    ("14.3", erase_with(inplace=True), "has changed"),
    ("14.3", erase_with(seeded=False), "pass generator"),
    ("14.3", erase_with(diagonal=True), "independent"),
    ("14.3", lambda x, generator: x * 0.5, "stay as they are"),
    ("14.3", lambda x, generator: x[:1], "of shape"),
    ("15.1", lambda e, a, b, t, n: 24 * days(e, a, b, t, n), "those are hours"),
    ("15.1", lambda e, a, b, t, n: e / (t * n / 3600 * b + a) / 24, "not asleep"),
    ("15.1", lambda e, a, b, t, n: e / (t * n / 3600 * b) / 24, "between the answers"),
    ("15.1", lambda e, a, b, t, n: days(e, a, b, t, n) / 3600, "joules"),
    ("15.1", lambda e, a, b, t, n: 100.0, "expected 1212 days"),
    ("15.2", lambda n, m, p, w, s: batch(n, m, p, w, s), "round up"),
    ("15.2", lambda n, m, p, w, s: int(batch(n, m, p, w, s)), "round up"),
    ("15.2", lambda n, m, p, w, s: math.ceil(p / w * s), "inputs and outputs"),
    ("15.2", lambda n, m, p, w, s: math.ceil(batch(n, m, p, w, s)), "no batch"),
    ("15.2", lambda n, m, p, w, s: math.ceil(batch(n, m, p, w, 1)), "expected a batch of 18"),
    ("15.3", lambda m, d, s, u, t: (m / d - m / s - t) * u, "those are bits"),
    ("15.3", lambda m, d, s, u, t: (m / d - m / s) * u / 8, "round trip"),
    ("15.3", lambda m, d, s, u, t: (m / d - t) * u / 8, "compute as well"),
    ("15.3", lambda m, d, s, u, t: (m / d - m / s - t) * u / 8, "return 0.0"),
    ("15.3", lambda m, d, s, u, t: 1.0, "expected 475832"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, stretch=False), "stretch the range"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, steps=2**n), "steps between them"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, signed=True), "signed zero point"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, sign=-1), "sign is wrong"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, whole=float), "lie on an integer"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, whole=int), "do not cut off"),
    ("21.1", lambda a, b, n: unsigned(a, b, n)[0], "two values"),
    ("21.1", lambda a, b, n: (1.0, 0), "expected 0.0176471"),
    ("21.2", lambda x, b, t: threshold(x, b, t, clip=False), "clip the integers"),
    ("21.2", lambda x, b, t: threshold(x, b, t, power=1), "square the errors"),
    ("21.2", lambda x, b, t: threshold(x, b, t, pick=np.argmax), "take the smallest"),
    ("21.2", lambda x, b, t: threshold(x, b, t, sign=0), "one bit is the sign"),
    ("21.2", lambda x, b, t: squared_error(x, b, t).min(), "that is the error"),
    ("21.2", lambda x, b, t: squared_error(x, b, t).argmin(), "thresholds[place]"),
    ("21.2", squared_error, "one threshold"),
    ("21.2", lambda x, b, t: x.sort() or 1, "has changed"),
    ("21.2", lambda x, b, t: 7.0, "expected 2.5"),
    ("21.3", lambda x: e2m1(x, largest=np.inf), "nothing is larger than 6"),
    ("21.3", lambda x: e2m1(x, smallest=1), "below 1 the step stays 0.5"),
    ("21.3", lambda x: e2m1(x, rule=lambda v: np.floor(v + 0.5)), "lies in the middle"),
    ("21.3", lambda x: e2m1(x, rule=np.floor), "is nearest"),
    ("21.3", lambda x: e2m1(x, keep_sign=False), "keep the sign"),
    ("21.3", lambda x: e2m1(x, flat=True), "shape"),
    ("21.3", lambda x: np.rint(x * 7 / 6) * 6 / 7, "is one of the numbers"),
    ("22.1", lambda *a: dense(*a, along=1), "belongs to the rows"),
    ("22.1", lambda *a: dense(*a, root=lambda v: v), "square root of var"),
    ("22.1", lambda *a: dense(*a, by_eps=0), "eps is missing"),
    ("22.1", lambda *a: dense(*a, bias=lambda b, beta, f, m: beta - f * m), "own bias is lost"),
    ("22.1", lambda *a: dense(*a, bias=lambda b, beta, f, m: b + beta - f * m), "multiplied by"),
    ("22.1", lambda *a: dense(*a, bias=lambda b, beta, f, m: b), "put Wx + b"),
    ("22.1", lambda *a: (a[0], a[1]), "each row is multiplied"),
    ("22.1", lambda *a: dense(*a)[0], "return 2 arrays"),
    ("22.1", lambda *a: (dense(*a)[0], 1.0), "b has shape"),
    ("22.1", lambda w, *a: dense(w.__imul__(2), *a), "have changed"),
    ("22.2", lambda *a: equalized(*a, bias=False), "bias is scaled"),
    ("22.2", lambda *a: equalized(*a, back=False), "w2 is divided by"),
    ("22.2", lambda *a: equalized(*a, power=-0.5), "upside down"),
    ("22.2", lambda *a: equalized(*a, power=1), "square root of the ratio"),
    ("22.2", lambda *a: equalized(*a, power=0.25), "has range"),
    ("22.2", lambda *a: a, "nothing has changed"),
    ("22.2", lambda *a: equalized(*a)[:2], "return 3 arrays"),
    ("22.2", lambda w1, b1, w2: equalized(w1.__imul__(2), b1, w2), "have changed"),
    ("22.3", lambda w, step, H: np.rint(w / step), "rounding to nearest"),
    ("22.3", lambda w, step, H: step * flipped(w, step, H), "not step * q"),
    ("22.3", lambda w, step, H: flipped(w, step, H)[:1], "not shape (1,)"),
    ("22.3", lambda w, step, H: flipped(w, step, H) + 2, "neither the floor"),
    ("22.3", lambda w, step, H: np.ceil(w / step), "lowers it"),
    ("22.3", lambda w, step, H: flipped(w, step, H, limit=1), "one more turn"),
    ("22.3", lambda w, step, H: flipped(w.__imul__(0.9), step, H), "has changed"),
    ("23.1", lambda x, s, a, b: slope(x, s, a, b, clipped=0), "its slope is that limit"),
    ("23.1", lambda x, s, a, b: slope(x, s, a, b, seen=np.rint), "torch's rule"),
    ("23.1", lambda x, s, a, b: np.clip(np.rint(x / s), a, b), "subtract v"),
    ("23.1", lambda x, s, a, b: np.clip(np.rint(x / s), a, b) - x / s, "not where it is clipped"),
    ("23.1", lambda x, s, a, b: -slope(x, s, a, b), "sign is wrong"),
    ("23.1", lambda x, s, a, b: slope(x, s, a, b, unit=s), "divide by the step"),
    ("23.1", lambda x, s, a, b: slope(x, s, a, b).sum(), "shape"),
    ("23.1", lambda x, s, a, b: 0 * x, "expected 0.4"),
    ("23.2", lambda *a: folded(*a, size=lambda g: g), "a step is negative"),
    ("23.2", lambda *a: folded(*a, sign=np.abs), "change their sign"),
    ("23.2", lambda q, s, g, b, m, v, e: folded(q, s, g, b, m, v, 0), "under the root"),
    ("23.2", lambda *a: folded(*a, root=lambda v: v), "the root of the variance"),
    ("23.2", lambda *a: folded(*a, shift=np.abs), "g with its sign"),
    ("23.2", lambda *a: folded(*a, shift=np.zeros_like), "is missing in the bias"),
    ("23.2", lambda q, s, *a: (q * 0.5, *folded(q, s, *a)[1:]), "has fractions"),
    ("23.2", lambda *a: folded(*a)[0], "three arrays"),
    ("23.3", lambda q, m: oscillation(q, m, turned=False), "in the same direction"),
    ("23.3", lambda q, m: oscillation(q, 1 - m), "weighs the newest"),
    ("23.3", lambda q, m: oscillation(q, m, keep=False), "several steps back"),
    ("23.3", lambda q, m: oscillation(q, m).mean(), "one f for each weight"),
    ("23.3", lambda q, m: 0.0 * q[0], "expected 0.3125"),
]


def solutions():
    """(exercise, notebook stem, name of the function) of every check call in the solutions."""
    found = []
    for path in sorted((NOTEBOOKS / "solutions").glob("*.ipynb")):
        for cell in cells(f"solutions/{path.stem}"):
            for node in ast.walk(ast.parse(cell)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check":
                    found.append((node.args[0].value, path.stem, node.args[1].id))
    return found


@pytest.mark.parametrize(("number", "lesson", "name"), solutions())
def test_solution_is_accepted(number, lesson, name, capsys):
    checks.check(number, getattr(definitions(f"solutions/{lesson}"), name))
    assert capsys.readouterr().out == f"{number} correct\n"


@pytest.mark.parametrize(("number", "answer", "words"), WRONG)
def test_mistake_gets_its_hint(number, answer, words, capsys):
    checks.check(number, answer)
    said = capsys.readouterr().out
    assert said.startswith(f"{number} not yet: ") and words in said


def test_every_exercise_has_a_solution_and_two_mistakes():
    solved = {number for number, _, _ in solutions()}
    assert solved == set(checks.EXERCISES)
    for number in solved:
        assert sum(number == wrong[0] for wrong in WRONG) >= 2


@pytest.mark.parametrize("answer", [None, ..., lambda *a: None, lambda *a: ...])
@pytest.mark.parametrize("number", sorted({number for number, _, _ in solutions()}))
def test_a_stub_is_not_attempted(number, answer, capsys):
    checks.check(number, answer)
    assert capsys.readouterr().out.startswith(f"{number} not attempted")


@pytest.mark.parametrize("number", ["14.9", "99.1", 14.1, ""])
def test_unknown_exercise(number):
    with pytest.raises(ValueError, match="unknown exercise"):
        checks.check(number, None)

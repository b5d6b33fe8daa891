"""Checks of the exercises of part 2.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import apart, compare

# --- 21 Quantization formulas -----------------------------------------------------------------


def unsigned_params(low, high, bits, *, stretch=True, extra=0, whole=round, shift=lambda z, b: z):
    if stretch:
        low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1 + extra)
    return scale, shift(whole(-low / scale), bits)


@exercise(
    "21.1",
    unsigned_params,
    {
        "zero lies outside of some ranges; stretch the range until it contains 0": dict(
            stretch=False
        ),
        "2^bits levels have 2^bits - 1 steps between them": dict(extra=1),
        "a symmetric range has its zero in the middle: this one goes from low to high": (
            lambda low, high, bits: (2 * max(-low, high) / (2**bits - 1), 2 ** (bits - 1))
        ),
        "that is the signed zero point: unsigned integers begin at 0, not at -2^(bits-1)": dict(
            shift=lambda z, bits: z - 2 ** (bits - 1)
        ),
        "the sign is wrong: low = scale * (0 - zero_point)": dict(shift=lambda z, bits: -z),
        "that is high's distance from 0: low = scale * (0 - zero_point)": dict(
            shift=lambda z, bits: 2**bits - 1 - z
        ),
        "the zero point must lie on an integer": dict(whole=float),
        "round the zero point to the nearest integer, do not cut off": dict(whole=int),
        "round the zero point to the nearest integer, not up": dict(
            whole=lambda z: int(np.ceil(z))
        ),
    },
)
def check_unsigned_params(answer: Answer) -> None:
    """A float and an int, (scale, zero_point)."""
    cases = [(-1.0, 3.5, 8), (-1.0, 3.0, 8), (0.5, 2.0, 8), (-3.0, -1.0, 8), (-1.0, 2.6, 4)]
    compare(answer, cases, "scale, zero_point")


def best_threshold(
    x, bits, thresholds, *, steps=0, more=0, below=0, clip=True, error=np.square, add=np.sum,
    give=lambda thresholds, errors: thresholds[errors.argmin()],
):  # fmt: skip
    """With `steps` more steps up to T, `more` integers on both sides, or `below` at the low end."""
    top, errors = 2 ** (bits - 1) - 1, []
    low, high = -top - more - below, top + more
    for threshold in thresholds:
        step = threshold / (top + steps)
        q = np.rint(x / step)
        q = np.clip(q, low, high) if clip else q
        errors.append(add(error(x - step * q)))
    return float(give(thresholds, np.array(errors)))


@exercise(
    "21.2",
    best_threshold,
    {
        "that is the error: return the threshold that belongs to it": dict(
            give=lambda thresholds, errors: errors.min()
        ),
        "that is the mean error: return the threshold that belongs to it": dict(
            give=lambda thresholds, errors: errors.min(), add=np.mean
        ),
        "that is the place in the list: return thresholds[place]": dict(
            give=lambda thresholds, errors: errors.argmin()
        ),
        "that one has the largest error: take the smallest": dict(
            give=lambda thresholds, errors: thresholds[errors.argmax()]
        ),
        "without a clip the finest step always wins: clip the integers": dict(clip=False),
        "that is the best for the absolute error: square the errors": dict(error=np.abs),
        "that is the best for the largest error: add the squares of all": dict(add=np.max),
        "the errors cancel when they are added: square each of them": dict(
            error=np.positive, add=lambda errors: abs(np.sum(errors))
        ),
        "signed integers reach 2^(bits-1) - 1: one bit is the sign": (
            lambda x, bits, thresholds: best_threshold(x, bits + 1, thresholds)
        ),
        "from 0 to T there are 2^(bits-1) - 1 steps, not 2^(bits-1)": dict(steps=1, more=1),
        "the largest integer stands for T: the step is T / (2^(bits-1) - 1)": dict(steps=1),
        "with the step T / 2^(bits-1), T itself has no integer: divide by one less": dict(
            steps=1, below=1
        ),
        "the range is narrow: the integers end at -(2^(bits-1) - 1), not at -2^(bits-1)": dict(
            below=1
        ),
        "values below zero are clipped at -T, not at 0": (
            lambda x, bits, thresholds: best_threshold(
                x, bits, thresholds, below=1 - 2 ** (bits - 1)
            )
        ),
    },
)
def check_best_threshold(answer: Answer) -> None:
    """One number, one of the thresholds."""
    draw = np.random.default_rng(0)
    bell, heavy = draw.normal(size=2000), draw.standard_t(3, size=2000)
    skewed = np.where(heavy < 0, 1.6 * heavy, heavy)
    cases = [
        (bell, 4, np.array([1.6, 2.1, 2.5, 3.0, 4.0, 12.0])),
        (heavy, 3, np.linspace(1, 30, 59)),
        (skewed, 3, np.linspace(12, 1, 67)),
        (heavy, 4, np.linspace(20, 1, 39)),
    ]
    compare(answer, cases)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def round_to_e2m1(x, *, largest=6.0, smallest=0, rule=np.rint):
    size = np.minimum(np.abs(x), largest)
    step = np.exp2(np.maximum(np.frexp(size)[1] - 1, smallest) - 1)
    return np.copysign(rule(size / step) * step, x)


@exercise(
    "21.3",
    round_to_e2m1,
    {
        "nothing is larger than 6, so what lies beyond becomes 6": dict(largest=np.inf),
        "nothing is smaller than -6 either: clip the size, and then give it the sign": (
            lambda x: np.minimum(round_to_e2m1(x, largest=np.inf), 6.0)
        ),
        "0.5 is one of the numbers: below 1 the step stays 0.5 (subnormal)": dict(smallest=1),
        "below 1 the step stays 0.5: there are no finer numbers": dict(smallest=-9),
        "what lies in the middle goes to the even mantissa, not up": dict(
            rule=lambda v: np.floor(v + 0.5)
        ),
        "what lies in the middle goes to the even mantissa, not down": dict(
            rule=lambda v: np.ceil(v - 0.5)
        ),
        "round to the nearest, do not cut off": dict(rule=np.floor),
        "round to the nearest, not up": dict(rule=np.ceil),
        "keep the sign": lambda x: np.abs(round_to_e2m1(x)),
        "the numbers do not lie evenly: 1.5 is one of them, and 2.5 and 5 are not": (
            lambda x: np.rint(np.clip(x, -6, 6) * 7 / 6) * 6 / 7
        ),
    },
)
def check_round_to_e2m1(answer: Answer) -> None:
    """A float array of the shape of x."""
    plain = np.array([0.2, 0.3, 0.7, 1.1, 1.3, 1.6, 1.9, 2.2, 2.6, 3.4, 3.6, 4.9, 5.1])
    ties = (E2M1[1:] + E2M1[:-1]) / 2
    cases = [(E2M1[1:],), (plain,), (np.array([6.5, 7.0, 99.0, -99.0, -6.9]),)]
    cases += [(-plain,), (ties,), (-ties,), (np.array([[0.0, -6.0], [2.9, -0.1]]),)]
    compare(answer, cases, advice="the sizes are 0, 0.5, 1, 1.5, 2, 3, 4 and 6")


# --- 22 Post-training quantization ------------------------------------------------------------


def fold_dense(
    w, b, gamma, beta, mean, var, eps,
    *, factor=lambda gamma, var, eps: gamma / np.sqrt(var + eps), along=0,
    bias=lambda b, beta, factor, mean: beta + factor * (b - mean),
):  # fmt: skip
    factor = factor(gamma, var, eps)
    return factor * w if along else factor[:, None] * w, bias(b, beta, factor, mean)


@exercise(
    "22.1",
    fold_dense,
    {
        "w is scaled along its inputs: the factor belongs to the rows": dict(along=1),
        "divide by the standard deviation, the square root of var + eps": dict(
            factor=lambda gamma, var, eps: gamma / (var + eps)
        ),
        "eps is missing under the square root": dict(eps=0.0),
        "eps stands under the square root, not beside it": dict(
            factor=lambda gamma, var, eps: gamma / (np.sqrt(var) + eps)
        ),
        "the layer's own bias is lost: the batch norm scales and moves it, too": dict(
            bias=lambda b, beta, factor, mean: beta - factor * mean
        ),
        "the layer's own bias is multiplied by the factor, too": dict(
            bias=lambda b, beta, factor, mean: b + beta - factor * mean
        ),
        "the mean is multiplied by the factor, too: it is subtracted before": dict(
            bias=lambda b, beta, factor, mean: beta + factor * b - mean
        ),
        "the batch norm subtracts its mean": dict(
            bias=lambda b, beta, factor, mean: beta + factor * (b + mean)
        ),
        "beta is added last: the factor does not belong to it": dict(
            bias=lambda b, beta, factor, mean: factor * (beta + b - mean)
        ),
        "beta is missing: it is added last": dict(beta=0.0),
    },
)
def check_fold_dense(answer: Answer) -> None:
    """Two arrays, w [out, in] and b [out]."""
    draw = np.random.default_rng(0)
    cases = []
    for rows, columns, eps in ((4, 4, 0.1), (3, 5, 1e-5)):
        w, b = draw.normal(size=(rows, columns)), draw.normal(size=rows)
        gamma, beta, mean = draw.normal(size=(3, rows))
        w, b = w * 10.0 ** np.arange(rows)[:, None], b * 3
        cases.append((w, b, gamma, beta, mean, draw.uniform(0.2, 3, rows), eps))
    advice = "each row of w is multiplied by gamma / sqrt(var + eps), and Wx + b stands for Wx"
    compare(answer, cases, "w, b", advice=advice)


def largest(w, axis):
    return np.abs(w).max(axis)


def equalize_dense(w1, b1, w2, *, size=largest, power=0.5, bias=1, back=1, guard=True):
    r1, r2 = size(w1, 1), size(w2, 0)
    usable = (r1 > 0) & (r2 > 0) if guard else True
    s = np.divide(r2, r1, out=np.ones(len(r1)), where=usable) ** power
    return s[:, None] * w1, s**bias * b1, w2 / s**back


@exercise(
    "22.2",
    equalize_dense,
    {
        "nothing has changed: choose a factor for each hidden channel": lambda *a: a,
        "the bias is scaled with its row of w1": dict(bias=0),
        "the bias is multiplied with its row of w1, not divided": dict(bias=-1),
        "what w1 is multiplied by, w2 is divided by": dict(back=0),
        "w2 is divided by what w1 is multiplied by, not multiplied as well": dict(back=-1),
        "the ranges lie further apart than before: the factor is upside down": dict(power=-0.5),
        "the ranges have changed places: take the square root of the ratio": dict(power=1),
        "a channel with nothing but zeros on one side stays as it is: 0 / 0 is no factor": dict(
            guard=False
        ),
        "the range is the largest |w|, not the root of the sum of squares": dict(
            size=lambda w, axis: np.sqrt(np.sum(w**2, axis))
        ),
        "the range is the largest |w|, not the mean": dict(
            size=lambda w, axis: np.abs(w).mean(axis)
        ),
        "the range is the largest |w|: take the absolute value first": dict(size=np.max),
        "the range is max |w|, not the largest weight less the smallest": dict(size=np.ptp),
    },
)
def check_equalize_dense(answer: Answer) -> None:
    """Three arrays, w1, b1 and w2 in their shapes."""
    draw = np.random.default_rng(0)
    cases = []
    for inputs, hidden, outputs in ((6, 4, 4), (5, 3, 2), (2, 3, 4)):
        w1 = draw.normal(size=(hidden, inputs)) * 10.0 ** draw.uniform(-2, 2, (hidden, 1))
        w1[:, 0], b1 = np.abs(w1[:, 0]), draw.normal(size=hidden)  # some weight is above zero
        w2 = draw.normal(size=(outputs, hidden))
        w2[0] = np.abs(w2[0])
        cases.append((w1, b1, w2))
    cases[-1][0][1] = 0.0  # nothing is read, and nothing is read from it
    cases[-1][2][:, 2] = 0.0
    compare(
        answer, cases, "w1, b1, w2", advice="the range of channel i is max |w1[i]|, max |w2[:, i]|"
    )


def neighbors(w, step, low, high):
    """The two integers that 22.3 allows for each weight, and the nearer one."""
    down, up, nearest = (f(w / step).clip(low, high) for f in (np.floor, np.ceil, np.rint))
    return down, up, nearest


def round_by_flipping(w, step, H, low, high, *, turns=1000, unit=None):
    """With at most so many `turns`, or with another `unit` than the step in the error."""
    down, up, q = neighbors(w, step, low, high)
    unit = step if unit is None else unit
    for _ in range(turns):
        delta = unit * (down + up - 2 * q)
        change = 2 * delta * (H @ (unit * q - w)) + delta**2 * np.diag(H)
        best = change.argmin()
        if change[best] >= -1e-12 * np.trace(H) * unit**2:
            break
        q[best] = down[best] + up[best] - q[best]
    return q


def one_sweep(w, step, H, low, high):
    """Each weight has one chance to turn, in order."""
    down, up, q = neighbors(w, step, low, high)
    for j in range(len(w)):
        delta = step * (down[j] + up[j] - 2 * q[j])
        if 2 * delta * (H[j] @ (step * q - w)) + delta**2 * H[j, j] < 0:
            q[j] = down[j] + up[j] - q[j]
    return q


def _rounding_fault(got, expected, case, *_) -> str:
    """What 22.3 does not allow about q, [inputs]; several answers are right."""
    (q,), (w, step, H, low, high) = got, case
    if q.shape != w.shape:
        return f"{len(w)} whole numbers are asked for, not shape {q.shape}"
    if not np.array_equal(q, np.rint(q)):
        return "return the whole numbers q, not step * q"
    if q.min() < low or q.max() > high:
        return f"an integer lies outside of {low} to {high}: clip before you search"
    down, up, nearest = neighbors(w, step, low, high)
    if not ((q == down) | (q == up)).all():
        return "an integer is neither the floor nor the ceiling of w / step"

    def error(q):
        return float((step * q - w) @ H @ (step * q - w))

    if error(q) > error(nearest) * (1 + 1e-4):
        mine, theirs = apart(error(q), error(nearest))
        return f"the error is {mine}, that of nearest {theirs}: turn only where that lowers it"
    turned = np.where(np.eye(len(w), dtype=bool), down + up - q, q)
    if min(error(row) for row in turned) < error(q) * (1 - 1e-4):
        return "one more turn would lower the error: go on until nothing helps"
    return ""


@exercise(
    "22.3",
    round_by_flipping,
    {
        "that is rounding to nearest: turn weights while the error falls": (
            lambda w, step, H, low, high: neighbors(w, step, low, high)[2]
        ),
        "that cuts every weight off: start at the nearest, and turn weights": (
            lambda w, step, H, low, high: neighbors(w, step, low, high)[0]
        ),
        "that rounds every weight up: start at the nearest, and turn weights": (
            lambda w, step, H, low, high: neighbors(w, step, low, high)[1]
        ),
        "one turn is a beginning: go on until nothing helps": dict(turns=1),
        "a turn may make others worth while, also of weights that were tried before: go on until "
        "nothing helps": one_sweep,
        "the step is missing in d = step * q - w": dict(unit=1.0),
        "clip before the search: clipping afterwards undoes what the turns have gained": (
            lambda w, step, H, low, high: round_by_flipping(w, step, H, -np.inf, np.inf).clip(
                low, high
            )
        ),
    },
)
def check_round_by_flipping(answer: Answer) -> None:
    """Whole numbers [inputs]."""
    draw = np.random.default_rng(0)
    cases = [(np.array([0.4, 0.4]), 1.0, np.array([[1, 0.9], [0.9, 1]]), -1, 1)]
    for size, step, low, high, least, most in (
        (9, 0.37, -3, 3, 0.2, 0.45),  # what is left of w / step: the nearest is below all of them
        (40, 0.05, -7, 7, 0.55, 0.9),  # above all of them
        (30, 0.37, -3, 3, 0.0, 1.0),
        (60, 2.5, -1, 2, 0.0, 1.0),
    ):
        x = draw.normal(0.5, 1, (4 * size, 3)) @ draw.normal(size=(3, size))
        x = np.maximum(x + draw.normal(0, 0.5, x.shape), 0)  # inputs after a ReLU
        w = draw.integers(low - 1, high + 1, size) + draw.uniform(least, most, size)
        cases.append((step * w, step, x.T @ x / len(x), low, high))
    w, step, _, low, high = cases[-1]
    cases.append((w, step, np.diag(draw.uniform(1, 2, len(w))), low, high))  # nearest is best
    compare(answer, cases, "q", judge=_rounding_fault)


# --- 23 Quantization-aware training -----------------------------------------------------------


def step_slope(
    x, step, qmin, qmax,
    *, rounded=lambda v, step: np.rint(v) - v, clipped=lambda v, limit: limit, seen=np.positive,
):  # fmt: skip
    v = x / step
    low, high = seen(v) < qmin, seen(v) > qmax
    return np.where(low | high, clipped(v, np.where(low, qmin, qmax)), rounded(v, step))


@exercise(
    "23.1",
    step_slope,
    {
        "where it is clipped, x_hat is step * qmax (or qmin): its slope is that limit": dict(
            clipped=lambda v, limit: 0.0
        ),
        "where it is clipped, the slope is the limit: qmin below, qmax above": dict(
            clipped=lambda v, limit: np.sign(v)
        ),
        "subtract v only where x is rounded, not where it is clipped": dict(
            clipped=lambda v, limit: limit - v
        ),
        "that is torch's rule: what exceeds qmax is clipped, though it may round to it": dict(
            seen=np.rint
        ),
        "the step also changes v = x / step: subtract v where x is rounded": dict(
            rounded=lambda v, step: np.rint(v)
        ),
        "the sign is wrong: the rounded value minus v": lambda *a: -step_slope(*a),
        "the sign is wrong where x is rounded: the rounded value minus v": dict(
            rounded=lambda v, step: v - np.rint(v)
        ),
        "in steps, not in units of x: divide by the step": dict(
            rounded=lambda v, step: step * (np.rint(v) - v)
        ),
        "round to the nearest, do not cut off": dict(rounded=lambda v, step: np.floor(v) - v),
        "that is the slope by x, which is 1 where x is rounded: here the step moves": dict(
            rounded=lambda v, step: 1.0, clipped=lambda v, limit: 0.0
        ),
    },
)
def check_step_slope(answer: Answer) -> None:
    """A float array of the shape of x."""
    x = np.array([0.3, 0.6, 1.2, -9.0, -0.62, 0.0, 0.2, -0.9, -1.1, 2.1])
    compare(answer, [(x, 0.5, -2, 1), (x, 0.25, -8, 7), (x, 0.5, 0, 3), (4 * x, 1.5, -3, 2)])


def fold_step(
    q, step, gamma, beta, mean, variance, eps,
    *, factor=lambda gamma, variance, eps: gamma / np.sqrt(variance + eps),
    sign=lambda g: np.sign(g).astype(int), size=np.abs, shift=np.positive,
):  # fmt: skip
    g = factor(gamma, variance, eps)
    return q * sign(g).reshape(-1, *[1] * (q.ndim - 1)), step * size(g), beta - mean * shift(g)


def one(g):
    return np.ones(len(g), int)


@exercise(
    "23.2",
    fold_step,
    {
        "a step is negative: take |g|, and give its sign to the integers": dict(
            size=np.positive, sign=one
        ),
        "a step is negative: take |g|, since the integers have its sign already": dict(
            size=np.positive
        ),
        "where the factor g is negative, the integers change their sign": dict(sign=one),
        "the integers change their sign where g is negative, not where it is positive": dict(
            sign=lambda g: -np.sign(g).astype(int)
        ),
        "q has fractions: only the step takes up the size of g": dict(sign=np.positive, size=one),
        "eps belongs to the variance, under the root": dict(eps=0.0),
        "eps stands under the root, not beside it": dict(
            factor=lambda gamma, variance, eps: gamma / (np.sqrt(variance) + eps)
        ),
        "divide by the deviation, the root of the variance": dict(
            factor=lambda gamma, variance, eps: gamma / (variance + eps)
        ),
        "the bias takes g with its sign": dict(shift=np.abs),
        "the mean that batch norm subtracts is missing in the bias": dict(mean=0.0),
        "the mean is multiplied by g in the bias, too": dict(shift=one),
        "the batch norm subtracts the mean": dict(shift=np.negative),
    },
)
def check_fold_step(answer: Answer) -> None:
    """Three arrays, q of integers, step and bias."""
    draw = np.random.default_rng(0)
    cases = []
    for shape, eps, kind in (((4, 3, 3, 3), 0.01, int), ((5, 6), 0.1, np.int8), ((2, 2), 0, int)):
        q, (beta, mean) = draw.integers(-7, 8, shape).astype(kind), draw.normal(size=(2, shape[0]))
        gamma = draw.uniform(0.3, 2, shape[0]) * np.resize([1, -1], shape[0])
        step, variance = draw.uniform(0.1, 0.5, shape[0]), draw.uniform(0.02, 2, shape[0])
        cases.append((q, step, gamma, beta, mean, variance, eps))
    compare(answer, cases, "q, step, bias", advice="q takes the sign of g, the step its size")


def oscillation_frequency(integers, m, *, turned=True, keep=True, average=None):
    """`average` may be another rule than the moving one, of o [steps - 1, weights] and m."""
    f, last, turns = np.zeros(integers.shape[1]), np.zeros(integers.shape[1]), []
    for change in np.sign(np.diff(integers.astype(int), axis=0)):
        turns.append(change * last < 0 if turned else change != 0)
        last = np.where((change != 0) | (not keep), change, last)
        f = m * turns[-1] + (1 - m) * f
    return average(np.array(turns), m) if average else f


@exercise(
    "23.3",
    oscillation_frequency,
    {
        "a weight that goes on in the same direction does not oscillate": dict(turned=False),
        "the last change may lie several steps back: keep it while nothing moves": dict(keep=False),
        "m weighs the newest o, and 1 - m what was before": (
            lambda integers, m: oscillation_frequency(integers, 1 - m)
        ),
        "that is the share of steps that turn back: form the moving average": dict(
            average=lambda o, m: o.mean(0)
        ),
        "that is the number of steps that turn back: form the moving average": dict(
            average=lambda o, m: o.sum(0)
        ),
        "go through the steps in order: f forgets the early ones": (
            lambda integers, m: oscillation_frequency(integers[::-1], m)
        ),
    },
)
def check_oscillation_frequency(answer: Answer) -> None:
    """One f for each weight, an array [weights]."""
    draw = np.random.default_rng(1)
    walk = np.cumsum(draw.integers(-1, 2, (12, 30)), axis=0).astype(np.int8)
    jumps = draw.integers(-4, 4, (7, 5))
    compare(answer, [(np.array([[0, 1, 0, 0, 1, 2]]).T, 0.5), (walk, 0.1), (jumps, 0.3)], "f")

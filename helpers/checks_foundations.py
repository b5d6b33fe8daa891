"""Checks of the exercises of part 1.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, NotYet, as_array, exercise, show
from helpers.mistakes import compare

# --- 11 Neural network math -------------------------------------------------------------------


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


# --- 12 CNN math ------------------------------------------------------------------------------


def separable_cost(
    c_in,
    c_out,
    kernel,
    height,
    width,
    *,
    depthwise=lambda c_in, c_out, k: c_in * k**2,
    mixing=lambda c_in, c_out, k: c_in * c_out,
    places=lambda height, width, k: height * width,
    biases=0,
):
    weights = depthwise(c_in, c_out, kernel) + mixing(c_in, c_out, kernel)
    return weights + biases * (c_in + c_out), weights * places(height, width, kernel)


@exercise(
    "12.1",
    separable_cost,
    {
        "the numbers trade places: parameters first, then MACs": (
            lambda *a: separable_cost(*a)[::-1]
        ),
        "the parameters are right; each is used at height x width places": dict(
            places=lambda height, width, k: 1
        ),
        "the parameters are right; there are height x width places, not height**2": dict(
            places=lambda height, width, k: height**2
        ),
        "with 'same' padding there are as many places as pixels": dict(
            places=lambda height, width, k: (height - k + 1) * (width - k + 1)
        ),
        "that is the full convolution, which the block replaces": dict(
            depthwise=lambda c, o, k: 0, mixing=lambda c, o, k: c * o * k**2
        ),
        "the 1x1 convolution that mixes the maps is missing": dict(mixing=lambda c, o, k: 0),
        "the depthwise convolution is missing": dict(depthwise=lambda c, o, k: 0),
        "depthwise: each map has one kernel, groups = c_in": dict(
            depthwise=lambda c, o, k: c * c * k**2
        ),
        "the depthwise convolution comes first: it runs on c_in maps": dict(
            depthwise=lambda c, o, k: o * k**2
        ),
        "a kernel has k x k weights, not k": dict(depthwise=lambda c, o, k: c * k),
        "the mixing convolution is 1x1, not k x k": dict(mixing=lambda c, o, k: c * o * k**2),
        "leave the biases out: bias=False": dict(biases=1),
    },
)
def check_separable_cost(answer: Answer) -> None:
    """Two ints, (parameters, MACs)."""
    compare(answer, [(16, 32, 3, 14, 14), (8, 24, 5, 10, 6)], "parameters, MACs")


def average_kernel(channels, size):
    return np.full((channels, 1, size, size), 1 / size**2, np.float32)


@exercise(
    "12.2",
    average_kernel,
    {
        "ones give the sum of the window: divide by the number of its pixels": (
            lambda c, size: np.ones((c, 1, size, size))
        ),
        "a window has size x size pixels, not size": lambda c, size: size * average_kernel(c, size),
        "the mean is over one map's window, not over the channels": (
            lambda c, size: average_kernel(c, size) / c
        ),
        "with groups = channels each kernel reads one map: the second size is 1": (
            lambda c, size: average_kernel(c, size).repeat(c, axis=1)
        ),
    },
)
def check_average_kernel(answer: Answer) -> None:
    """A float32 array [channels, 1, size, size]."""
    advice = "every pixel of the window contributes 1 / size**2 to the mean"
    compare(answer, [(3, 2), (5, 3), (1, 4)], "the kernel", advice=advice)


def fourier_correlate(
    x, w, *, image=np.positive, kernel=np.conj, flip=1, real=np.real, first=0.0, cut=True
):
    product = image(np.fft.fft2(x)) * kernel(np.fft.fft2(w[::flip, ::flip], x.shape))
    y, (H, W), (kh, kw) = real(np.fft.ifft2(product)), x.shape, w.shape
    top, left = int(first * (kh - 1)), int(first * (kw - 1))
    return y[top : top + H - kh + 1, left : left + W - kw + 1] if cut else y


def as_if_even(x, w):
    product = np.fft.rfft2(x) * np.conj(np.fft.rfft2(w, x.shape))
    return np.fft.irfft2(product)[: x.shape[0] - w.shape[0] + 1, : x.shape[1] - w.shape[1] + 1]


@exercise(
    "12.3",
    fourier_correlate,
    {
        "cut away the windows that went round the edge: keep H - kh + 1 by W - kw + 1": dict(
            cut=False
        ),
        "that is the convolution: conjugate the kernel's transform to undo a flip": dict(
            kernel=np.positive, first=1.0
        ),
        "that is the convolution, cut at its end: conjugate the kernel's transform": dict(
            kernel=np.positive
        ),
        "you cut at the wrong end: the complete windows come first": dict(first=1.0),
        "the complete windows come first: they begin at row 0, column 0": dict(first=0.5),
        "conjugate the kernel's transform, not the image's": dict(
            image=np.conj, kernel=np.positive
        ),
        "with a flipped kernel, the complete windows begin at row kh - 1, column kw - 1": dict(
            flip=-1, kernel=np.positive
        ),
        "the absolute value loses the sign: take the real part": dict(
            real=lambda y: np.abs(y.real)
        ),
        "tell irfft2 the shape of the image: else it assumes an even width": as_if_even,
    },
)
def check_fourier_correlate(answer: Answer) -> None:
    """An array [H - kh + 1, W - kw + 1]."""
    draw = np.random.default_rng(123)
    sizes = ((8, 12), (3, 4)), ((9, 7), (4, 3)), ((5, 5), (1, 5)), ((6, 3), (6, 3))
    cases = [tuple(draw.standard_normal(size) for size in pair) for pair in sizes]
    compare(answer, cases, advice="compare with scipy.signal.correlate2d(x, w, 'valid')")


# --- 13 RNN math ------------------------------------------------------------------------------


def forget_bias(steps, kept):
    gate = kept ** (1 / steps)
    return math.log(gate / (1 - gate))


@exercise(
    "13.1",
    forget_bias,
    {
        "that is the gate itself: which b has sigmoid(b) equal to it?": (
            lambda steps, kept: kept ** (1 / steps)
        ),
        "the inverse of the sigmoid is asked for, not the sigmoid": (
            lambda steps, kept: 1 / (1 + math.exp(-(kept ** (1 / steps))))
        ),
        "the inverse of the sigmoid is log(f / (1 - f)), not log(f)": (
            lambda steps, kept: math.log(kept) / steps
        ),
        "the sign is wrong: log(f / (1 - f)), and an open gate has b > 0": (
            lambda steps, kept: -forget_bias(steps, kept)
        ),
        "this keeps the share in a single step: the gate acts `steps` times": dict(steps=1),
        "the gate multiplies: take a root of `kept`, not an equal loss in each step": (
            lambda steps, kept: forget_bias(1, 1 - (1 - kept) / steps)
        ),
        "log(steps) is a rule of thumb: here the share `kept` matters, too": (
            lambda steps, kept: math.log(steps)
        ),
        "log(steps - 1) is a rule of thumb: here the share `kept` matters, too": (
            lambda steps, kept: math.log(steps - 1)
        ),
        "that is an approximation for many steps: invert the sigmoid of the gate": (
            lambda steps, kept: math.log(-steps / math.log(kept))
        ),
        "use the natural logarithm: it inverts the exponential in the sigmoid": (
            lambda steps, kept: forget_bias(steps, kept) / math.log(10)
        ),
    },
)
def check_forget_bias(answer: Answer) -> None:
    """One number, the bias."""
    compare(answer, [(100, 0.5), (10, 0.9), (50, 0.1), (2, 0.3)], advice="first find the gate")


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def gru_reset_before(
    x,
    h,
    W_ih,
    W_hh,
    b,
    *,
    order="rzn",
    turn=np.transpose,
    candidate=lambda x_n, b_n, r, h, W: x_n + b_n + (r * h) @ W,
    blend=lambda z, h, n: z * h + (1 - z) * n,
):
    x_r, x_z, x_n = (np.split(x @ W_ih.T, 3, axis=1)[order.index(k)] for k in "rzn")
    W_r, W_z, W_n = (turn(np.split(W_hh, 3)[order.index(k)]) for k in "rzn")
    b_r, b_z, b_n = (np.split(b, 3)[order.index(k)] for k in "rzn")
    r, z = sigmoid(x_r + b_r + h @ W_r), sigmoid(x_z + b_z + h @ W_z)
    return blend(z, h, np.tanh(candidate(x_n, b_n, r, h, W_n)))


@exercise(
    "13.2",
    gru_reset_before,
    {
        "that is the reset after the product, as in gru_cell: reset h first": dict(
            candidate=lambda x_n, b_n, r, h, W: x_n + b_n + r * (h @ W)
        ),
        "the bias stands outside of the reset, and the reset comes before the product": dict(
            candidate=lambda x_n, b_n, r, h, W: x_n + r * (h @ W + b_n)
        ),
        "the reset acts on h alone: the bias stands outside": dict(
            candidate=lambda x_n, b_n, r, h, W: x_n + r * b_n + (r * h) @ W
        ),
        "the reset acts on h alone: input and bias stand outside": dict(
            candidate=lambda x_n, b_n, r, h, W: r * (x_n + b_n) + (r * h) @ W
        ),
        "the reset gate is missing: the candidate sees r * h, not h": dict(
            candidate=lambda x_n, b_n, r, h, W: x_n + b_n + h @ W
        ),
        "the candidate sees r * h, not (1 - r) * h": dict(
            candidate=lambda x_n, b_n, r, h, W: x_n + b_n + ((1 - r) * h) @ W
        ),
        "the bias of the candidate is missing: it belongs to all three": dict(
            candidate=lambda x_n, b_n, r, h, W: x_n + (r * h) @ W
        ),
        "the bias is missing: it belongs to all three gates": (
            lambda x, h, W_ih, W_hh, b: gru_reset_before(x, h, W_ih, W_hh, 0 * b)
        ),
        "z and 1 - z are swapped: z keeps the old state here": dict(
            blend=lambda z, h, n: (1 - z) * h + z * n
        ),
        "the stack begins with r, then z: Keras's order is the other one": dict(order="zrn"),
        "the recurrent product is h @ W_hh.T: a row of W_hh makes one output": dict(
            turn=np.positive
        ),
    },
)
def check_gru_reset_before(answer: Answer) -> None:
    """The next h, an array [N, hidden]."""
    draw, cases = np.random.default_rng(3), []
    for n, inputs, hidden in ((4, 2, 3), (1, 3, 2)):
        h3 = 3 * hidden
        shapes = (n, inputs), (n, hidden), (h3, inputs), (h3, hidden), (h3,)
        cases.append(tuple(draw.standard_normal(shape) for shape in shapes))
    compare(answer, cases, "the new state", advice="the candidate sees W_hn (r * h)")


def split_people(subjects, held, generator):
    out = np.isin(subjects, generator.choice(np.unique(subjects), held, replace=False))
    return np.flatnonzero(~out), np.flatnonzero(out)


def _split(result: object, subjects: np.ndarray, held: int) -> frozenset[int]:
    """The people in the test rows; NotYet if the two parts are no split by person."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise NotYet(f"return two arrays, the training rows and the test rows, not {show(result)}")
    if any(isinstance(rows, tuple) for rows in result):
        raise NotYet("np.where and np.nonzero return a tuple: take its [0]")
    if any(str(getattr(rows, "dtype", "")) in ("bool", "torch.bool") for rows in result):
        raise NotYet("row numbers are asked for, not masks: np.flatnonzero turns one into them")
    training, testing = (as_array(rows, "two arrays of row numbers") for rows in result)
    if training.ndim != 1 or testing.ndim != 1:
        raise NotYet(f"row numbers of shape {training.shape} and {testing.shape}: each is a list")
    if any(rows.dtype.kind == "f" and rows.size for rows in (training, testing)):
        raise NotYet(f"row numbers are whole: these arrays hold {training.dtype}")
    rows = sorted([*training.tolist(), *testing.tolist()])
    outside = [row for row in rows if not 0 <= row < len(subjects)]
    if outside:
        raise NotYet(f"row {outside[-1]:g} does not exist: return places, not names of people")
    people, others = (set(subjects[part.astype(int)].tolist()) for part in (testing, training))
    if people & others:
        raise NotYet("one person stands in both parts: draw people, not windows")
    if rows != list(range(len(subjects))):
        raise NotYet("every window belongs to one of the two parts, once")
    if len(people) != held and len(others) == held:
        raise NotYet("the two parts are swapped: training first, then the people held out")
    if len(people) != held:
        raise NotYet(f"held={held}: {len(people)} people are in the test part")
    return frozenset(people)


@exercise("13.3", split_people, {})
def check_split_people(answer: Answer) -> None:
    """Two arrays of row numbers, (training, testing)."""
    for subjects in (
        np.array([12, 12, 3, 40, 3, 12, 7, 40, 40, 7, 3, 25]),
        np.array([-2, 900, 5, 5, -2, 0, 900, 61, 0, 33]),
    ):
        everyone, drawn = set(subjects.tolist()), set()
        for seed in range(200):
            held = 1 + seed % 4
            people, again = (
                _split(answer(subjects, held, np.random.default_rng(seed)), subjects, held)
                for _ in range(2)
            )
            if again != people:
                raise NotYet("the same seed gave another split: draw from the generator")
            drawn.add(people)
        if set().union(*drawn) != everyone:
            ever = sorted(set().union(*drawn))
            raise NotYet(f"only {ever} were ever held out: draw from all the people")
        pairs = sum(len(people) == 2 for people in drawn)
        if pairs < 0.6 * math.comb(len(everyone), 2):
            raise NotYet(f"50 draws of two people gave {pairs} pairs: each person is drawn freely")


# --- 14 Training a baseline -------------------------------------------------------------------


def labeled(labels, answers):
    return np.unique(labels)


def up_to_largest(labels, answers):
    return range(max(labels) + 1)


def balanced_accuracy(labels, answers, *, classes=labeled, add=np.mean):
    recalls = [np.mean(answers[labels == k] == k) for k in classes(labels, answers)]
    return float(add(recalls))


@exercise(
    "14.1",
    balanced_accuracy,
    {
        "that is the plain accuracy: average over the classes, not over the examples": (
            lambda labels, answers: np.mean(labels == answers)
        ),
        "0 / 0 is no number: leave out a class that never occurs among the labels": dict(
            classes=up_to_largest
        ),
        "a class that never occurs among the labels must not count, not even as 0": dict(
            classes=up_to_largest, add=lambda recalls: np.nansum(recalls) / len(recalls)
        ),
        "a class that occurs only among the answers must not count": dict(
            classes=np.union1d, add=lambda recalls: np.nansum(recalls) / len(recalls)
        ),
        "that is the mean precision: divide by the row sums, not the column sums": (
            lambda labels, answers: balanced_accuracy(answers, labels)
        ),
        "that is the sum of the recalls: take their mean": dict(add=np.sum),
        "that is the lowest recall: take the mean": dict(add=np.min),
    },
)
def check_balanced_accuracy(answer: Answer) -> None:
    """One number, in 0..1."""
    cases = [
        (np.array([0, 0, 0, 0, 0, 1, 1, 3]), np.array([0, 0, 0, 1, 2, 1, 0, 3])),
        (np.array([4, 1, 1, 1, 4, 2]), np.array([1, 1, 1, 2, 4, 5])),
        (np.array([2, 2, 2, 2]), np.array([2, 0, 2, 2])),
    ]
    compare(answer, cases, advice="average the recall of each class that occurs")


def images_needed(p, h, *, z=1.96, whole=math.ceil):
    return whole(z**2 * p * (1 - p) / h**2)


@exercise(
    "14.2",
    images_needed,
    {
        "rounded down, the interval is a little too wide: round up": dict(whole=math.floor),
        "rounded to the nearest, the interval may be too wide: round up": dict(whole=round),
        "the formula is right; images are whole, so round up": dict(whole=float),
        "that is one image more than suffices: round up, and no further": dict(
            whole=lambda n: math.ceil(n) + 1
        ),
        "the factor 1.96 is missing: one standard deviation covers only 68%": dict(z=1),
        "the factor 1.96 stands squared when you solve for n": dict(z=math.sqrt(1.96)),
        "h is the half-width: the interval reaches from p - h to p + h": (
            lambda p, h: images_needed(p, 2 * h)
        ),
        "n stands under a square root: square both sides when you solve for it": dict(
            whole=lambda n: math.ceil(math.sqrt(n))
        ),
        "the variance is p (1 - p), not p": lambda p, h: math.ceil(1.96**2 * p / h**2),
    },
)
def check_images_needed(answer: Answer) -> None:
    """One int, the number of images."""
    cases = [(0.9, 0.01), (0.5, 0.05), (0.98, 0.004), (0.2, 0.02)]
    compare(answer, cases, advice="solve for n, and round up to an int")


def erase(x, generator):
    import torch

    top, left = torch.randint(0, 21, (2, len(x), 1), generator=generator)
    rows, columns = torch.arange(28) - top, torch.arange(28) - left
    rows, columns = (rows >= 0) & (rows < 8), (columns >= 0) & (columns < 8)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], 0, x)


def _corners(result: object, x) -> np.ndarray:
    """The top-left corner of the erased square of each image, int [N, 2]; NotYet if it is none."""
    import torch

    if not (torch.is_tensor(result) and result.shape == x.shape and result.is_floating_point()):
        raise NotYet(f"return a float tensor of shape {tuple(x.shape)}, not {show(result)}")
    erased = (result == 0)[:, 0]
    if not bool(torch.where(erased[:, None], 0, x).equal(result.detach().to(x.dtype))):
        raise NotYet("the pixels of one square become 0, and all others stay as they are")
    sides = erased.any(2).numpy(), erased.any(1).numpy()  # which rows, which columns: [N, 28]
    first = np.stack([side.argmax(1) for side in sides], axis=1)
    last = np.stack([27 - side[:, ::-1].argmax(1) for side in sides], axis=1)
    lost = erased.sum((1, 2)).numpy()
    wrong = (lost != 64) | (last - first != 7).any(1)
    if wrong.any():
        (high, wide), count = (last - first + 1)[wrong][0], lost[wrong][0]
        raise NotYet(
            f"one image lost {count} pixels, in {high} rows and {wide} columns, not 8x8: erase one "
            "square, whose corner lies in 0..20"
        )
    return first


@exercise("14.3", erase, {})
def check_erase(answer: Answer) -> None:
    """A float tensor of the shape of x, and one 8x8 square of each image is 0."""
    import torch

    x = 0.1 + 0.8 * torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def draw(seed, x=x):
        return _corners(answer(x, torch.Generator().manual_seed(seed)), x)

    draw(0, x[:3])
    first = draw(0)
    if not np.array_equal(first, draw(0)):
        raise NotYet("the same seed gave another result: pass generator=generator to every draw")
    if len(np.unique(first, axis=0)) == 1:
        raise NotYet("every image lost the same square: draw one corner for each image")
    if np.array_equal(first, draw(1)):
        raise NotYet("another seed gave the same squares: draw from the generator that is passed")
    corners = np.concatenate([draw(seed) for seed in range(25)])
    if any(set(column.tolist()) != set(range(21)) for column in corners.T):
        raise NotYet(
            f"the corners range over {corners.min(0)} to {corners.max(0)}, and all of 0..20 is "
            "possible: the upper end of torch.randint is not drawn"
        )
    if np.abs(np.corrcoef(corners.T)[0, 1]) > 0.5:
        raise NotYet("row and column are drawn together: draw two independent numbers")


# --- 15 Costs and budgets ---------------------------------------------------------------------


def battery_days(watt_hours, sleep_watts, awake_watts, seconds, per_hour, *, hour=3600):
    awake = seconds * per_hour / hour
    return watt_hours / (awake * awake_watts + (1 - awake) * sleep_watts) / 24


@exercise(
    "15.1",
    battery_days,
    {
        "those are hours: a day has 24 of them": lambda *a: battery_days(*a) * 24,
        "a watt-hour is 3,600 joules: mind the unit": lambda *a: battery_days(*a) / 3600,
        "an hour has 3,600 seconds: which share of it is the device awake?": dict(hour=1),
        "an hour has 3,600 seconds, not 60": dict(hour=60),
        "it wakes per_hour times an hour": dict(per_hour=1),
        "it draws sleep_watts between the answers": dict(sleep_watts=0.0),
        "while it is awake it is not asleep: weigh the sleeping power, too": (
            lambda wh, sleep, awake, *rest: battery_days(wh, sleep, awake + sleep, *rest)
        ),
        "the two powers are swapped": (
            lambda wh, sleep, awake, *rest: battery_days(wh, awake, sleep, *rest)
        ),
    },
)
def check_battery_days(answer: Answer) -> None:
    """One number, the days."""
    cases = [(0.675, 1e-5, 0.044, 0.018, 60), (5, 1e-3, 2, 9, 90), (40, 0.3, 0.5, 120, 7)]
    compare(answer, cases, advice="find the mean power first")


def busy_batch(n, m, peak, bandwidth, bytes_per_value, *, whole=math.ceil, never=True, ends=None):
    cost = peak / bandwidth * bytes_per_value
    gain = n * m - cost * (n + m if ends is None else ends(n, m))
    return math.inf if never and gain <= 0 else whole(cost * n * m / gain)


@exercise(
    "15.2",
    busy_batch,
    {
        "no batch is large enough where inputs and outputs alone keep the layer waiting: return "
        "math.inf": dict(never=False),
        "the next smaller batch still waits: round up": dict(whole=math.floor),
        "a batch is a whole number: round up": dict(whole=float),
        "that leaves out the inputs and outputs, which grow with the batch": dict(
            ends=lambda n, m: 0
        ),
        "the layer writes its m outputs, too": dict(ends=lambda n, m: n),
        "the layer reads its n inputs, too": dict(ends=lambda n, m: m),
        "each value has bytes_per_value bytes": dict(bytes_per_value=1),
    },
)
def check_busy_batch(answer: Answer) -> None:
    """One int, or math.inf."""
    cases = [
        (784, 300, 80e9, 20e9, 4),
        (100, 100, 70e9, 10e9, 1),
        (300, 40, 30e9, 8e9, 2),
        (5, 3, 29e9, 16e9, 1),
        (1000, 10, 50e9, 2.5e9, 1),  # inputs and outputs alone keep it waiting
        (64, 64, 80e9, 10e9, 4),  # exactly on the edge
    ]
    compare(answer, cases, advice="set the intensity of a batch of b to the ridge, solve for b")


def largest_payload(
    macs, device_rate, server_rate, uplink, round_trip, *, at_least=lambda b: max(0.0, b), bits=8
):
    return at_least((macs / device_rate - macs / server_rate - round_trip) * uplink / bits)


@exercise(
    "15.3",
    largest_payload,
    {
        "where the server is late even with nothing to send, return 0.0": dict(at_least=float),
        "where the server is late even with nothing to send, return 0.0, not the size of what is "
        "missing": dict(at_least=abs),
        "those are bits: a byte has eight": dict(bits=1),
        "a byte has eight bits: divide by 8, once": dict(bits=64),
        "the round trip takes time, too": dict(round_trip=0.0),
        "the round trip is there and back already: it counts once": (
            lambda *a: largest_payload(*a[:-1], 2 * a[-1])
        ),
        "the server has to compute as well": dict(server_rate=math.inf),
    },
)
def check_largest_payload(answer: Answer) -> None:
    """One number, the bytes."""
    cases = [
        (50e6, 72e6, 30e12, 6e6, 0.06),
        (2e9, 1e9, 4e9, 8e6, 0.1),
        (2e9, 1e9, 4e9, 50, 0.1),  # a radio that reaches far
        (1.3e6, 72e6, 30e12, 6e6, 0.06),
    ]
    compare(answer, cases, advice="the time for sending is what the device needs longer")

"""Checks of the exercises of part 1."""

from __future__ import annotations

import numpy as np

from helpers.checks import NotYet, attempt, exercise


@exercise("11.1")
def _(tanh_slope) -> None:
    h = np.array([[0.5, -0.5, 0.0], [0.9, -0.2, 0.99]])
    result = attempt(tanh_slope, h)
    if np.shape(result) != h.shape:
        raise NotYet(f"expected the shape {h.shape}, got {np.shape(result)}")
    if np.allclose(result, 1 - h**2):
        return
    if np.allclose(result, 1 - np.tanh(h) ** 2):
        raise NotYet("h is the output already: do not take its tanh again")
    if np.allclose(result, h * (1 - h)):
        raise NotYet("that is the slope of the sigmoid, from its output")
    if np.allclose(result, 1 - np.abs(h)) or np.allclose(result, 1 - h):
        raise NotYet("the output stands squared in the slope")
    raise NotYet(f"h = 0.5 gave {float(np.ravel(result)[0]):.4f}, expected 0.75")


@exercise("11.2")
def _(smoothed_loss) -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    labels, epsilon = np.array([0, 2]), 0.1
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    right, mean, total = log_p[[0, 1], labels], log_p.mean(1), log_p.sum(1)
    expected = -((1 - epsilon) * right + epsilon * mean)
    result = attempt(smoothed_loss, logits, labels, epsilon)
    if np.ndim(result) != 0:
        raise NotYet(f"one number is asked for, the mean over the rows, not {np.shape(result)}")
    if not np.isclose(result, expected.mean()):
        others = -((1 - epsilon) * right + epsilon * (total - right) / 2)
        if np.isclose(result, -right.mean()):
            raise NotYet("that is the loss without smoothing: epsilon has no effect")
        if np.isclose(result, others.mean()):
            raise NotYet("epsilon is spread over all K classes, the right one included")
        if np.isclose(result, -((1 - epsilon) * right + epsilon * total).mean()):
            raise NotYet("each class gets epsilon / K: divide by the number of classes")
        if np.isclose(result, expected.sum()):
            raise NotYet("that is the sum over the rows: take the mean")
        raise NotYet(f"expected {expected.mean():.4f} for three classes, got {float(result):.4f}")
    with np.errstate(all="ignore"):
        large = attempt(smoothed_loss, np.array([[1000.0, 0.0]]), np.array([0]), epsilon)
    if not np.isclose(large, 50.0):
        raise NotYet(f"logits 1000 and 0 gave {large}, expected 50: subtract the largest logit")


@exercise("11.3")
def _(adamw) -> None:
    import torch

    rate, decay, start = 0.01, 0.5, np.array([1.0, -2.0, 0.5])
    theirs = torch.tensor(start, requires_grad=True)
    update = torch.optim.AdamW([theirs], lr=rate, weight_decay=decay)
    coupled = torch.tensor(start, requires_grad=True)
    l2 = torch.optim.Adam([coupled], lr=rate, weight_decay=decay)
    ours, state = start.copy(), {}
    for step in range(10):
        g = np.array([0.3, -1.0, 0.01 * (step - 4)])
        theirs.grad, coupled.grad = torch.tensor(g), torch.tensor(g)
        update.step()
        l2.step()
        given = ours.copy()
        new = attempt(adamw, ours, g, state, rate, decay)
        if not np.array_equal(ours, given):
            raise NotYet("the weight that was passed in has changed: return a new array")
        ours = np.asarray(new)
        if np.shape(ours) != (3,):
            raise NotYet(f"return the new weight, of shape (3,), not {np.shape(ours)}")
    if np.allclose(ours, theirs.detach(), atol=1e-9):
        return
    if np.allclose(ours, coupled.detach(), atol=1e-7):
        raise NotYet("that is Adam with L2: keep the decay out of the gradient")
    if not state:
        raise NotYet("state is still empty: m, s and t have to survive from step to step")
    raise NotYet(
        f"after ten steps the weights are {ours.round(4)}, torch.optim.AdamW has "
        f"{theirs.detach().numpy().round(4)}; look at the bias corrections and at rate * decay"
    )


@exercise("12.1")
def _(separable_cost) -> None:
    for c_in, c_out, k, h, w in ((16, 32, 3, 14, 14), (8, 24, 5, 10, 6)):
        result = attempt(separable_cost, c_in, c_out, k, h, w)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise NotYet(f"return two numbers, (parameters, MACs), not {result!r}")
        depthwise, mixing = c_in * k**2, c_in * c_out
        right = depthwise + mixing
        params, macs = result
        if (params, macs) == (right, right * h * w):
            continue
        if (macs, params) == (right, right * h * w):
            raise NotYet("the numbers are right and trade places: parameters first, then MACs")
        if params == right:
            raise NotYet(f"the parameters are right; each is used at {h} x {w} places")
        hints = {
            c_in * c_out * k**2: "that is the full convolution, which the block replaces",
            depthwise: "the 1x1 convolution that mixes the maps is missing",
            mixing: "the depthwise convolution is missing",
            c_in * c_in * k**2 + mixing: "depthwise: each map has one kernel, groups = c_in",
            depthwise + mixing * k**2: "the mixing convolution is 1x1, not k x k",
            c_out * k**2 + mixing: "the depthwise convolution comes first: it runs on c_in maps",
            right + c_in + c_out: "leave the biases out: bias=False",
        }
        raise NotYet(
            f"{c_in} -> {c_out} maps, {k}x{k}, {h}x{w}: "
            + hints.get(params, f"you returned {params} parameters, expected {right}")
        )


@exercise("12.2")
def _(average_kernel) -> None:
    for channels, size in ((3, 2), (5, 3)):
        result = np.asarray(attempt(average_kernel, channels, size))
        shape = (channels, 1, size, size)
        if result.shape == (channels, channels, size, size):
            raise NotYet(f"with groups={channels} each kernel reads one map: the shape is {shape}")
        if result.shape != shape:
            raise NotYet(f"the shape is {result.shape}, expected {shape}")
        if np.allclose(result, 1):
            raise NotYet("ones give the sum of the window: divide by the number of its pixels")
        if np.allclose(result, 1 / size):
            raise NotYet(f"a window of {size} x {size} has {size**2} pixels, not {size}")
        if np.allclose(result, 1 / (channels * size**2)):
            raise NotYet("the mean is over one map's window, not over the channels")
        if not np.allclose(result, 1 / size**2):
            raise NotYet(f"every pixel of the window contributes 1/{size**2} to the mean")
        if result.dtype != np.float32:
            raise NotYet(f"the values are right; the dtype is {result.dtype}, expected float32")


@exercise("12.3")
def _(fourier_correlate) -> None:
    from scipy.signal import convolve2d, correlate2d

    draw = np.random.default_rng(123)
    for size, kernel in (((8, 12), (3, 4)), ((9, 7), (2, 5))):
        x, w = draw.standard_normal(size), draw.standard_normal(kernel)
        result = np.asarray(attempt(fourier_correlate, x, w))
        expected = correlate2d(x, w, "valid")
        (height, width), around = expected.shape, np.fft.fft2(x) * np.conj(np.fft.fft2(w, size))
        if result.shape == size:
            raise NotYet(f"cut away the windows that went round the edge: keep {height} x {width}")
        if result.shape != expected.shape:
            raise NotYet(
                f"the shape is {result.shape}, expected {expected.shape}: H - kh + 1, W - kw + 1"
            )
        if np.iscomplexobj(result):
            raise NotYet("the result is complex: use rfft2 and irfft2, or take the real part")
        if np.allclose(result, expected):
            continue
        without = np.fft.ifft2(np.fft.fft2(x) * np.fft.fft2(w, size)).real[:height, :width]
        if np.allclose(result, convolve2d(x, w, "valid")) or np.allclose(result, without):
            raise NotYet("that is the convolution: conjugate the kernel's transform to undo a flip")
        if np.allclose(result, np.fft.ifft2(around).real[-height:, -width:]):
            raise NotYet("you cut at the wrong end: the complete windows come first")
        even = np.fft.irfft2(np.fft.rfft2(x) * np.conj(np.fft.rfft2(w, size)))[:height, :width]
        if even.shape == result.shape and np.allclose(result, even):
            raise NotYet(
                f"an image {size[1]} wide: tell irfft2 the shape, it assumes an even width"
            )
        raise NotYet(f"largest difference to correlate2d: {np.abs(result - expected).max():.2g}")


@exercise("13.1")
def _(forget_bias) -> None:
    for steps, kept in ((100, 0.5), (10, 0.9), (50, 0.1)):
        result = attempt(forget_bias, steps, kept)
        gate = kept ** (1 / steps)
        right = np.log(gate / (1 - gate))
        if np.ndim(result) != 0:
            raise NotYet(f"one number is asked for, not an array of shape {np.shape(result)}")
        if np.isclose(result, right, rtol=1e-3):
            continue
        if np.isclose(result, gate, rtol=1e-3):
            raise NotYet("that is the gate itself: which b has sigmoid(b) equal to it?")
        if np.isclose(result, 1 / (1 + np.exp(-gate)), rtol=1e-3):
            raise NotYet("you applied the sigmoid to the gate: it is the inverse that is asked for")
        if np.isclose(result, -right, rtol=1e-3):
            raise NotYet("the sign is wrong: log(f / (1 - f)), and an open gate has b > 0")
        if np.isclose(result, np.log(kept / (1 - kept)), rtol=1e-3, atol=1e-9):
            raise NotYet("this keeps the share in a single step: the gate acts `steps` times")
        if np.isclose(result, np.log(steps), rtol=0.02):
            raise NotYet("log(steps) is the rule of thumb: here the share `kept` matters too")
        raise NotYet(f"steps={steps}, kept={kept}: you returned {result:.4f}, expected {right:.4f}")


def _gru_reset_before(x, h, W_ih, W_hh, b, *, keep="z", order="rzn", reset="before"):
    """The GRU of exercise 13.2, and with other arguments the mistakes that its check knows."""

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    inputs = dict(zip(order, np.split(x @ W_ih.T + b, 3, axis=1), strict=True))
    matrices = dict(zip(order, np.split(W_hh, 3), strict=True))
    r, z = (sigmoid(inputs[k] + h @ matrices[k].T) for k in "rz")
    if reset == "before":
        recurrent = (r * h) @ matrices["n"].T
    else:
        recurrent = h @ matrices["n"].T * (r if reset == "after" else 1)
    n = np.tanh(inputs["n"] + recurrent)
    return z * h + (1 - z) * n if keep == "z" else (1 - z) * h + z * n


@exercise("13.2")
def _(gru_reset_before) -> None:
    draw = np.random.default_rng(3)
    shapes = ((4, 2), (4, 3), (9, 2), (9, 3), (9,))
    given = [draw.standard_normal(shape) for shape in shapes]
    result = np.asarray(attempt(gru_reset_before, *[array.copy() for array in given]))
    if result.shape != (4, 3):
        raise NotYet(f"x [4, 2] and h [4, 3] gave the shape {result.shape}: expected (4, 3)")
    right = _gru_reset_before(*given)
    if np.allclose(result, right, atol=1e-5):
        return
    mistakes = (
        (dict(reset="after"), "that is the reset after the product, as in gru_cell: reset h first"),
        (dict(reset="none"), "the reset gate is missing: the candidate sees r * h, not h"),
        (dict(keep="1-z"), "z and 1 - z are swapped: z keeps the old state here"),
        (dict(order="zrn"), "the stack begins with r, then z: Keras's order is the other one"),
    )
    for options, hint in mistakes:
        if np.allclose(result, _gru_reset_before(*given, **options), atol=1e-5):
            raise NotYet(hint)
    if np.allclose(result, _gru_reset_before(*given[:4], 0 * given[4]), atol=1e-5):
        raise NotYet("the bias is missing: it belongs to all three gates")
    raise NotYet(
        f"the first new state is {result[0].round(3).tolist()}, "
        f"expected {right[0].round(3).tolist()}"
    )


@exercise("13.3")
def _(split_people) -> None:
    subjects = np.array([12, 12, 3, 40, 3, 12, 7, 40, 40, 7, 3, 25])
    drawn = set()
    for seed in range(30):
        held = 1 + seed % 3
        result = attempt(split_people, subjects.copy(), held, np.random.default_rng(seed))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise NotYet("return two arrays: the training rows and the test rows")
        training, testing = (np.asarray(rows) for rows in result)
        if training.dtype == bool or testing.dtype == bool:
            raise NotYet("row numbers are asked for, not masks: np.flatnonzero turns one into them")
        if training.dtype.kind not in "iu" or testing.dtype.kind not in "iu":
            raise NotYet(f"row numbers are whole: these arrays hold {training.dtype}")
        rows = sorted([*training.tolist(), *testing.tolist()])
        if rows and rows[-1] >= len(subjects):
            raise NotYet(f"row {rows[-1]} does not exist: return places, not names of people")
        people = set(subjects[testing].tolist())
        if people & set(subjects[training].tolist()):
            raise NotYet("one person stands in both parts: draw people, not windows")
        if rows != list(range(len(subjects))):
            raise NotYet("every window belongs to one of the two parts, once")
        if held == 1 and len(people) == len(set(subjects.tolist())) - 1:
            raise NotYet("the two parts are swapped: training first, then the people held out")
        if len(people) != held:
            raise NotYet(f"held={held}: {len(people)} people are in the test part")
        again = attempt(split_people, subjects.copy(), held, np.random.default_rng(seed))
        if not np.array_equal(np.sort(again[1]), np.sort(testing)):
            raise NotYet("the same seed gave another split: draw from the generator")
        drawn |= people
    if drawn != set(subjects.tolist()):
        raise NotYet(f"only {sorted(drawn)} were ever held out: draw from all the people")


@exercise("14.1")
def _(balanced_accuracy) -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 3])
    answers = np.array([0, 0, 0, 1, 2, 1, 0, 3])
    result = attempt(balanced_accuracy, labels, answers)
    if np.ndim(result) != 0:
        raise NotYet(f"one number is asked for, not an array of shape {np.shape(result)}")
    recalls = [3 / 5, 1 / 2, 1]
    if np.isclose(result, np.mean(recalls)):
        return
    if np.isclose(result, 5 / 8):
        raise NotYet("that is the plain accuracy: average over the classes, not over the examples")
    if np.isclose(result, sum(recalls) / 4) or np.isnan(result):
        raise NotYet("class 2 never occurs among the labels: average the others without it")
    if np.isclose(result, [9 / 4 / 3, 9 / 4 / 4]).any():
        raise NotYet("that is the mean precision: divide by the row sums, not the column sums")
    raise NotYet(
        f"labels {labels.tolist()} and answers {answers.tolist()} gave {result:.4f}, expected 0.7"
    )


@exercise("14.2")
def _(images_needed) -> None:
    for p, h in ((0.9, 0.01), (0.5, 0.05), (0.98, 0.003)):
        result = attempt(images_needed, p, h)
        exact = 1.96**2 * p * (1 - p) / h**2
        if result == np.ceil(exact):
            continue
        if result in (np.floor(exact), round(exact)):
            raise NotYet(f"p={p}, h={h}: {result} images leave it a little too wide; round up")
        if np.isclose(result, exact):
            raise NotYet("the formula is right; images are whole, so round up")
        if np.isclose(result, p * (1 - p) / h**2, rtol=0.01, atol=1):
            raise NotYet("the factor 1.96 is missing: one standard deviation covers only 68%")
        if np.isclose(result, exact / 4, rtol=0.01, atol=1):
            raise NotYet("h is the half-width: the interval reaches from p - h to p + h")
        if np.isclose(result, np.sqrt(exact), rtol=0.01, atol=1):
            raise NotYet("n stands under a square root: square both sides when you solve for it")
        raise NotYet(f"p={p}, h={h}: you returned {result}, expected {int(np.ceil(exact))}")


@exercise("14.3")
def _(erase) -> None:
    import torch

    def draw(seed):
        return attempt(erase, x, torch.Generator().manual_seed(seed))

    x = torch.ones(64, 1, 28, 28)
    result = draw(0)
    if not torch.is_tensor(result) or result.shape != x.shape:
        raise NotYet(f"return a tensor of shape {tuple(x.shape)}, like the batch")
    if not bool((x == 1).all()):
        raise NotYet("the batch that was passed in has changed: work on a copy, x.clone()")
    if not torch.equal(result, draw(0)):
        raise NotYet("the same seed gave another result: pass generator=generator to every draw")
    erased = (result == 0)[:, 0]
    if bool(((result != 0) & (result != 1)).any()) or not bool(erased.any((1, 2)).all()):
        raise NotYet("the pixels of one square become 0, and all others stay as they are")
    boxes = set()
    for image in erased:
        rows, columns = (torch.unique(index).tolist() for index in image.nonzero(as_tuple=True))
        if len(rows) != 8 or len(columns) != 8 or int(image.sum()) != 64:
            raise NotYet(
                f"one image lost {int(image.sum())} pixels in {len(rows)} rows and {len(columns)} "
                "columns, not 8x8: the corner must lie in 0..20"
            )
        boxes.add((rows[0], columns[0]))
    if len(boxes) == 1:
        raise NotYet("every image lost the same square: draw one corner for each image")
    corners = np.array([box for seed in range(40) for box in _corners(draw(seed))])
    if corners.max(0).min() < 20 or corners.min(0).max() > 0:
        raise NotYet(
            f"the corners range over {corners.min(0)} to {corners.max(0)}, and 0..20 is possible: "
            "the upper end of torch.randint is not drawn"
        )
    if np.abs(np.corrcoef(corners.T)[0, 1]) > 0.5:
        raise NotYet("row and column are drawn together: draw two independent numbers")


def _corners(images) -> list[tuple[int, int]]:
    """The top-left corner of the zeros in each image [N, 1, H, W]."""
    return [tuple((image[0] == 0).nonzero().amin(0).tolist()) for image in images]


@exercise("15.1")
def _(battery_days) -> None:
    import math

    for wh, sleep, awake, seconds, per_hour in (
        (0.675, 1e-5, 0.044, 0.018, 60),
        (5, 1e-3, 2, 9, 90),
    ):
        result = attempt(battery_days, wh, sleep, awake, seconds, per_hour)
        share = seconds * per_hour / 3600
        days = wh / (share * awake + (1 - share) * sleep) / 24
        if np.ndim(result) == 0 and math.isclose(result, days, rel_tol=1e-6):
            continue
        if np.isclose(result, 24 * days):
            raise NotYet("those are hours: a day has 24 of them")
        if np.isclose(result, days / 3600):
            raise NotYet("a watt-hour is 3,600 joules: mind the unit of the battery")
        if np.isclose(result, wh / (share * awake + sleep) / 24, rtol=1e-6):
            raise NotYet("while it is awake it is not asleep: weigh the sleeping power, too")
        if np.isclose(result, wh / (share * awake) / 24):
            raise NotYet("it draws sleep_watts between the answers")
        raise NotYet(
            f"{wh} Wh, {sleep} W, {awake} W, {seconds} s, {per_hour} an hour gave {result}, "
            f"expected {days:.4g} days"
        )


@exercise("15.2")
def _(busy_batch) -> None:
    import math

    cases = ((784, 300, 80e9, 20e9, 4), (100, 100, 70e9, 10e9, 1), (1000, 10, 50e9, 2.5e9, 1))
    cases += ((64, 64, 80e9, 10e9, 4),)  # exactly on the edge: no batch is large enough
    for n, m, peak, bandwidth, size in cases:
        result = attempt(busy_batch, n, m, peak, bandwidth, size)
        cost = peak / bandwidth * size
        gain = n * m - cost * (n + m)
        expected = math.ceil(cost * n * m / gain) if gain > 0 else math.inf
        if result == expected:
            continue
        if gain <= 0:
            raise NotYet(
                f"{n} -> {m} at {peak / bandwidth:g} MAC per byte: no batch is large enough, since "
                "inputs and outputs grow with it; return math.inf"
            )
        if np.isclose(result, cost * n * m / gain) or result == math.floor(cost * n * m / gain):
            raise NotYet(
                "a batch is a whole number, and the next smaller one still waits: round up"
            )
        if result == math.ceil(cost):
            raise NotYet("that leaves out the inputs and outputs, which grow with the batch")
        raise NotYet(f"{n} -> {m}, {size} bytes a value: {result}, expected a batch of {expected}")


@exercise("15.3")
def _(largest_payload) -> None:
    for macs, device, server, uplink, trip in (
        (50e6, 72e6, 30e12, 6e6, 0.06),
        (2e9, 1e9, 4e9, 8e6, 0.1),
        (1.3e6, 72e6, 30e12, 6e6, 0.06),
    ):
        result = attempt(largest_payload, macs, device, server, uplink, trip)
        seconds = macs / device - macs / server - trip
        expected = max(0.0, seconds * uplink / 8)
        if np.isclose(result, expected, rtol=1e-6):
            continue
        if seconds < 0:
            raise NotYet("here the server is late even with nothing to send: return 0.0")
        if np.isclose(result, seconds * uplink):
            raise NotYet("those are bits: a byte has eight")
        if np.isclose(result, (macs / device - macs / server) * uplink / 8):
            raise NotYet("the round trip takes time, too")
        if np.isclose(result, (macs / device - trip) * uplink / 8, rtol=1e-6):
            raise NotYet("the server has to compute as well")
        raise NotYet(f"{macs:g} MACs gave {result} bytes, expected {expected:.6g}")

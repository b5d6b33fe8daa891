"""The functions that lesson 11 shows, against torch and SciPy over random shapes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import definitions
from scipy import special, stats

lesson = definitions("11_neural_network_math")
solution = definitions("solutions/11_neural_network_math")
seeds = st.integers(0, 10_000)
few = st.integers(1, 7)


def network(sizes, rng):
    """A network of the lesson's form with random biases, which step off the corners of ReLU."""
    return [(W, rng.standard_normal(len(b))) for W, b in lesson.new_network(sizes, rng, np.float64)]


def gradients(params, x, labels, *options):
    return lesson.backward(params, *lesson.forward(params, x, *options[:1]), labels, *options[1:])


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, st.tuples(few, few), elements=st.floats(-1e4, 1e4)), seeds)
def test_softmax_and_cross_entropy(logits, seed):
    labels = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    expected = special.softmax(logits, axis=1)
    np.testing.assert_allclose(lesson.softmax(logits), expected, atol=1e-12)
    theirs = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item()
    assert lesson.cross_entropy(logits, labels) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_float32_logits_stay_finite(size):
    logits = np.array([[size, -size, 0.0]], np.float32)
    assert np.isfinite(lesson.softmax(logits)).all()
    assert np.isfinite(lesson.cross_entropy(logits, [1]))


def test_softmax_leaves_the_logits_alone():
    logits = np.array([[1.0, 2.0]])
    lesson.softmax(logits), lesson.cross_entropy(logits, [0])
    np.testing.assert_array_equal(logits, [[1.0, 2.0]])


@settings(max_examples=40, deadline=None)
@given(st.lists(few, min_size=2, max_size=4), few, seeds)
def test_gradients_are_autograds(sizes, n, seed):
    rng = np.random.default_rng(seed)
    params = network(sizes, rng)
    x, labels = rng.standard_normal((n, sizes[0])), rng.integers(0, sizes[-1], n)
    tensors = [[torch.tensor(a, requires_grad=True) for a in pair] for pair in params]
    h = torch.tensor(x)
    for i, (W, b) in enumerate(tensors):
        h = h @ W.T + b
        h = h.relu() if i < len(tensors) - 1 else h
    np.testing.assert_allclose(lesson.forward(params, x)[1], h.detach(), atol=1e-12)
    torch.nn.functional.cross_entropy(h, torch.tensor(labels)).backward()
    for ours, theirs in zip(gradients(params, x, labels), tensors, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b.grad, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(few, few, few, few, seeds)
def test_two_layers_line_by_line(n, inputs, hidden, classes, seed):
    """Every value on the way, and the folded torch network that the lesson compares with."""
    rng = np.random.default_rng(seed)
    params = network((inputs, hidden, classes), rng)
    x, labels = rng.standard_normal((n, inputs)), rng.integers(0, classes, n)
    ours = lesson.two_layers(x, labels, *params[0], *params[1])
    theirs = lesson.torch_gradients(params, x, labels)
    assert set(ours) == set(theirs)
    for name, g in ours.items():
        np.testing.assert_allclose(g, theirs[name], atol=1e-12, err_msg=name)
    for name, g in lesson.by_name(gradients(params, x, labels)).items():
        np.testing.assert_allclose(g, ours[name], atol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    ("f", "slope", "library"),
    [
        (np.tanh, solution.tanh_slope, torch.tanh),
        (lesson.sigmoid, lambda h: h * (1 - h), torch.sigmoid),
    ],
)
def test_other_units(f, slope, library):
    rng = np.random.default_rng(0)
    params, x, labels = network((5, 6, 4, 3), rng), rng.standard_normal((8, 5)), np.arange(8) % 3
    tensors = [[torch.tensor(a, requires_grad=True) for a in pair] for pair in params]
    h = torch.tensor(x)
    for W, b in tensors[:-1]:
        h = library(h @ W.T + b)
    h = h @ tensors[-1][0].T + tensors[-1][1]
    torch.nn.functional.cross_entropy(h, torch.tensor(labels)).backward()
    for ours, theirs in zip(gradients(params, x, labels, f, slope), tensors, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b.grad, atol=1e-12)


def test_gradients_with_dropout():
    """Central differences, with the same units left out in each pass."""
    rng = np.random.default_rng(0)
    params = network((5, 6, 4, 3), rng)
    x, labels = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)

    def loss():
        f, _ = lesson.dropout(0.4, seed=7)
        return lesson.cross_entropy(lesson.forward(params, x, f)[1], labels)

    ours = lesson.by_name(gradients(params, x, labels, *lesson.dropout(0.4, seed=7)))
    for name, w in lesson.by_name(params).items():
        numeric = lesson.numeric_gradient(loss, w)
        np.testing.assert_allclose(ours[name], numeric, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("drop", [0.2, 0.5, 0.8])
def test_dropout_keeps_the_mean(drop):
    f, slope = lesson.dropout(drop, seed=0)
    h = f(np.ones((400, 500), np.float32))
    assert (h == 0).mean() == pytest.approx(drop, abs=0.01)
    assert h.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(slope(h), h)  # all went in as 1, so the output is the slope
    assert not f(-np.ones((3, 4))).any()


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(["sgd", "momentum", "adam"]), st.floats(1e-3, 1.0))
def test_optimizers_are_torchs(seed, name, rate):
    library = {
        "sgd": lambda p: torch.optim.SGD(p, lr=rate),
        "momentum": lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=rate),
    }
    rng = np.random.default_rng(seed)
    ours, state = rng.standard_normal(5), {}
    theirs = torch.tensor(ours, requires_grad=True)
    update = library[name]([theirs])
    for _ in range(50):
        g = rng.standard_normal(5)
        theirs.grad = torch.tensor(g)
        update.step()
        ours = getattr(lesson, name)(ours, g, state, rate)
    np.testing.assert_allclose(ours, theirs.detach(), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(a=arrays.arrays(np.float64, few, elements=st.floats(-700, 700)))
def test_sigmoid(a):
    np.testing.assert_allclose(lesson.sigmoid(a), torch.sigmoid(torch.tensor(a)), atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(z=st.floats(-30, 30))
def test_slopes_of_two_losses(z):
    tensor = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    for loss, ours in (
        ((tensor.sigmoid() - 1) ** 2, lesson.squared_slope),
        (-torch.nn.functional.logsigmoid(tensor), lesson.entropy_slope),
    ):
        assert ours(z) == pytest.approx(torch.autograd.grad(loss, tensor)[0].item(), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.floats(-5, 5), st.floats(0.01, 0.9))
def test_descent_down_the_bowl(start, rate):
    """w - 3 is multiplied by 1 - 2 rate in every step."""
    path = lesson.descend(lesson.bowl_slope, start, rate, 6)
    np.testing.assert_allclose(path - 3, (start - 3) * (1 - 2 * rate) ** np.arange(7), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_numeric_gradients_agree_off_the_corners(seed):
    rng = np.random.default_rng(seed)
    params = network((3, 4, 5), rng)
    x, labels = rng.standard_normal((6, 3)), rng.integers(0, 5, 6)
    kept = [tuple(a.copy() for a in pair) for pair in params]

    def loss():
        return lesson.cross_entropy(lesson.forward(params, x)[1], labels)

    ours = lesson.by_name(gradients(params, x, labels))
    for name, w in lesson.by_name(params).items():
        assert lesson.relative_error(ours[name], lesson.numeric_gradient(loss, w)) < 1e-7
    for pair, before in zip(params, kept, strict=True):
        for a, b in zip(pair, before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("kind", "decay"), [("l2", 0.1), ("l1", 0.05), (None, 0.0)])
def test_fit_is_torchs_momentum(kind, decay):
    """The whole loop, batches and cosine included; the penalty falls on weights only."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((23, 6)), rng.integers(0, 3, 23)
    start = lesson.new_network((6, 5, 3), rng, np.float64)
    kept = [tuple(a.copy() for a in pair) for pair in start]
    penalty = getattr(lesson, kind)(decay) if kind else None
    options = dict(epochs=3, rate=0.1, seed=4, size=7, penalty=penalty)
    after = lesson.fit(start, x, labels, **options)
    assert len(after) == 3

    tensors = [[torch.tensor(a, requires_grad=True) for a in pair] for pair in start]
    update = torch.optim.SGD([a for pair in tensors for a in pair], lr=1.0, momentum=0.9)
    order = np.random.default_rng(4)
    for epoch in range(3):
        update.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + np.cos(np.pi * epoch / 3))
        for rows in np.array_split(order.permutation(23), 3):
            (W, b), (V, c) = tensors
            z = (torch.tensor(x[rows]) @ W.T + b).relu() @ V.T + c
            loss = torch.nn.functional.cross_entropy(z, torch.tensor(labels[rows]))
            for weight in (W, V):
                cost = {"l2": (weight**2).sum() / 2, "l1": weight.abs().sum()}.get(kind, 0.0)
                loss = loss + float(np.float32(decay)) * cost
            update.zero_grad()
            loss.backward()
            update.step()
        for pair, theirs in zip(after[epoch], tensors, strict=True):
            for a, b in zip(pair, theirs, strict=True):
                np.testing.assert_allclose(a, b.detach(), atol=1e-6)
    for pair, before in zip(start, kept, strict=True):
        for a, b in zip(pair, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_fit_takes_a_step_of_the_readers():
    """Exercise 11.3: AdamW in fit, with decay for weights only, against torch.optim.AdamW."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((20, 6)), rng.integers(0, 3, 20)
    start = lesson.new_network((6, 5, 3), rng, np.float64)

    def step(w, g, state, rate):
        return solution.adamw(w, g, state, rate, 0.5 * (w.ndim == 2))

    (ours,) = lesson.fit(start, x, labels, epochs=1, rate=0.01, seed=1, size=5, step=step)
    tensors = [[torch.tensor(a, requires_grad=True) for a in pair] for pair in start]
    groups = [
        {"params": [pair[k] for pair in tensors], "weight_decay": decay}
        for k, decay in ((0, 0.5), (1, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=float(np.float32(0.01)))
    for rows in np.array_split(np.random.default_rng(1).permutation(20), 4):
        (W, b), (V, c) = tensors
        z = (torch.tensor(x[rows]) @ W.T + b).relu() @ V.T + c
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(z, torch.tensor(labels[rows])).backward()
        optimizer.step()
    for pair, theirs in zip(ours, tensors, strict=True):
        for a, b in zip(pair, theirs, strict=True):
            np.testing.assert_allclose(a, b.detach(), atol=1e-6)


def test_fit_stays_float32():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 3, 30)
    start = lesson.new_network((4, 5, 3), rng)
    options = dict(penalty=lesson.l2(0.1), unit=lesson.dropout(0.5, seed=0))
    (params,) = lesson.fit(start, x, labels, epochs=1, rate=0.1, seed=0, **options)
    assert {a.dtype for pair in params for a in pair} == {np.dtype(np.float32)}


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 20), seeds)
def test_interval_is_scipys(n, seed):
    d = np.random.default_rng(seed).standard_normal(n)
    theirs = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert lesson.interval(d) == pytest.approx((d.mean(), theirs.low, theirs.high))


@settings(max_examples=30, deadline=None)
@given(few, few, seeds)
def test_shortcut_is_autograds(n, units, seed):
    rng = np.random.default_rng(seed)
    X, dH, W, b = (rng.standard_normal(s) for s in ((n, units), (n, units), (units, units), units))
    tensors = [torch.tensor(a, requires_grad=True) for a in (W, b, X)]
    T = torch.tanh(tensors[2] @ tensors[0].T + tensors[1])
    (tensors[2] + T).backward(torch.tensor(dH))
    ours = solution.shortcut_backward(dH, X, T.detach().numpy(), W)
    for a, theirs in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(a, theirs.grad, atol=1e-12)

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
seeds = st.integers(0, 10_000)
few = st.integers(1, 7)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, st.tuples(few, few), elements=st.floats(-1e4, 1e4)), seeds)
def test_softmax_and_cross_entropy(logits, seed):
    labels = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    shares = lesson.softmax(logits)
    np.testing.assert_allclose(shares, special.softmax(logits, axis=1), atol=1e-12)
    theirs = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item()
    assert lesson.cross_entropy(logits, labels) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_float32_logits_stay_finite(size):
    logits = np.array([[size, -size, 0.0]], np.float32)
    assert np.isfinite(lesson.softmax(logits)).all()
    assert np.isfinite(lesson.cross_entropy(logits, [1]))


@settings(max_examples=40, deadline=None)
@given(st.lists(few, min_size=2, max_size=4), few, seeds)
def test_gradients_are_autograds(sizes, n, seed):
    rng = np.random.default_rng(seed)
    params = lesson.new_network(sizes, rng, np.float64)
    params = [(W, rng.standard_normal(len(b))) for W, b in params]
    x, labels = rng.standard_normal((n, sizes[0])), rng.integers(0, sizes[-1], n)
    tensors = [[torch.tensor(a, requires_grad=True) for a in pair] for pair in params]
    h = torch.tensor(x)
    for i, (W, b) in enumerate(tensors):
        h = h @ W.T + b
        h = h.relu() if i < len(tensors) - 1 else h
    np.testing.assert_allclose(lesson.forward(params, x), h.detach(), atol=1e-12)
    torch.nn.functional.cross_entropy(h, torch.tensor(labels)).backward()
    for ours, theirs in zip(lesson.backward(params, x, labels), tensors, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b.grad, atol=1e-12)


def test_gradients_with_dropout():
    rng = np.random.default_rng(0)
    params = lesson.new_network((5, 6, 4, 3), rng, np.float64)
    x, labels = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    masks = lesson.dropout_masks([(8, 6), (8, 4)], 0.4, rng)
    assert set(np.unique(masks[0]).round(6)) <= {0.0, round(1 / np.float32(0.6), 6)}
    W = params[0][0]
    kept, slopes = W[1, 2], []
    for moved in (1e-6, -1e-6):
        W[1, 2] = kept + moved
        slopes.append(lesson.cross_entropy(lesson.activations(params, x, masks)[-1], labels))
    W[1, 2] = kept
    numeric = (slopes[0] - slopes[1]) / 2e-6
    assert lesson.backward(params, x, labels, masks)[0][0][1, 2] == pytest.approx(numeric, abs=1e-8)


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


@pytest.mark.parametrize("name", ["relu", "sigmoid"])
@settings(max_examples=40, deadline=None)
@given(z=arrays.arrays(np.float64, few, elements=st.floats(-1e5, 1e5)))
def test_functions_and_their_slopes(name, z):
    tensor = torch.tensor(z, requires_grad=True)
    value = getattr(torch, name)(tensor)
    (slope,) = torch.autograd.grad(value.sum(), tensor)
    with np.errstate(over="raise"):
        np.testing.assert_allclose(getattr(lesson, name)(z), value.detach(), atol=1e-14)
        np.testing.assert_allclose(getattr(lesson, f"{name}_slope")(z), slope, atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.tuples(few, few), seeds)
def test_mean_squared_error(shape, seed):
    outputs, targets = np.random.default_rng(seed).standard_normal((2, *shape))
    tensor = torch.tensor(outputs, requires_grad=True)
    theirs = torch.nn.functional.mse_loss(tensor, torch.tensor(targets))
    theirs.backward()
    loss, slope = lesson.mse(outputs, targets)
    assert loss == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(slope, tensor.grad, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_numeric_gradients_agree_off_the_corners(seed):
    rng = np.random.default_rng(seed)
    params = [(rng.standard_normal((4, 3)), rng.standard_normal(4)), (np.eye(5, 4), np.zeros(5))]
    x, labels = rng.standard_normal((6, 3)), rng.integers(0, 5, 6)
    kept = [tuple(a.copy() for a in pair) for pair in params]
    numeric = lesson.numeric_gradients(params, x, labels)
    errors = lesson.relative_errors(lesson.backward(params, x, labels), numeric)
    assert errors.shape == (4,) and errors.max() < 1e-7
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
    ours = lesson.fit(start, x, labels, epochs=3, rate=0.1, seed=4, batch=7, penalty=penalty)

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
    for pair, theirs, before, given_ in zip(ours, tensors, kept, start, strict=True):
        for a, b, c, d in zip(pair, theirs, before, given_, strict=True):
            np.testing.assert_allclose(a, b.detach(), atol=1e-6)
            np.testing.assert_array_equal(c, d)


def test_fit_stays_float32():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 3, 30)
    start = lesson.new_network((4, 5, 3), rng)
    options = dict(penalty=lesson.l2(0.1), drop=0.5)
    params = lesson.fit(start, x, labels, epochs=2, rate=0.1, seed=0, **options)
    assert {a.dtype for pair in params for a in pair} == {np.dtype(np.float32)}


@pytest.mark.parametrize("drop", [0.2, 0.5, 0.8])
def test_dropout_keeps_the_mean(drop):
    (mask,) = lesson.dropout_masks([(400, 500)], drop, np.random.default_rng(0))
    assert (mask == 0).mean() == pytest.approx(drop, abs=0.01)
    assert mask.mean() == pytest.approx(1, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 20), seeds)
def test_paired_interval_is_scipys(n, seed):
    d = np.random.default_rng(seed).standard_normal(n)
    theirs = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert lesson.paired_interval(d) == pytest.approx((d.mean(), theirs.low, theirs.high))


BAD_LABELS = [
    (np.zeros((2, 3)), [0, 3], "0 to 2 are allowed"),
    (np.zeros((2, 3)), [-1, 0], "0 to 2 are allowed"),
    (np.zeros((2, 3)), [0.0, 1.0], "pass the classes as integers"),
    (np.zeros((2, 3)), [0], "pass"),
    (np.zeros(3), [0], "pass"),
    (np.zeros((0, 3)), np.zeros(0, int), "N >= 1"),
]


@pytest.mark.parametrize(("logits", "labels", "words"), BAD_LABELS)
def test_bad_labels(logits, labels, words):
    with pytest.raises(ValueError, match=words):
        lesson.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("x", "labels", "words"),
    [
        (np.zeros((2, 5)), [0, 1], r"\[N, 4\]"),
        (np.zeros(4), [0], r"\[N, 4\]"),
        (np.zeros((0, 4)), np.zeros(0, int), "N >= 1"),
        (np.zeros((2, 4)), [0, 3], "0 to 2 are allowed"),
        (np.zeros((2, 4)), [0], "pass"),
        (np.zeros((2, 4)), [0.0, 1.0], "as integers"),
    ],
)
def test_bad_batches(x, labels, words):
    params = lesson.new_network((4, 3), np.random.default_rng(0))
    with pytest.raises(ValueError, match=words):
        lesson.backward(params, x, labels)


@pytest.mark.parametrize("x", [np.zeros((2, 5)), np.zeros(4), np.zeros((0, 4))])
def test_forward_names_the_shape(x):
    params = lesson.new_network((4, 3), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\[N, 4\]"):
        lesson.forward(params, x)


@pytest.mark.parametrize("z", [np.float64(1), np.zeros((3, 0))])
def test_softmax_needs_logits(z):
    with pytest.raises(ValueError, match="K >= 1"):
        lesson.softmax(z)


@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((2,), (3,)), ((0,), (0,))])
def test_squared_error_does_not_broadcast(shapes):
    with pytest.raises(ValueError, match="equal shapes"):
        lesson.mse(*map(np.zeros, shapes))


@pytest.mark.parametrize("drop", [-0.1, 1, 1.5])
def test_dropout_leaves_something(drop):
    with pytest.raises(ValueError, match="0 <= drop < 1"):
        lesson.dropout_masks([(2, 3)], drop, np.random.default_rng(0))


@pytest.mark.parametrize("differences", [[], [0.1], [[0.1, 0.2]]])
def test_an_interval_needs_two_pairs(differences):
    with pytest.raises(ValueError, match="n >= 2"):
        lesson.paired_interval(differences)

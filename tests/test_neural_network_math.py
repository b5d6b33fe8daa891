"""The functions that lesson 11 shows, against torch and SciPy over random shapes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import definitions
from scipy import special

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
    masks = lesson.dropout_masks(params, 8, 0.4, rng)
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


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((2, 3)), [0, 3], "labels run from 0 to 2"),
        (np.zeros((2, 3)), [-1, 0], "labels run from 0 to 2"),
        (np.zeros((2, 3)), [0.0, 1.0], "pass the classes as integers"),
        (np.zeros((2, 3)), [0], "expected|pass"),
        (np.zeros(3), [0], "pass"),
        (np.zeros((0, 3)), np.zeros(0, int), "N >= 1"),
    ],
)
def test_bad_input(logits, labels, words):
    with pytest.raises(ValueError, match=words):
        lesson.cross_entropy(logits, labels)

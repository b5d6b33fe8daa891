"""The functions of lesson 14, as the reader sees them, against torch and central differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lesson_code import definitions
from torch import nn
from torch.nn import functional as F

LESSON = definitions("14_rnn_math")
SOLUTION = definitions("solutions/14_rnn_math")
FEW = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)
small = st.integers(1, 5)


def drawn(seed, inputs, hidden, outputs=1):
    """x [3, T, inputs] for T drawn, and weights W_xh, W_hh, b_h, W_hy, b_y."""
    rng = np.random.default_rng(seed)
    shapes = (hidden, inputs), (hidden, hidden), (hidden,), (outputs, hidden), (outputs,)
    return rng.standard_normal((3, rng.integers(1, 8), inputs)), [
        rng.normal(size=s) for s in shapes
    ]


@FEW
@given(seeds, small, small)
def test_states_equal_torchs_layer(seed, inputs, hidden):
    x, weights = drawn(seed, inputs, hidden)
    layer = nn.RNN(inputs, hidden, batch_first=True).double()
    with torch.no_grad():
        for parameter, w in zip(layer.parameters(), (*weights[:3], 0 * weights[2]), strict=True):
            parameter.copy_(torch.from_numpy(w))
    start = np.random.default_rng(seed).standard_normal((3, hidden))
    theirs = layer(torch.from_numpy(x), torch.from_numpy(start)[None])[0].detach()
    ours = LESSON.states(x, start, *weights[:3])
    assert np.array_equal(ours[:, 0], start) and np.allclose(ours[:, 1:], theirs, atol=1e-12)


@FEW
@given(seeds, small, small, small)
def test_all_gradients_equal_autograd_and_what_lies_between(seed, inputs, hidden, outputs):
    x, weights = drawn(seed, inputs, hidden, outputs)
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (3, x.shape[1], outputs)).astype(float)
    _, ours = LESSON.gradients(x, targets, weights)
    h_torch, a_torch, leaves = LESSON.autograd(x, targets, weights)
    for gradient, leaf in zip(ours, leaves, strict=True):
        assert gradient.shape == leaf.shape and np.allclose(gradient, leaf.grad, atol=1e-12)
    h = LESSON.states(x, np.zeros((3, hidden)), *weights[:3])
    logits = h[:, 1:] @ weights[3].T + weights[4]
    _, d_logits = LESSON.loss_and_gradient(logits, targets)
    dh, da = LESSON.back_through_time(d_logits @ weights[3], h, weights[1])
    for t in range(x.shape[1]):
        assert np.allclose(dh[:, t], h_torch[t].grad, atol=1e-12)
        assert np.allclose(da[:, t], a_torch[t].grad, atol=1e-12)


@FEW
@given(seeds, st.sampled_from([1.0, 30.0, 1000.0]))
def test_loss_and_gradient_equal_torch(seed, scale):
    rng = np.random.default_rng(seed)
    logits, targets = scale * rng.standard_normal((4, 3)), rng.integers(0, 2, (4, 3)).astype(float)
    leaf = torch.tensor(logits, requires_grad=True)
    library = F.binary_cross_entropy_with_logits(leaf, torch.from_numpy(targets))
    library.backward()
    loss, gradient = LESSON.loss_and_gradient(logits, targets)
    assert np.isclose(loss, library.item()) and np.allclose(gradient, leaf.grad, atol=1e-12)


@FEW
@given(hnp.arrays(np.float64, st.integers(1, 20), elements={"allow_nan": False}))
def test_sigmoid_never_overflows(v):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = LESSON.sigmoid(v)
    assert np.allclose(y, torch.from_numpy(v).sigmoid().numpy(), rtol=1e-9, atol=1e-300)


@FEW
@given(seeds)
def test_central_differences_of_a_cubic(seed):
    a = np.random.default_rng(seed).uniform(-1, 1, (2, 3))
    before = a.copy()
    gradient = LESSON.central_differences(lambda: (a**3).sum(), a)
    assert np.allclose(gradient, 3 * before**2, atol=1e-8) and np.array_equal(a, before)


bounded = {"min_value": -1e6, "max_value": 1e6}
arrays = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=4), elements=bounded)


@FEW
@given(st.lists(arrays, min_size=1, max_size=4), st.floats(1e-3, 1e3))
def test_clipping_equals_torchs(gradients, limit):
    parameters = [nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g.copy())
    norm = nn.utils.clip_grad_norm_(parameters, limit).item()
    clipped, own = LESSON.clip_by_norm(gradients, limit)
    assert own == pytest.approx(norm, rel=1e-9, abs=1e-12)
    for a, p in zip(clipped, parameters, strict=True):
        assert np.allclose(a, p.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.7])
def test_radius_and_the_gradient_without_tanh(radius):
    W = LESSON.with_radius(radius, 20, np.random.default_rng(1))
    assert np.abs(np.linalg.eigvals(W)).max() == pytest.approx(radius, rel=1e-9)
    norms = LESSON.norms_at(radius, False, seed=1, steps=120)
    assert np.log(norms[-1] / norms[-61]) / 60 == pytest.approx(np.log(radius), abs=0.02)
    assert LESSON.norms_at(radius, True, seed=1, steps=20)[-1] < norms[19]


def test_targets_are_the_parity():
    x, targets = LESSON.count_batch(5, 9, np.random.default_rng(0))
    for bits, odd in zip(x[..., 0].astype(int), targets[..., 0].astype(int), strict=True):
        assert odd.tolist() == [bits[: t + 1].sum() % 2 for t in range(9)]


@FEW
@given(seeds, small, st.integers(1, 9))
def test_solution_of_the_cut_walk_equals_autograd_with_detach(seed, hidden, block):
    x, (W_xh, W_hh, b_h, *_) = drawn(seed, 2, hidden)
    leaf, h = torch.tensor(W_hh, requires_grad=True), torch.zeros(3, hidden, dtype=torch.float64)
    d, loss = np.random.default_rng(seed).standard_normal((3, x.shape[1], hidden)), 0
    for t, x_t in enumerate(torch.from_numpy(x).unbind(1)):
        h = h.detach() if t % block == 0 else h
        h = torch.tanh(x_t @ torch.tensor(W_xh).T + h @ leaf.T + torch.tensor(b_h))
        loss = loss + (h * torch.from_numpy(d[:, t])).sum()
    loss.backward()
    ours = SOLUTION.truncated_gradient(
        d, LESSON.states(x, np.zeros((3, hidden)), W_xh, W_hh, b_h), W_hh, block
    )
    assert np.allclose(ours, leaf.grad, atol=1e-11)


@FEW
@given(seeds, st.integers(1, 9))
def test_solution_of_one_unit_equals_autograd(seed, steps):
    rng = np.random.default_rng(seed)
    x, w_xh = rng.standard_normal(steps), rng.standard_normal()
    w_hh = torch.tensor(rng.standard_normal(), dtype=torch.float64, requires_grad=True)
    h = torch.zeros((), dtype=torch.float64)
    for x_t in x:
        h = torch.tanh(w_xh * x_t + w_hh * h)
    h.backward()
    ours = SOLUTION.one_unit_gradient(x, w_xh, w_hh.item())
    assert ours == pytest.approx(w_hh.grad.item(), abs=1e-12)
